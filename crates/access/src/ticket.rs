//! Tickets: permission to read one stream for a limited time, for a client that must not have the token.
//!
//! A browser's `EventSource` cannot send the header `Authorization`, and everything that a page knows is
//! known to its user. So the page's own server, which has the token, requests a ticket, and the page puts
//! the ticket into the URL. URLs end up in logs and histories: hence a ticket is short-lived, is valid
//! for one route, and can be restricted to some events.
//!
//! **Format.** A JSON Web Token, signed with HMAC-SHA256 (RFC 7515, RFC 7519: `HS256`), so that a server
//! that has the token can also sign tickets itself, with a library of its own:
//!
//! - key: HMAC-SHA256 of the text [`CONTEXT`], with the token as its key; 32 bytes
//! - claims: `exp` (required), `iat`, `category`, `type`, `after`, `until`, `epoch`, `instance`. A ticket with any
//!   other claim is refused: its signer most likely meant the claim as a restriction.
//!
//! **Why no library.** `jsonwebtoken` would bring RSA, elliptic curves and a second cryptography backend
//! for one of its twelve algorithms. TLS brings HMAC anyway; the rest is splitting at two dots. The
//! algorithm is not taken from the ticket: the signature is verified as HS256 before anything else of the
//! ticket is read, so `none` and all other algorithms fail there.
//!
//! **What is decided elsewhere.** A ticket yields its [`Claims`]. Applying them to a query, and comparing
//! the epoch of a range, is up to the server: only it knows the stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use crypto::hmac;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use tapline_oapi::{
    CategorySet, Ticket, TicketRequest, check_instance_name, check_pattern, from_json,
};

use crate::token::{Token, random_key};

/// The purpose for which a key is derived from the token, so that the key of tickets serves no other one.
const CONTEXT: &[u8] = b"tapline stream ticket 1";

/// Bounds the work for any input, in bytes. A much longer URL is refused by other limits.
const MAX_BYTES: usize = 4096;

/// The longest time until `exp`, in seconds: one day. A ticket can be revoked only by changing the token.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// The highest number of types in one ticket: the same as in a query.
const MAX_TYPES: usize = 100;

/// Issues tickets and verifies them.
pub(crate) struct Tickets {
    key: hmac::Key,
}

impl Tickets {
    /// With a token, the key is derived from it: tickets stay valid over a restart with the same token.
    /// Without one, the key is random, and tickets end with the process.
    pub(crate) fn new(token: Option<&Token>) -> Self {
        let key = match token {
            Some(token) => {
                let token = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
                let derived = hmac::sign(&token, CONTEXT);
                hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
            }
            None => random_key(),
        };
        Self { key }
    }

    /// Issues a ticket that is valid from now on, for these instances of a fleet if there are any: names, joined by
    /// commas. `epoch` is the current
    /// epoch of the stream; it goes into a ticket with a range.
    pub(crate) fn issue(
        &self,
        request: &TicketRequest,
        epoch: &str,
        instance: Option<&str>,
    ) -> Result<Ticket, IssueError> {
        self.issue_at(request, epoch, instance, now())
    }

    fn issue_at(
        &self,
        request: &TicketRequest,
        epoch: &str,
        instance: Option<&str>,
        now: u64,
    ) -> Result<Ticket, IssueError> {
        let ranged = request.after.is_some() || request.until.is_some();
        let claims = Claims {
            exp: now + u64::from(request.lifetime()),
            iat: Some(now),
            category: request.category.filter(|categories| !categories.is_empty()),
            r#type: request.r#type.clone().filter(|types| !types.is_empty()),
            after: request.after,
            until: request.until,
            epoch: ranged.then(|| epoch.to_owned()),
            instance: instance.map(str::to_owned),
        };
        claims.check().map_err(IssueError)?;
        let ticket = self.sign(r#"{"alg":"HS256","typ":"JWT"}"#, &json(&claims));
        if MAX_BYTES < ticket.len() {
            let types: usize = claims.types().iter().map(String::len).sum();
            let (field, what) = match claims.instance {
                Some(names) if types < names.len() => ("instances", "names"),
                _ => ("type", "types"),
            };
            return Err(IssueError(format!(
                "field `{field}`: with so many {what} the ticket is longer than {MAX_BYTES} bytes"
            )));
        }
        Ok(Ticket {
            ticket,
            expires_at: Timestamp::from_second(claims.exp as i64)
                .expect("an hour from now is far from the end of time"),
        })
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let mut ticket = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = hmac::sign(&self.key, ticket.as_bytes());
        ticket.push('.');
        BASE64.encode_string(signature, &mut ticket);
        ticket
    }

    /// The claims of a valid ticket.
    pub(crate) fn verify(&self, ticket: &str) -> Result<Claims, TicketError> {
        self.verify_at(ticket, now())
    }

    fn verify_at(&self, ticket: &str, now: u64) -> Result<Claims, TicketError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            /// Extensions that a verifier must understand. None is supported.
            crit: Option<IgnoredAny>,
        }

        if MAX_BYTES < ticket.len() {
            return Err(TicketError::TooLong);
        }
        let (signed, signature) = ticket.rsplit_once('.').ok_or(TicketError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TicketError::Malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| TicketError::Malformed);

        hmac::verify(&self.key, signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TicketError::Signature)?;

        let header: Header = read(&decode(header)?)?;
        if header.alg != "HS256" || header.crit.is_some() {
            return Err(TicketError::Algorithm);
        }
        let claims: Claims = read(&decode(claims)?)?;
        claims.check().map_err(TicketError::Unfit)?;
        // RFC 7519, section 4.1.4: not to be accepted on or after `exp`. A stream that the ticket opened
        // ends at that moment, so a reconnect must fail, or it would repeat until the second is over.
        if claims.exp <= now {
            return Err(TicketError::Expired);
        }
        if MAX_SECONDS < claims.exp - now {
            return Err(TicketError::LongLived);
        }
        Ok(claims)
    }
}

/// What a valid ticket permits: the events that a stream may carry, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    category: Option<CategorySet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#type: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
}

impl Claims {
    /// The time left until the ticket expires: one day at most, zero afterwards.
    pub fn time_left(&self) -> Duration {
        (UNIX_EPOCH + Duration::from_secs(self.exp))
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    }

    /// The permitted categories; `None` permits all.
    pub fn categories(&self) -> Option<CategorySet> {
        self.category
    }

    /// The permitted types, which may contain `*`; an empty slice permits all.
    pub fn types(&self) -> &[String] {
        self.r#type.as_deref().unwrap_or_default()
    }

    /// The seq after which events are permitted.
    pub fn after(&self) -> Option<u64> {
        self.after
    }

    /// The last permitted seq.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// The epoch that [`after`](Self::after) and [`until`](Self::until) belong to. A ticket with one of
    /// them always has it; it may be of another epoch than the stream's.
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// The instances of a fleet that may be read: names, in which `*` stands for any characters. `None` permits all. A
    /// server that is no instance of a fleet is none of them.
    pub fn instances(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.instance.as_deref()?.split(','))
    }

    /// Whether the claims are consistent. An empty list is an error: it could mean nothing or everything.
    fn check(&self) -> Result<(), String> {
        if self.category.is_some_and(CategorySet::is_empty) {
            return Err(
                "field `category`: is empty; name a category, or omit the field for all".to_owned(),
            );
        }
        if let Some(types) = &self.r#type {
            if types.is_empty() {
                return Err(
                    "field `type`: is empty; name a type, or omit the field for all".to_owned(),
                );
            }
            for pattern in types {
                check_pattern(pattern).map_err(|error| format!("field `type`: {error}"))?;
            }
            if MAX_TYPES < types.len() {
                return Err(format!("field `type`: holds more than {MAX_TYPES} types"));
            }
        }
        for name in self.instances().into_iter().flatten() {
            check_instance_name(name).map_err(|error| format!("field `instance`: {error}"))?;
        }
        if let (Some(after), Some(until)) = (self.after, self.until)
            && until < after
        {
            return Err(format!("field `until`: {until} is before `after`, {after}"));
        }
        let ranged = self.after.is_some() || self.until.is_some();
        if ranged && self.epoch.is_none() {
            return Err(
                "field `epoch`: missing; `after` and `until` are seqs of one epoch".to_owned(),
            );
        }
        Ok(())
    }
}

/// Why a ticket was not issued. The text names the field of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IssueError(String);

/// Why a ticket is not accepted. The text contains nothing of a ticket whose signature is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It has more than 4096 bytes.
    #[error("a ticket is at most {MAX_BYTES} bytes long")]
    TooLong,
    /// It is not a JSON Web Token.
    #[error("not a ticket: expected three parts in base64url, joined by dots")]
    Malformed,
    /// It was signed with another key, or changed afterwards.
    #[error("the ticket's signature is wrong; the server's token may have changed since")]
    Signature,
    /// Its header names another algorithm, or an extension.
    #[error("the ticket's header must have `alg` HS256 and no `crit`")]
    Algorithm,
    /// A claim is missing, malformed or unknown.
    #[error("the ticket's claims are not valid: {0}")]
    Unfit(String),
    /// The time `exp` has come.
    #[error("the ticket has expired")]
    Expired,
    /// `exp` is more than a day ahead.
    #[error("the ticket's `exp` is more than a day ahead; a ticket is valid for a day at most")]
    LongLived,
    /// It has a range of seqs of another epoch.
    #[error("the ticket's range is of another epoch: the server was restarted since")]
    OtherEpoch,
    /// It is for other instances of a fleet.
    #[error("the ticket is for another instance")]
    OtherInstance,
    /// It has a range of seqs, which are of one instance, and a stream of many was asked for.
    #[error("the ticket has a range of seqs, and opens only the stream of one instance")]
    Ranged,
    /// Its range begins at a seq that the stream has not reached.
    #[error("the ticket begins after seq {after}, but the newest event is {head}")]
    Ahead {
        /// Where the ticket begins.
        after: u64,
        /// The newest seq of the stream.
        head: u64,
    },
}

/// Reads a part of a ticket whose signature was verified: only there an error may go into detail.
fn read<T: DeserializeOwned>(part: &[u8]) -> Result<T, TicketError> {
    from_json(part).map_err(|error| TicketError::Unfit(error.to_string()))
}

fn json(claims: &Claims) -> String {
    serde_json::to_string(claims).expect("our own types serialize")
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const EPOCH: &str = "00000000c0ffee00";

    fn token(text: &str) -> Token {
        Token::from_variable("TAPLINE_TOKEN", text).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_second(seconds as i64).unwrap()
    }

    fn tickets() -> Tickets {
        let token = token("correct-horse-battery-staple");
        Tickets::new(Some(&token))
    }

    fn request(json: &str) -> TicketRequest {
        from_json(json.as_bytes()).unwrap()
    }

    /// The claims of a ticket that is issued for `json`.
    fn claims(json: &str) -> Claims {
        let ticket = tickets()
            .issue_at(&request(json), EPOCH, None, NOW)
            .unwrap()
            .ticket;
        tickets().verify_at(&ticket, NOW).unwrap()
    }

    #[test]
    fn a_ticket_is_a_standard_json_web_token() {
        // Made with Python: hmac.digest(key, signed, "sha256") under a key derived as documented.
        let ticket = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwNjAsImlhdCI6MTgwMDAwMDAwMCwiY2F0ZWdvcnkiOlsibmV0d29yayJdfQ.YtY2LsHXVMb8nXZSwgiYWz0NKhmPSb_Nw8W7nxwBg1Q";
        let known = Claims {
            exp: NOW + 60,
            iat: Some(NOW),
            category: Some([tapline_oapi::Category::Network].into_iter().collect()),
            r#type: None,
            after: None,
            until: None,
            epoch: None,
            instance: None,
        };
        assert_eq!(tickets().verify_at(ticket, NOW), Ok(known));

        let issued = tickets().issue_at(
            &request(r#"{"expires_in":60,"category":["network"]}"#),
            EPOCH,
            None,
            NOW,
        );
        let expected = Ticket {
            ticket: ticket.to_owned(),
            expires_at: at(NOW + 60),
        };
        assert_eq!(issued.unwrap(), expected);
    }

    #[test]
    fn the_claims_are_those_of_the_request() {
        let all = r#"{"expires_in":5,"category":["page","console"],"type":["page_*"],"after":3,"until":9}"#;
        let claims = claims(all);
        assert_eq!(claims.exp, NOW + 5);
        assert_eq!(claims.until(), Some(9));
        assert_eq!(
            json(&claims),
            format!(
                r#"{{"exp":1800000005,"iat":1800000000,"category":["console","page"],"type":["page_*"],"after":3,"until":9,"epoch":"{EPOCH}"}}"#
            )
        );
    }

    #[test]
    fn a_ticket_is_of_the_instance_that_it_was_made_for() {
        let ticket = tickets()
            .issue_at(&TicketRequest::default(), EPOCH, Some("sandbox-1"), NOW)
            .unwrap();
        let claims = tickets().verify_at(&ticket.ticket, NOW).unwrap();
        let names: Vec<_> = claims.instances().unwrap().collect();
        assert_eq!(names, ["sandbox-1"]);
    }

    #[test]
    fn a_ticket_that_is_too_long_names_the_field_that_makes_it_so() {
        let long = |n: usize| format!("{n:0>60}");
        let types = |count| TicketRequest {
            r#type: Some((0..count).map(long).collect()),
            ..TicketRequest::default()
        };
        let names = |count| (0..count).map(long).collect::<Vec<_>>().join(",");
        for (request, instance, field) in [
            (types(90), None, "field `type`: with so many types"),
            (
                types(90),
                Some(names(1)),
                "field `type`: with so many types",
            ),
            (
                types(1),
                Some(names(90)),
                "field `instances`: with so many names",
            ),
        ] {
            let issued = tickets().issue_at(&request, EPOCH, instance.as_deref(), NOW);
            let error = issued.unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_ticket_ends_at_exp() {
        let ticket = tickets()
            .issue_at(&TicketRequest::default(), EPOCH, None, NOW)
            .unwrap();
        assert_eq!(ticket.expires_at, at(NOW + 300));
        for (at, expected) in [
            (NOW, Ok(())),
            (NOW + 299, Ok(())),
            (NOW + 300, Err(TicketError::Expired)),
            (NOW + 301, Err(TicketError::Expired)),
            (NOW + 90_000, Err(TicketError::Expired)),
        ] {
            let verified = tickets().verify_at(&ticket.ticket, at).map(drop);
            assert_eq!(verified, expected, "{at}");
        }
        assert_eq!(TicketError::Expired.to_string(), "the ticket has expired");
    }

    #[test]
    fn time_left_counts_from_now() {
        let tickets = tickets();
        let ticket = tickets
            .issue(&request(r#"{"expires_in":1000}"#), EPOCH, None)
            .unwrap();
        let left = tickets.verify(&ticket.ticket).unwrap().time_left();
        assert!(Duration::from_secs(990) < left && left <= Duration::from_secs(1000));
        let over = claims("{}"); // Of some day in 2027.
        assert!(over.time_left() <= Duration::from_secs(NOW));
    }

    #[test]
    fn an_invalid_request_is_refused_with_the_field() {
        let many = format!(r#"{{"type":[{}"x"]}}"#, r#""x","#.repeat(100));
        let long: Vec<_> = (0..80)
            .map(|n| format!("\"{n}{}\"", "x".repeat(50)))
            .collect();
        let long = format!(r#"{{"type":[{}]}}"#, long.join(","));
        for (json, field) in [(r#"{"after":5,"until":4}"#, "until"), (&*long, "type")] {
            let error = tickets()
                .issue_at(&request(json), EPOCH, None, NOW)
                .unwrap_err();
            let start = format!("field `{field}`: ");
            assert!(error.to_string().starts_with(&start), "{error}");
        }
        for json in [
            r#"{"categories":[]}"#,
            r#"{"expires_in":-1}"#,
            r#"{"expires_in":0}"#,
            r#"{"expires_in":3601}"#,
            r#"{"type":["a",""]}"#,
            r#"{"type":["*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*"]}"#,
            &*many,
            r#"{"after":"x"}"#,
        ] {
            assert!(
                from_json::<TicketRequest>(json.as_bytes()).is_err(),
                "{json}"
            );
        }
    }

    #[test]
    fn tickets_stay_valid_over_a_restart_with_the_same_token_only() {
        let of = |text| Tickets::new(Some(&token(text)));
        let ticket = tickets()
            .issue_at(&TicketRequest::default(), EPOCH, None, NOW)
            .unwrap();
        let again = of("correct-horse-battery-staple").verify_at(&ticket.ticket, NOW);
        assert!(again.is_ok(), "{again:?}");
        let other = of("correct-horse-battery-stapler");
        let none = Tickets::new(None);
        let none_either = Tickets::new(None);
        for tickets in [&other, &none] {
            let verified = tickets.verify_at(&ticket.ticket, NOW);
            assert_eq!(verified, Err(TicketError::Signature));
        }
        let ticket = none
            .issue_at(&TicketRequest::default(), EPOCH, None, NOW)
            .unwrap();
        assert!(none.verify_at(&ticket.ticket, NOW).is_ok());
        let verified = none_either.verify_at(&ticket.ticket, NOW);
        assert_eq!(verified, Err(TicketError::Signature));
    }

    #[test]
    fn a_ticket_with_a_range_names_its_epoch() {
        for (asked, epoch) in [
            (r#"{"after":0}"#, Some(EPOCH)),
            (r#"{"until":5}"#, Some(EPOCH)),
            ("{}", None),
        ] {
            assert_eq!(claims(asked).epoch(), epoch, "{asked}");
        }
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let ticket = tickets()
            .issue_at(&TicketRequest::default(), EPOCH, None, NOW)
            .unwrap()
            .ticket;
        for at in 0..ticket.len() {
            for by in ["A", "_", ".", "=", "é"] {
                let mut changed = ticket.clone();
                changed.replace_range(at..=at, by);
                if changed != ticket {
                    let verified = tickets().verify_at(&changed, NOW);
                    let refused = matches!(
                        verified,
                        Err(TicketError::Signature | TicketError::Malformed)
                    );
                    assert!(refused, "{changed}: {verified:?}");
                }
            }
            let verified = tickets().verify_at(&ticket[..at], NOW);
            assert!(verified.is_err(), "the first {at} bytes");
        }
    }

    #[test]
    fn only_hs256_is_accepted() {
        let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None","typ":"JWT"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
        ] {
            // Refused even with a right signature; without one, the signature is the first fault.
            let signed = tickets().sign(header, &claims);
            let verified = tickets().verify_at(&signed, NOW);
            assert_eq!(verified, Err(TicketError::Algorithm), "{header}");
            let unsigned = format!("{}.{}.", BASE64.encode(header), BASE64.encode(&claims));
            let verified = tickets().verify_at(&unsigned, NOW);
            assert_eq!(verified, Err(TicketError::Signature), "{header}");
        }
        let fine = tickets().sign(r#"{"alg":"HS256","kid":"1"}"#, &claims);
        assert!(tickets().verify_at(&fine, NOW).is_ok());
    }

    #[test]
    fn claims_are_checked_even_with_a_right_signature() {
        let header = r#"{"alg":"HS256"}"#;
        let exp = NOW + 60;
        for (claims, expected) in [
            ("{}".to_owned(), "field `exp`: missing"),
            (format!(r#"{{"exp":{exp}.5}}"#), "field `exp`"),
            (format!(r#"{{"exp":"{exp}"}}"#), "field `exp`"),
            (format!(r#"{{"exp":-{exp}}}"#), "field `exp`"),
            (format!(r#"{{"exp":{exp},"exp":1}}"#), "`exp`"),
            (
                format!(r#"{{"exp":{exp},"nbf":{exp}}}"#),
                "field `nbf`: unknown",
            ),
            (format!(r#"{{"exp":{exp},"category":["x"]}}"#), "category"),
            (
                format!(r#"{{"exp":{exp},"category":[]}}"#),
                "field `category`: is empty",
            ),
            (
                format!(r#"{{"exp":{exp},"type":["{}"]}}"#, "*a".repeat(17)),
                "field `type`: a pattern has more than 16",
            ),
            (
                format!(r#"{{"exp":{exp},"after":5}}"#),
                "field `epoch`: missing",
            ),
            (format!("[{exp}]"), "object"),
        ] {
            let signed = tickets().sign(header, &claims);
            let error = tickets().verify_at(&signed, NOW).unwrap_err();
            assert!(
                matches!(error, TicketError::Unfit(_)),
                "{claims}: {error:?}"
            );
            assert!(error.to_string().contains(expected), "{claims}: {error}");
        }
        for exp in [NOW + MAX_SECONDS + 1, u64::MAX] {
            let signed = tickets().sign(header, &format!(r#"{{"exp":{exp}}}"#));
            let verified = tickets().verify_at(&signed, NOW);
            assert_eq!(verified, Err(TicketError::LongLived));
        }
    }

    #[test]
    fn an_overlong_or_malformed_ticket_is_refused() {
        let verified = tickets().verify_at(&"x".repeat(4097), NOW);
        assert_eq!(verified, Err(TicketError::TooLong));
        for text in ["", ".", "..", "a.b", "a.b.c.d", "x y.z.*"] {
            let verified = tickets().verify_at(text, NOW);
            let refused = matches!(
                verified,
                Err(TicketError::Signature | TicketError::Malformed)
            );
            assert!(refused, "{text}: {verified:?}");
        }
    }
}
