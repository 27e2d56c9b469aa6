//! The token that a server asks for, and that its clients show.

use std::env::{self, VarError};
use std::path::Path;

use tapline_client::Client;
use tapline_server::Token;

use crate::args::Remote;
use crate::failure::Failure;

/// The token itself. It is no flag's variable: what stands on a command line, everybody can see.
const VARIABLE: &str = "TAPLINE_TOKEN";

/// The token in `file`, or else the one in the environment, if there is one.
pub(crate) fn read(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    let variable = match env::var(VARIABLE) {
        Ok(token) => Some(token),
        Err(VarError::NotPresent) => None,
        // It is none, and what is wrong with it is told without showing it.
        Err(VarError::NotUnicode(_)) => Some("\u{fffd}".repeat(16)),
    };
    Ok(match (file, variable) {
        (Some(file), Some(_)) => {
            return Err(Failure::Usage(format!(
                "--token-file {}: {VARIABLE} is set, too, and there can be one token only",
                file.display()
            )));
        }
        (Some(file), None) => Some(Token::read(file)?),
        (None, Some(token)) => Some(Token::from_variable(VARIABLE, &token)?),
        (None, None) => None,
    })
}

/// A client of the server that was asked for, with the token that was given.
pub(crate) fn client(remote: &Remote) -> Result<Client, Failure> {
    let client = Client::new(&remote.url).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(match read(remote.token_file.as_deref())? {
        Some(token) => client.with_token(token.as_str())?,
        None => client,
    })
}
