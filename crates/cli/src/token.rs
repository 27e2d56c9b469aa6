//! The token that a server requires, and that its clients send.

use std::env::{self, VarError};
use std::path::Path;

use tapline_access::{Token, TokenSource};
use tapline_client::{Client, Error as ClientError};

use crate::args::Remote;
use crate::failure::Failure;

/// The variable that holds the token itself. It has no flag: other processes can see command lines.
const VARIABLE: &str = "TAPLINE_TOKEN";

/// Where the token comes from: `file`, or else the environment; `None` where neither is given.
pub(crate) fn source(file: Option<&Path>) -> Result<Option<TokenSource>, Failure> {
    let variable = match env::var(VARIABLE) {
        Ok(token) => Some(token),
        Err(VarError::NotPresent) => None,
        // An invalid token, so that the error describes the problem without printing the value.
        Err(VarError::NotUnicode(_)) => Some("\u{fffd}".repeat(16)),
    };
    Ok(match (file, variable) {
        (Some(file), Some(_)) => {
            return Err(Failure::Usage(format!(
                "--token-file {}: {VARIABLE} is set, too, and there can be one token only",
                file.display()
            )));
        }
        (Some(file), None) => Some(TokenSource::File(file.to_owned())),
        (None, Some(token)) => Some(TokenSource::Fixed(Token::from_variable(VARIABLE, &token)?)),
        (None, None) => None,
    })
}

/// The token itself, read now.
pub(crate) fn read(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    Ok(match source(file)? {
        Some(TokenSource::File(file)) => Some(Token::read(&file)?),
        Some(TokenSource::Fixed(token)) => Some(token),
        None => None,
    })
}

/// A client of the server that was asked for, with the token that was given.
pub(crate) fn client(remote: &Remote) -> Result<Client, Failure> {
    let client = match &remote.ca_file {
        Some(file) => Client::with_ca_file(&remote.url(), file),
        None => Client::new(&remote.url()),
    };
    let client = client.map_err(|error| match error {
        ClientError::InvalidUrl { .. } => Failure::Usage(error.to_string()),
        error => error.into(),
    })?;
    Ok(match read(remote.token_file.as_deref())? {
        Some(token) => client.with_token(token.as_str())?,
        None => client,
    })
}
