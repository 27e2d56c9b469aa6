//! Decides on each request, from values that can be replaced at run time.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderMap, HeaderValue};
use tapline_oapi::{Ticket, TicketRequest};
use tokio_rustls::TlsAcceptor;

use crate::config::{AccessConfig, LoadError, Stamp, TokenSource};
use crate::instance_tokens::{InstanceNames, InstanceTokens};
use crate::origin::{Forbidden, Origins};
use crate::ticket::{Claims, IssueError, TicketError, Tickets};
use crate::tls::Tls;
use crate::token::{self, NotBearer, SealedToken, Token};

/// The rules of who may call.
///
/// A request is checked in this order: [`check`](Self::check) (may a page have caused it?), then its
/// preflight, which carries no token, then [`admit`](Self::admit).
///
/// # Reloading
///
/// [`reload`](Self::reload) reads the files again. Each value is replaced as a whole, on its own: a
/// request sees the old value or the new one, and reading takes no lock. Where a new file cannot be used,
/// the old value stays. What was permitted before stays so: open streams and connections continue.
pub struct Access {
    config: AccessConfig,
    secrets: ArcSwap<Secrets>,
    /// `None` if there are none.
    instance_tokens: ArcSwapOption<InstanceTokens>,
    origins: ArcSwap<Origins>,
    /// `None` without TLS, which cannot be switched on or off at run time.
    tls: ArcSwapOption<Tls>,
    /// The files as of the last time that they were read. The lock also makes one reload of many at once.
    stamps: Mutex<Vec<Option<Stamp>>>,
}

/// All that depends on the token. Replaced together, so that a request sees one token.
struct Secrets {
    /// `None` lets every caller pass.
    token: Option<SealedToken>,
    tickets: Tickets,
}

impl Secrets {
    fn new(token: Option<&Token>) -> Self {
        Self {
            token: token.map(SealedToken::new),
            tickets: Tickets::new(token),
        }
    }
}

/// What a route requires of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Open,
    /// The token, where one is set.
    Token,
    /// The token or a ticket, where a token is set.
    TokenOrTicket,
}

/// What an admitted caller may do.
///
/// The caller of [`Access::admit`] applies it: access does not know which instance is asked for, or what is in a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The only instances of a fleet that the token opens. `None` is for all of them, and for a server that is none.
    pub instances: Option<InstanceNames>,
    /// What the ticket permits, where one was sent. `None` permits everything that the route offers.
    pub ticket: Option<Claims>,
}

impl Grant {
    /// Everything that the route offers, at every instance.
    pub fn everything() -> Self {
        Self {
            instances: None,
            ticket: None,
        }
    }
}

impl AccessConfig {
    /// Reads all values.
    ///
    /// # Errors
    ///
    /// [`LoadError`] of the first value that cannot be used.
    pub fn load(self) -> Result<Access, LoadError> {
        Access::new(self)
    }
}

impl Access {
    fn new(config: AccessConfig) -> Result<Self, LoadError> {
        // Before the files are read: a change in between is found later.
        let stamps = config.stamps();
        Ok(Self {
            secrets: ArcSwap::from_pointee(Secrets::new(config.read_token()?.as_ref())),
            instance_tokens: ArcSwapOption::from_pointee(config.read_instance_tokens()?),
            origins: ArcSwap::from_pointee(config.read_origins()?),
            tls: ArcSwapOption::from_pointee(config.read_tls()?),
            stamps: Mutex::new(stamps),
            config,
        })
    }

    /// Whether a token is required. This does not change at run time.
    pub fn has_token(&self) -> bool {
        self.config.token.is_some()
    }

    /// Whether TLS is offered. This does not change at run time.
    pub fn has_tls(&self) -> bool {
        self.config.tls.is_some()
    }

    /// Whether the request may be carried out, as far as a page that a browser shows may have caused it.
    /// Precedes everything else.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] names the header that was the reason.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Forbidden> {
        self.origins.load().check(headers)
    }

    /// The value of `access-control-allow-origin` for pages of the origin; `None` where they may not read
    /// answers.
    pub fn allowed_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        self.origins.load().allowed(origin)
    }

    /// Whether answers differ by origin: then they need `vary: origin`, with and without an origin.
    pub fn varies_by_origin(&self) -> bool {
        self.origins.load().vary()
    }

    /// Admits a caller, or refuses it. `query` is the request's query, decoded.
    ///
    /// A credential that was sent must be right even where less would do: a wrong token beside a valid
    /// ticket is refused, and a ticket restricts also a caller that has the token or needs none. Without a
    /// token set, the `authorization` header is ignored.
    ///
    /// # Errors
    ///
    /// [`AccessError`], whose text contains nothing of what was sent.
    pub fn admit<'a>(
        &self,
        headers: &HeaderMap,
        query: impl IntoIterator<Item = (&'a str, &'a str)>,
        requirement: Requirement,
    ) -> Result<Grant, AccessError> {
        let mut grant = Grant::everything();
        if requirement == Requirement::Open {
            return Ok(grant);
        }
        let secrets = self.secrets.load();
        let mut tickets = query.into_iter().filter(|(name, _)| is_ticket(name));
        let ticket = tickets.next().map(|(_, ticket)| ticket);

        if let Some(token) = &secrets.token {
            match token::bearer(headers)? {
                Some(sent) if token.matches(sent) => {}
                Some(sent) => {
                    let tokens = self.instance_tokens.load();
                    let names = tokens.as_ref().and_then(|tokens| tokens.find(sent));
                    grant.instances = Some(names.ok_or(AccessError::WrongToken)?);
                }
                None if ticket.is_none() => return Err(AccessError::NoToken(requirement)),
                None if requirement != Requirement::TokenOrTicket => {
                    return Err(AccessError::TicketElsewhere);
                }
                None => {}
            }
        }
        match ticket {
            // On other routes a ticket is an unknown parameter like any other.
            Some(ticket) if requirement == Requirement::TokenOrTicket => {
                if tickets.next().is_some() {
                    return Err(AccessError::SeveralTickets);
                }
                grant.ticket = Some(secrets.tickets.verify(ticket)?);
                Ok(grant)
            }
            _ => Ok(grant),
        }
    }

    /// Issues a ticket that is valid from now on. `epoch` is the stream's; a ticket with a range of seqs
    /// is of that epoch. `instance` has the only instances of a fleet that it is for: names, joined by commas, in which `*`
    /// stands for any characters; `None` at a server that is none.
    ///
    /// # Errors
    ///
    /// [`IssueError`] names the field of the request.
    pub fn issue(
        &self,
        request: &TicketRequest,
        epoch: &str,
        instance: Option<&str>,
    ) -> Result<Ticket, IssueError> {
        self.secrets.load().tickets.issue(request, epoch, instance)
    }

    /// What a new connection's TLS handshake is made with; `None` without TLS. A connection keeps the
    /// certificate that it began with.
    pub fn tls_acceptor(&self) -> Option<TlsAcceptor> {
        let tls = self.tls.load();
        tls.as_ref().map(|tls| tls.config.clone().into())
    }

    /// Reads every file again, and replaces what has changed. Blocks on the file system: for a signal
    /// handler's task or a thread of its own, not for a request.
    ///
    /// A new token applies to requests from now on: tickets that were signed with the old one open no
    /// further streams.
    pub fn reload(&self) -> Vec<Reload> {
        let mut stamps = self.lock_stamps();
        *stamps = self.config.stamps();
        self.reload_all()
    }

    /// As [`reload`](Self::reload), where a file has changed since it was last read; otherwise does
    /// nothing and returns nothing. Costs a `stat` for each file: call it every second or so.
    ///
    /// A file that cannot be used is reported once, and again after its next change.
    pub fn reload_if_changed(&self) -> Vec<Reload> {
        let mut stamps = self.lock_stamps();
        let now = self.config.stamps();
        if *stamps == now {
            return Vec::new();
        }
        *stamps = now;
        self.reload_all()
    }

    fn lock_stamps(&self) -> MutexGuard<'_, Vec<Option<Stamp>>> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_all(&self) -> Vec<Reload> {
        let mut reloads = Vec::new();
        if let Some(TokenSource::File(_)) = self.config.token {
            let result = self.reload_token();
            reloads.push(Reload::new(Reloadable::Token, result));
        }
        if self.config.instance_tokens.is_some() {
            let result = self.reload_instance_tokens();
            reloads.push(Reload::new(Reloadable::InstanceTokens, result));
        }
        if self.config.allow_file.is_some() {
            let result = self.reload_origins();
            reloads.push(Reload::new(Reloadable::AllowList, result));
        }
        if self.config.tls.is_some() {
            let result = self.reload_tls();
            reloads.push(Reload::new(Reloadable::Certificate, result));
        }
        reloads
    }

    fn reload_token(&self) -> Result<Reloaded, LoadError> {
        let token = self.config.read_token()?;
        let old = self.secrets.load();
        let same = match (&old.token, &token) {
            (Some(old), Some(new)) => old.matches(new.as_bytes()),
            (old, new) => old.is_none() && new.is_none(),
        };
        Ok(Reloaded::of(same, || {
            self.secrets.store(Secrets::new(token.as_ref()).into());
        }))
    }

    fn reload_instance_tokens(&self) -> Result<Reloaded, LoadError> {
        let (Some(path), Some(old)) = (&self.config.instance_tokens, &*self.instance_tokens.load())
        else {
            return Ok(Reloaded::Unchanged);
        };
        let tokens = old.read_again(path)?;
        Ok(Reloaded::of(old.is_same(&tokens), || {
            self.instance_tokens.store(Some(tokens.into()));
        }))
    }

    fn reload_origins(&self) -> Result<Reloaded, LoadError> {
        let origins = self.config.read_origins()?;
        let same = **self.origins.load() == origins;
        Ok(Reloaded::of(same, || self.origins.store(origins.into())))
    }

    fn reload_tls(&self) -> Result<Reloaded, LoadError> {
        let tls = self.config.read_tls()?;
        let old = self.tls.load();
        let chain = |tls: &Tls| tls.chain.clone();
        let same = old.as_deref().map(chain) == tls.as_ref().map(chain);
        Ok(Reloaded::of(same, || self.tls.store(tls.map(Into::into))))
    }
}

/// As for [`AccessConfig`]: for loopback, without a token and without TLS.
impl Default for Access {
    fn default() -> Self {
        let config = AccessConfig::default();
        Self::new(config).expect("without flags and files nothing can be wrong")
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.config).finish()
    }
}

/// Whether a query parameter of this name is a ticket, and so not a parameter of the route.
pub fn is_ticket(name: &str) -> bool {
    matches!(name, "ticket" | "jwt")
}

/// What became of one value in [`Access::reload`].
#[derive(Debug)]
pub struct Reload {
    /// Which value.
    pub value: Reloadable,
    /// Whether it has changed; where it cannot be used, why, and the old value stays.
    pub result: Result<Reloaded, LoadError>,
}

impl Reload {
    fn new(value: Reloadable, result: Result<Reloaded, LoadError>) -> Self {
        Self { value, result }
    }

    /// Writes one line to the log: what was reloaded, or why the old value stays.
    pub fn log(&self) {
        let value = self.value;
        match &self.result {
            Ok(Reloaded::Changed) => tracing::info!("reloaded the {value}: it has changed"),
            Ok(Reloaded::Unchanged) => tracing::info!("reloaded the {value}: it is the same"),
            Err(error) => {
                let error: &dyn std::error::Error = error;
                tracing::error!(error, "cannot reload the {value}: the old one stays in use");
            }
        }
    }
}

/// A value that can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloadable {
    /// The token, from a file.
    Token,
    /// The tokens that open some instances.
    InstanceTokens,
    /// The allowed origins and hosts, from a file.
    AllowList,
    /// The TLS certificate and its key.
    Certificate,
}

impl fmt::Display for Reloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::InstanceTokens => "file of instance tokens",
            Self::AllowList => "allow-list",
            Self::Certificate => "TLS certificate",
        })
    }
}

/// A value was read again, and can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The new value is in use.
    Changed,
    /// It is the value that was in use before.
    Unchanged,
}

impl Reloaded {
    fn of(same: bool, replace: impl FnOnce()) -> Self {
        if same {
            return Self::Unchanged;
        }
        replace();
        Self::Changed
    }
}

/// Why a caller was not admitted. The text contains nothing of what the caller sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No credential was sent.
    #[error("{}", match .0 {
        Requirement::TokenOrTicket => "this needs the token, in the header `authorization: Bearer …`, or a ticket, in the query parameter `ticket`",
        _ => "this needs the token, in the header `authorization: Bearer …`",
    })]
    NoToken(Requirement),
    /// The `authorization` header has another form, or was sent twice.
    #[error("header `authorization`: expected once, as `Bearer` followed by the token")]
    NotBearer,
    /// The token is not the one that is set.
    #[error("header `authorization`: wrong token")]
    WrongToken,
    /// The token opens other instances of the fleet. Status 403.
    #[error("the token is for other instances")]
    OtherInstance,
    /// A ticket was sent to a route that accepts none.
    #[error("a ticket opens streams only; this needs the token")]
    TicketElsewhere,
    /// Two tickets were sent.
    #[error("query parameter `ticket`: sent more than once")]
    SeveralTickets,
    /// The ticket is not valid.
    #[error("query parameter `ticket`: {0}")]
    Ticket(TicketError),
}

impl AccessError {
    /// The value of `www-authenticate` in the answer, which has status 401 if nothing else is said.
    pub fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::NoToken(_) => "Bearer",
            Self::OtherInstance => r#"Bearer error="insufficient_scope""#,
            _ => r#"Bearer error="invalid_token""#,
        })
    }
}

impl From<NotBearer> for AccessError {
    fn from(_: NotBearer) -> Self {
        Self::NotBearer
    }
}

/// Not as a source: the text is a part of the answer, so `Display` contains it.
impl From<TicketError> for AccessError {
    fn from(error: TicketError) -> Self {
        Self::Ticket(error)
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::scratch::Scratch;

    const SECRET: &str = "correct-horse-battery-staple";
    const EPOCH: &str = "00000000c0ffee00";

    fn guarded() -> Access {
        let token = Token::from_variable("TAPLINE_TOKEN", SECRET).unwrap();
        let config = AccessConfig {
            token: Some(TokenSource::Fixed(token)),
            ..AccessConfig::default()
        };
        config.load().unwrap()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn without_a_token_every_request_is_admitted() {
        let access = Access::default();
        for sent in [&[][..], &["Bearer anything"], &["Basic eDp5"]] {
            for requirement in [
                Requirement::Open,
                Requirement::Token,
                Requirement::TokenOrTicket,
            ] {
                let pass = access.admit(&headers(sent), [], requirement);
                assert_eq!(pass, Ok(Grant::everything()), "{sent:?} {requirement:?}");
            }
        }
    }

    #[test]
    fn only_the_token_is_admitted_where_one_is_set() {
        let access = guarded();
        let right = format!("Bearer {SECRET}");
        for sent in [right.clone(), right.replacen("Bearer ", "bEARER   ", 1)] {
            for requirement in [Requirement::Token, Requirement::TokenOrTicket] {
                let pass = access.admit(&headers(&[&sent]), [], requirement);
                assert_eq!(pass, Ok(Grant::everything()), "{sent} {requirement:?}");
            }
        }
        for (sent, expected) in [
            (&[][..], AccessError::NoToken(Requirement::Token)),
            (&["Bearer "], AccessError::WrongToken),
            (&["Bearer x"], AccessError::WrongToken),
            (&[&right[..right.len() - 1]], AccessError::WrongToken),
            (&[&format!("{right}x")], AccessError::WrongToken),
            (&[&right.to_uppercase()], AccessError::WrongToken),
            (&["Bearer"], AccessError::NotBearer),
            (&[""], AccessError::NotBearer),
            (&[SECRET], AccessError::NotBearer),
            (&[&format!("Basic {SECRET}")], AccessError::NotBearer),
            (&[&right, &right], AccessError::NotBearer),
        ] {
            let refused = access
                .admit(&headers(sent), [], Requirement::Token)
                .map(drop)
                .unwrap_err();
            assert_eq!(refused, expected, "{sent:?}");
            assert!(!format!("{refused:?} {refused}").contains(SECRET));
        }
    }

    #[test]
    fn an_open_route_ignores_credentials() {
        let pass = guarded().admit(&headers(&["Bearer wrong"]), [], Requirement::Open);
        assert_eq!(pass, Ok(Grant::everything()));
    }

    #[test]
    fn a_refusal_says_which_credential_is_needed() {
        let access = guarded();
        let refused = |sent: &[&str], requirement| {
            let refused = access
                .admit(&headers(sent), [], requirement)
                .map(drop)
                .unwrap_err();
            (refused.challenge(), refused.to_string())
        };
        let (challenge, message) = refused(&[], Requirement::Token);
        assert_eq!(challenge, "Bearer");
        assert_eq!(
            message,
            "this needs the token, in the header `authorization: Bearer …`"
        );
        let (_, message) = refused(&[], Requirement::TokenOrTicket);
        assert!(message.contains("query parameter `ticket`"));
        let (challenge, _) = refused(&["Bearer wrong"], Requirement::Token);
        assert_eq!(challenge, r#"Bearer error="invalid_token""#);
    }

    #[test]
    fn a_ticket_is_accepted_for_streams_only() {
        let access = guarded();
        let ticket = access
            .issue(&TicketRequest::default(), EPOCH, None)
            .unwrap()
            .ticket;
        let admit = |sent: &[&str], query: &[(&str, &str)], requirement| {
            access.admit(&headers(sent), query.iter().copied(), requirement)
        };
        for name in ["ticket", "jwt"] {
            let query = [("notices", "true"), (name, &*ticket)];
            let pass = admit(&[], &query, Requirement::TokenOrTicket);
            assert!(pass.unwrap().ticket.is_some());
            let refused = admit(&[], &query, Requirement::Token)
                .map(drop)
                .unwrap_err();
            assert_eq!(refused, AccessError::TicketElsewhere);
        }
        let query = [("ticket", &*ticket)];
        let right = format!("Bearer {SECRET}");
        let pass = admit(&[&right], &query, Requirement::TokenOrTicket);
        assert!(pass.unwrap().ticket.is_some());
        let refused = admit(&["Bearer wrong"], &query, Requirement::TokenOrTicket);
        assert_eq!(refused.map(drop).unwrap_err(), AccessError::WrongToken);
        let twice = [("ticket", &*ticket), ("jwt", &*ticket)];
        let refused = admit(&[], &twice, Requirement::TokenOrTicket)
            .map(drop)
            .unwrap_err();
        assert_eq!(refused, AccessError::SeveralTickets);
        let refused = admit(&[], &[("ticket", "")], Requirement::TokenOrTicket)
            .map(drop)
            .unwrap_err();
        assert_eq!(refused, AccessError::Ticket(TicketError::Malformed));
    }

    #[test]
    fn a_ticket_restricts_where_no_token_is_set() {
        let access = Access::default();
        let ticket = access
            .issue(&TicketRequest::default(), EPOCH, None)
            .unwrap()
            .ticket;
        let pass = access.admit(
            &HeaderMap::new(),
            [("jwt", &*ticket)],
            Requirement::TokenOrTicket,
        );
        assert!(pass.unwrap().ticket.is_some());
        let refused = access.admit(
            &HeaderMap::new(),
            [("jwt", "x.y.AAAA")],
            Requirement::TokenOrTicket,
        );
        assert_eq!(
            refused.map(drop).unwrap_err(),
            AccessError::Ticket(TicketError::Signature)
        );
    }

    /// What [`Access::reload`] did with its only value.
    fn only(reloads: Vec<Reload>) -> Result<Reloaded, String> {
        let [reload] = <[Reload; 1]>::try_from(reloads).unwrap();
        reload.result.map_err(|error| error.to_string())
    }

    #[test]
    fn a_new_token_replaces_the_old_one_and_its_tickets() {
        let scratch = Scratch::new();
        let file = scratch.write("token", "the-first-token-there-is");
        let config = AccessConfig {
            token: Some(TokenSource::File(file)),
            ..AccessConfig::default()
        };
        let access = config.load().unwrap();
        let admits = |token: &str| {
            let sent = headers(&[&format!("Bearer {token}")]);
            access.admit(&sent, [], Requirement::Token).is_ok()
        };
        let request = TicketRequest::default();
        let ticket = access.issue(&request, EPOCH, None).unwrap().ticket;
        let redeem = || {
            let query = [("ticket", &*ticket)];
            access.admit(&HeaderMap::new(), query, Requirement::TokenOrTicket)
        };
        assert!(redeem().is_ok());
        assert_eq!(only(access.reload()), Ok(Reloaded::Unchanged));
        assert!(admits("the-first-token-there-is") && redeem().is_ok());

        scratch.write("token", "too short");
        let error = only(access.reload()).unwrap_err();
        assert!(error.contains("fewer than 16 bytes"), "{error}");
        assert!(admits("the-first-token-there-is") && redeem().is_ok());

        scratch.write("token", "the-second-token-there-is");
        assert_eq!(only(access.reload()), Ok(Reloaded::Changed));
        assert!(admits("the-second-token-there-is"));
        assert!(!admits("the-first-token-there-is"));
        let refused = AccessError::Ticket(TicketError::Signature);
        assert_eq!(redeem().map(drop), Err(refused));
    }

    #[test]
    fn an_instance_token_opens_its_instances_until_its_line_is_deleted() {
        let scratch = Scratch::new();
        let file = scratch.write("tokens", "shop-*,till-1 secret-of-the-shops\n");
        let token = Token::from_variable("TAPLINE_TOKEN", SECRET).unwrap();
        let config = AccessConfig {
            token: Some(TokenSource::Fixed(token)),
            instance_tokens: Some(file),
            ..AccessConfig::default()
        };
        let access = config.load().unwrap();
        let admit = |token: &str, query: &[(&str, &str)]| {
            let sent = headers(&[&format!("Bearer {token}")]);
            access.admit(&sent, query.iter().copied(), Requirement::TokenOrTicket)
        };
        let names = |grant: Grant| grant.instances.map(|names| names.join(","));
        assert_eq!(admit(SECRET, &[]), Ok(Grant::everything()));
        assert_eq!(
            admit("secret-of-the-tills", &[]),
            Err(AccessError::WrongToken)
        );
        let grant = admit("secret-of-the-shops", &[]).unwrap();
        assert_eq!(names(grant).unwrap(), "shop-*,till-1");

        // A ticket restricts further, and does not replace what the token is for.
        let request = TicketRequest::default();
        let ticket = access.issue(&request, EPOCH, Some("other")).unwrap().ticket;
        let grant = admit("secret-of-the-shops", &[("ticket", &ticket)]).unwrap();
        assert!(grant.ticket.is_some());
        assert_eq!(names(grant).unwrap(), "shop-*,till-1");

        assert_eq!(only(access.reload()), Ok(Reloaded::Unchanged));
        scratch.write("tokens", "till-1 short\n");
        let error = only(access.reload()).unwrap_err();
        assert!(error.contains("line 1: the token holds fewer"), "{error}");
        assert!(admit("secret-of-the-shops", &[]).is_ok());
        scratch.write("tokens", "shop-* secret-of-the-tills\n");
        assert_eq!(only(access.reload()), Ok(Reloaded::Changed));
        assert_eq!(
            admit("secret-of-the-shops", &[]),
            Err(AccessError::WrongToken)
        );
        assert!(admit("secret-of-the-tills", &[]).is_ok());
    }

    #[test]
    fn instance_tokens_need_the_token() {
        let scratch = Scratch::new();
        let config = AccessConfig {
            instance_tokens: Some(scratch.write("tokens", "a secret-of-instance-a\n")),
            ..AccessConfig::default()
        };
        let error = config.load().unwrap_err().to_string();
        assert!(error.contains("--token-file"), "{error}");
    }

    #[test]
    fn new_allow_lists_replace_the_old_ones() {
        let scratch = Scratch::new();
        let file = scratch.write("allow", "origin https://a.example\nhost a.internal\n");
        let config = AccessConfig {
            allow_file: Some(file),
            ..AccessConfig::default()
        };
        let access = config.load().unwrap();
        let allowed = || {
            let allows = |name: &str| {
                let mut headers = HeaderMap::new();
                let value = |text: String| HeaderValue::try_from(text).unwrap();
                headers.insert(header::HOST, value(format!("{name}.internal")));
                headers.insert(header::ORIGIN, value(format!("https://{name}.example")));
                access.check(&headers).is_ok()
            };
            ["a", "b"].map(allows)
        };
        assert_eq!(allowed(), [true, false]);
        scratch.write("allow", "origin b.example\n");
        let error = only(access.reload()).unwrap_err();
        assert!(
            error.contains("line 1: b.example: expected an origin"),
            "{error}"
        );
        assert_eq!(allowed(), [true, false]);
        scratch.write("allow", "origin https://b.example\nhost b.internal\n");
        assert_eq!(only(access.reload()), Ok(Reloaded::Changed));
        assert_eq!(allowed(), [false, true]);
        assert_eq!(only(access.reload()), Ok(Reloaded::Unchanged));
    }

    #[test]
    fn a_change_of_a_file_is_found_once() {
        let scratch = Scratch::new();
        let file = scratch.write("token", "the-first-token-there-is");
        let config = AccessConfig {
            token: Some(TokenSource::File(file.clone())),
            ..AccessConfig::default()
        };
        let access = config.load().unwrap();
        assert!(access.reload_if_changed().is_empty());
        // Written beside it and renamed, as a careful program does: the same length, another file.
        let new = scratch.write("new", "the-other-token-there-is");
        std::fs::rename(new, &file).unwrap();
        assert_eq!(only(access.reload_if_changed()), Ok(Reloaded::Changed));
        assert!(access.reload_if_changed().is_empty());
        std::fs::remove_file(&file).unwrap();
        let error = only(access.reload_if_changed()).unwrap_err();
        assert!(error.starts_with("cannot read the token file"), "{error}");
        assert!(access.reload_if_changed().is_empty());
        scratch.write("token", "the-first-token-there-is");
        assert_eq!(only(access.reload_if_changed()), Ok(Reloaded::Changed));
    }
}
