//! Who may: whoever has the token, everything; whoever has a ticket, one stream.
//!
//! A request is looked at in this order: [`Origins::check`](crate::origin::Origins::check) (a browser that was
//! talked into it), then its preflight (which carries no token), then [`Auth::admit`].

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crypto::hmac;
use http::{HeaderMap, HeaderValue, header};
use tapline_events::Epoch;
use tapline_oapi::ErrorCode;

use crate::answer::Failure;
use crate::ticket::{Claims, TicketError, Tickets};

/// The secret that opens everything. Printing it for debugging shows nothing of it.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// Below it, a secret can be found by trying: 16 bytes of hexadecimal digits are 64 bits.
    const MIN_BYTES: usize = 16;
    /// Hyper takes 16 KiB of headers and more; a secret that long is a wrong file.
    const MAX_BYTES: usize = 4096;

    /// From a file that holds it and nothing else; one line break at the end does not count.
    ///
    /// # Errors
    ///
    /// [`TokenError`] where the file cannot be read, or what it holds is empty, shorter than 16
    /// bytes, longer than 4 KiB, or not visible ASCII.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let cannot_read = |source| TokenError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(cannot_read)?;
        warn_if_others_can_read(path, &file);
        let mut bytes = Vec::new();
        // A byte more than may be, line break included, so that what is too long is noticed.
        file.take(Self::MAX_BYTES as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(cannot_read)?;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Self::new(bytes, || format!("token file {}", path.display()))
    }

    /// From the value of an environment variable, taken as it is.
    ///
    /// # Errors
    ///
    /// [`TokenError`] where it is empty, shorter than 16 bytes, longer than 4 KiB, or not visible
    /// ASCII.
    pub fn from_variable(name: &str, value: &str) -> Result<Self, TokenError> {
        Self::new(value.as_bytes(), || format!("variable {name}"))
    }

    fn new(bytes: &[u8], place: impl FnOnce() -> String) -> Result<Self, TokenError> {
        let text = str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let fault = match (bytes.len(), text) {
            (0, _) => "is empty",
            (..Self::MIN_BYTES, _) => "holds fewer than 16 bytes, which can be guessed",
            (Self::MIN_BYTES..=Self::MAX_BYTES, Some(text)) => return Ok(Self(text.into())),
            (Self::MIN_BYTES..=Self::MAX_BYTES, None) => {
                "holds a space, a line break or another byte that is not visible ASCII"
            }
            _ => "holds more than 4096 bytes",
        };
        Err(TokenError::Unfit {
            place: place(),
            fault,
        })
    }

    /// The secret itself, for who has to show it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token. Says nothing of what was found in its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there cannot be a token.
    #[error(
        "{place} {fault}: a token is 16 to 4096 visible ASCII characters, such as `openssl rand -hex 32` prints"
    )]
    Unfit {
        /// The file or the variable.
        place: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// A secret that everybody on the machine can read is none. It may be meant so (a container has one
/// user), hence a warning and no error.
#[cfg(unix)]
pub(crate) fn warn_if_others_can_read(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    const READ_BY_OTHERS: u32 = 0o004;
    let readable = file.metadata().is_ok_and(|metadata| {
        metadata.is_file() && metadata.permissions().mode() & READ_BY_OTHERS != 0
    });
    if readable {
        let path = path.display();
        tracing::warn!("{path} can be read by every user of this machine: `chmod 600 {path}`");
    }
}

#[cfg(not(unix))]
pub(crate) fn warn_if_others_can_read(_: &Path, _: &File) {}

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nothing: `/healthz` and `/readyz`, since a probe has no secret; `/` and `/openapi.json`,
    /// since nothing in them is one; and what is not there.
    Open,
    /// The token: everything else, `/metrics` included, which tells how busy somebody is.
    Guarded,
    /// The token or a ticket: `GET /telemetry/stream`.
    Stream,
}

/// What somebody may who was let in.
#[derive(Debug)]
pub(crate) enum Pass {
    /// Everything.
    Full,
    /// This one stream, within the ticket's bounds: [`Claims::narrow`].
    Ticket(Claims),
}

/// Decides who may do what. Made once for a server.
pub(crate) struct Auth {
    /// `None` lets everybody pass.
    token: Option<Seal>,
    tickets: Tickets,
}

impl Auth {
    /// Lets in whoever has `token`; everybody where there is none. Tickets are for the stream of
    /// this `epoch`.
    pub(crate) fn new(token: Option<&Token>, epoch: Epoch) -> Self {
        Self {
            token: token.map(Seal::of),
            tickets: Tickets::new(token, epoch),
        }
    }

    /// Issues tickets.
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Whether the request may pass, and how far. `query` is its query, decoded.
    ///
    /// What was sent has to be right even where less would do: a wrong token beside a good ticket
    /// is refused, and a ticket binds also whoever has the token, or needs none. Without a token
    /// set, an `Authorization` header means nothing.
    pub(crate) fn admit<'a>(
        &self,
        headers: &HeaderMap,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
        route: Route,
    ) -> Result<Pass, Refused> {
        if route == Route::Open {
            return Ok(Pass::Full);
        }
        let mut tickets = query.into_iter().filter(|(name, _)| is_ticket(name));
        let ticket = tickets.next().map(|(_, ticket)| ticket);

        if let Some(token) = &self.token {
            match bearer(headers)? {
                Some(sent) if token.fits(sent) => {}
                Some(_) => return Err(Refused::WrongToken),
                None if ticket.is_none() => return Err(Refused::NoToken(route)),
                None if route != Route::Stream => return Err(Refused::TicketElsewhere),
                None => {}
            }
        }
        match ticket {
            // Elsewhere a ticket is a parameter like any other, and not known.
            Some(ticket) if route == Route::Stream => {
                if tickets.next().is_some() {
                    return Err(Refused::SeveralTickets);
                }
                Ok(Pass::Ticket(self.tickets.verify(ticket)?))
            }
            _ => Ok(Pass::Full),
        }
    }
}

/// Whether a query parameter of this name is a ticket, and so none of what the stream itself is
/// asked.
pub(crate) fn is_ticket(name: &str) -> bool {
    matches!(name, "ticket" | "jwt")
}

/// What follows `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Result<Option<&[u8]>, Refused> {
    const SCHEME: &[u8] = b"bearer ";
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.as_bytes().split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) && values.next().is_none() => {
            Ok(Some(token.trim_ascii()))
        }
        _ => Err(Refused::NotBearer),
    }
}

/// The token under a key of this process alone.
///
/// What was sent is put under the same key before the two are compared, so that what is compared
/// has one length and tells nothing of the token, neither of its bytes nor of their number; and the
/// comparison itself takes the same time wherever they differ.
struct Seal {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Seal {
    fn of(token: &Token) -> Self {
        let key = random_key();
        let tag = hmac::sign(&key, token.as_bytes());
        Self { key, tag }
    }

    fn fits(&self, sent: &[u8]) -> bool {
        hmac::verify(&self.key, sent, self.tag.as_ref()).is_ok()
    }
}

/// A key that nobody has but this process.
pub(crate) fn random_key() -> hmac::Key {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("the system's source of randomness answers");
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

/// Why somebody was not let in. Says nothing of what they sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{}", match .0 {
        Route::Stream => "this needs the token, in the header `authorization: Bearer …`, or a ticket, in the query parameter `ticket`",
        _ => "this needs the token, in the header `authorization: Bearer …`",
    })]
    NoToken(Route),
    #[error("header `authorization`: expected once, and `Bearer` followed by the token")]
    NotBearer,
    #[error("header `authorization`: this is not the token")]
    WrongToken,
    #[error("a ticket is good for `GET /telemetry/stream` alone; this needs the token")]
    TicketElsewhere,
    #[error("query parameter `ticket`: more than one ticket was given")]
    SeveralTickets,
    #[error("query parameter `ticket`: {0}")]
    Ticket(#[from] TicketError),
}

impl Refused {
    /// What goes into the answer's `www-authenticate`.
    pub(crate) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::NoToken(_) => "Bearer",
            _ => r#"Bearer error="invalid_token""#,
        })
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::new(ErrorCode::Unauthorized, refused.to_string())
            .with(header::WWW_AUTHENTICATE, refused.challenge())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tapline_oapi::TicketRequest;

    const SECRET: &str = "correct-horse-battery-staple";

    fn epoch() -> Epoch {
        "00000000c0ffee00".parse().unwrap()
    }

    fn token() -> Token {
        Token::from_variable("TAPLINE_TOKEN", SECRET).unwrap()
    }

    fn guarded() -> Auth {
        Auth::new(Some(&token()), epoch())
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// A file of its own for each test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn holding(name: &str, bytes: &[u8]) -> Self {
            let name = format!("tapline-auth-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, bytes).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }

    #[test]
    fn a_file_holds_the_token_and_at_most_a_line_break() {
        for (name, ending) in [("bare", ""), ("unix", "\n"), ("dos", "\r\n")] {
            let file = Scratch::holding(name, format!("{SECRET}{ending}").as_bytes());
            assert_eq!(Token::read(&file.0).unwrap().as_bytes(), SECRET.as_bytes());
        }
        let longest = Scratch::holding("longest", &[b"x".repeat(4096), b"\r\n".to_vec()].concat());
        assert_eq!(Token::read(&longest.0).unwrap().as_bytes().len(), 4096);
    }

    #[test]
    fn what_is_no_token_is_told_with_its_file_and_the_fix_and_not_shown() {
        for (name, bytes, fault) in [
            ("empty", b"".to_vec(), "is empty"),
            ("break", b"\n".to_vec(), "is empty"),
            ("short", b"fifteen-bytes-x\n".to_vec(), "fewer than 16"),
            ("long", b"x".repeat(4097), "more than 4096"),
            ("huge", b"x".repeat(1 << 20), "more than 4096"),
            ("two-lines", b"fifteen-bytes-x\n\n".to_vec(), "a line break"),
            ("space", b"sixteen bytes and more".to_vec(), "a space"),
            ("binary", vec![0xff; 20], "not visible ASCII"),
        ] {
            let file = Scratch::holding(name, &bytes);
            let error = Token::read(&file.0).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
            assert!(error.contains(file.0.to_str().unwrap()), "{error}");
            assert!(error.contains("openssl rand -hex 32"), "{error}");
            assert!(!error.contains("fifteen"), "{error}");
        }
        let error = Token::read(Path::new("/nowhere/token")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the token file /nowhere/token"
        );
        let error = Token::from_variable("TAPLINE_TOKEN", "short").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("variable TAPLINE_TOKEN holds fewer")
        );
    }

    #[test]
    fn debugging_shows_no_secret() {
        assert_eq!(format!("{:?}", token()), "Token(…)");
        let error = Token::from_variable("V", "my-secret").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("my-secret"));
    }

    #[test]
    fn without_a_token_everybody_passes_whatever_they_send() {
        let auth = Auth::new(None, epoch());
        for sent in [&[][..], &["Bearer anything"], &["Basic eDp5"]] {
            for route in [Route::Open, Route::Guarded, Route::Stream] {
                let pass = auth.admit(&headers(sent), [], route);
                assert!(matches!(pass, Ok(Pass::Full)), "{sent:?} {route:?}");
            }
        }
    }

    #[test]
    fn the_token_opens_everything_and_nothing_else_does() {
        let auth = guarded();
        let right = format!("Bearer {SECRET}");
        for sent in [right.clone(), right.replacen("Bearer ", "bEARER   ", 1)] {
            for route in [Route::Guarded, Route::Stream] {
                let pass = auth.admit(&headers(&[&sent]), [], route);
                assert!(matches!(pass, Ok(Pass::Full)), "{sent} {route:?}");
            }
        }
        for (sent, expected) in [
            (&[][..], Refused::NoToken(Route::Guarded)),
            (&["Bearer "], Refused::WrongToken),
            (&["Bearer x"], Refused::WrongToken),
            (&[&right[..right.len() - 1]], Refused::WrongToken),
            (&[&format!("{right}x")], Refused::WrongToken),
            (&[&right.to_uppercase()], Refused::WrongToken),
            (&["Bearer"], Refused::NotBearer),
            (&[""], Refused::NotBearer),
            (&[SECRET], Refused::NotBearer),
            (&[&format!("Basic {SECRET}")], Refused::NotBearer),
            (&[&right, &right], Refused::NotBearer),
        ] {
            let refused = auth
                .admit(&headers(sent), [], Route::Guarded)
                .map(drop)
                .unwrap_err();
            assert_eq!(refused, expected, "{sent:?}");
            assert!(!format!("{refused:?} {refused}").contains(SECRET));
        }
    }

    #[test]
    fn what_is_open_asks_for_nothing_not_even_for_what_is_right() {
        let pass = guarded().admit(&headers(&["Bearer wrong"]), [], Route::Open);
        assert!(matches!(pass, Ok(Pass::Full)));
    }

    #[test]
    fn a_refusal_says_how_to_come_in() {
        let auth = guarded();
        let refused = |sent: &[&str], route| {
            let refused = auth.admit(&headers(sent), [], route).map(drop).unwrap_err();
            (refused.challenge(), Failure::from(refused).body)
        };
        let (challenge, body) = refused(&[], Route::Guarded);
        assert_eq!(challenge, "Bearer");
        assert_eq!(body.code, ErrorCode::Unauthorized);
        assert_eq!(
            body.message,
            "this needs the token, in the header `authorization: Bearer …`"
        );
        let (_, body) = refused(&[], Route::Stream);
        assert!(body.message.contains("query parameter `ticket`"));
        let (challenge, _) = refused(&["Bearer wrong"], Route::Guarded);
        assert_eq!(challenge, r#"Bearer error="invalid_token""#);
    }

    #[test]
    fn a_ticket_is_good_for_the_stream_alone() {
        let auth = guarded();
        let ticket = auth
            .tickets()
            .issue(&TicketRequest::default())
            .unwrap()
            .ticket;
        let admit = |sent: &[&str], query: &[(&str, &str)], route| {
            auth.admit(&headers(sent), query.iter().copied(), route)
        };
        for name in ["ticket", "jwt"] {
            let query = [("notices", "true"), (name, &*ticket)];
            let pass = admit(&[], &query, Route::Stream);
            assert!(matches!(pass, Ok(Pass::Ticket(_))), "{pass:?}");
            let refused = admit(&[], &query, Route::Guarded).map(drop).unwrap_err();
            assert_eq!(refused, Refused::TicketElsewhere);
        }
        let query = [("ticket", &*ticket)];
        let right = format!("Bearer {SECRET}");
        let pass = admit(&[&right], &query, Route::Stream);
        assert!(matches!(pass, Ok(Pass::Ticket(_))), "{pass:?}");
        let refused = admit(&["Bearer wrong"], &query, Route::Stream);
        assert_eq!(refused.map(drop).unwrap_err(), Refused::WrongToken);
        let twice = [("ticket", &*ticket), ("jwt", &*ticket)];
        let refused = admit(&[], &twice, Route::Stream).map(drop).unwrap_err();
        assert_eq!(refused, Refused::SeveralTickets);
        let refused = admit(&[], &[("ticket", "")], Route::Stream)
            .map(drop)
            .unwrap_err();
        assert_eq!(refused, Refused::Ticket(TicketError::Malformed));
    }

    #[test]
    fn a_ticket_binds_also_where_no_token_is_set() {
        let auth = Auth::new(None, epoch());
        let ticket = auth
            .tickets()
            .issue(&TicketRequest::default())
            .unwrap()
            .ticket;
        let pass = auth.admit(&HeaderMap::new(), [("jwt", &*ticket)], Route::Stream);
        assert!(matches!(pass, Ok(Pass::Ticket(_))), "{pass:?}");
        let refused = auth.admit(&HeaderMap::new(), [("jwt", "x.y.AAAA")], Route::Stream);
        assert_eq!(
            refused.map(drop).unwrap_err(),
            Refused::Ticket(TicketError::Signature)
        );
    }
}
