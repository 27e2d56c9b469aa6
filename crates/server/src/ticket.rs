//! Tickets: leave to read one stream for a while, for who cannot or should not have the token.
//!
//! A browser's `EventSource` sends no headers of ours, and what a page knows its users know. So the
//! page's own server, which has the token, gets it a ticket, and the page puts that into the URL. A
//! URL ends up in logs and histories: hence a ticket is short-lived, opens one route, and may be
//! bounded to some events.
//!
//! **Form.** A JSON Web Token, signed with HMAC-SHA256 (RFC 7515, 7519: `HS256`), so that a server
//! that has the token can also make tickets itself, with the library it has:
//!
//! - key: HMAC-SHA256 with the token as key, of the text [`CONTEXT`]; 32 bytes
//! - claims: `exp` (required), `iat`, `category`, `type`, `after`, `until`, `epoch`. Another claim is
//!   refused rather than ignored: it was meant as a bound, most likely.
//!
//! **No library for this.** `jsonwebtoken` would bring RSA, elliptic curves and a second backend of
//! cryptography for one of its twelve algorithms. HMAC comes with TLS anyway; what is left is
//! splitting at two dots. The algorithm is not taken from the ticket: the signature is checked as
//! HS256 before anything of a ticket is looked at, so `none` and all others fail there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use crypto::hmac;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use tapline_api::{Replay, StreamQuery};
use tapline_events::{Cursor, Epoch, Filter, TypePattern};
use tapline_oapi::{CategorySet, ErrorCode, Ticket, TicketRequest, from_json};

use crate::answer::Failure;
use crate::auth::{Token, random_key};

/// What the token is put to use for here, so that a ticket's key is good for nothing else.
const CONTEXT: &[u8] = b"tapline stream ticket 1";

/// Bounds the work for somebody who sends anything; a URL much longer is refused on its way.
const MAX_BYTES: usize = 4096;

/// A ticket cannot be taken back, except with the token: a day bounds what a lost one opens.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// As many as a query may name.
const MAX_TYPES: usize = 100;

/// Issues tickets and knows its own again.
pub(crate) struct Tickets {
    key: hmac::Key,
    /// The stream they are for: a range of seqs means nothing in another.
    epoch: Epoch,
}

impl Tickets {
    /// Tickets survive a restart with the same token; without one, they end with the process.
    pub(crate) fn new(token: Option<&Token>, epoch: Epoch) -> Self {
        let key = match token {
            Some(token) => {
                let token = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
                let derived = hmac::sign(&token, CONTEXT);
                hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
            }
            None => random_key(),
        };
        Self { key, epoch }
    }

    /// A ticket that is good from now on.
    pub(crate) fn issue(&self, request: &TicketRequest) -> Result<Ticket, Failure> {
        self.issue_at(request, now())
    }

    fn issue_at(&self, request: &TicketRequest, now: u64) -> Result<Ticket, Failure> {
        let invalid = |message| Failure::new(ErrorCode::InvalidField, message);
        let ranged = request.after.is_some() || request.until.is_some();
        let claims = Claims {
            exp: now + u64::from(request.lifetime()),
            iat: Some(now),
            category: request.category.filter(|categories| !categories.is_empty()),
            r#type: request.r#type.clone().filter(|types| !types.is_empty()),
            after: request.after,
            until: request.until,
            epoch: ranged.then(|| self.epoch.to_string()),
        };
        claims.check().map_err(invalid)?;
        let ticket = self.sign(r#"{"alg":"HS256","typ":"JWT"}"#, &json(&claims));
        if MAX_BYTES < ticket.len() {
            return Err(invalid(format!(
                "field `type`: with so many types the ticket is longer than {MAX_BYTES} bytes"
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

    /// What the ticket is good for, if it is good.
    pub(crate) fn verify(&self, ticket: &str) -> Result<Claims, TicketError> {
        self.verify_at(ticket, now())
    }

    fn verify_at(&self, ticket: &str, now: u64) -> Result<Claims, TicketError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            /// Extensions that one has to know; we know none.
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
        // The whole of the last second counts: clocks are not that exact.
        if claims.exp < now {
            return Err(TicketError::Expired);
        }
        if MAX_SECONDS + 1 < claims.exp - now {
            return Err(TicketError::LongLived);
        }
        match &claims.epoch {
            Some(epoch) if *epoch != self.epoch.to_string() => Err(TicketError::OtherEpoch),
            _ => Ok(claims),
        }
    }
}

/// What a ticket is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
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
}

impl Claims {
    /// How long from now until then: a day at most.
    pub(crate) fn time_left(&self) -> Duration {
        (UNIX_EPOCH + Duration::from_secs(self.exp))
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    }

    /// The last seq that may be sent.
    pub(crate) fn until(&self) -> Option<u64> {
        self.until
    }

    /// Takes from `query` what the ticket does not allow. `query` is complete: it has the
    /// `Last-Event-ID`, where one was sent; `head` is the stream's.
    ///
    /// With a range, a stream begins at the ticket's `after`, unless a cursor says a later place or
    /// `replay=live` the head. A cursor that is no place in this stream begins there, too: it would
    /// be answered from the oldest event retained otherwise, which may be before the range.
    pub(crate) fn narrow(&self, query: &mut StreamQuery, head: u64) -> Result<(), TicketError> {
        query.filter = query.filter.narrowed(&self.filter());
        let Some(after) = self.after else {
            return Ok(());
        };
        if head < after {
            return Err(TicketError::Ahead { after, head });
        }
        let epoch = self.epoch.as_deref().and_then(|epoch| epoch.parse().ok());
        let begins_within = match (&query.after, query.replay) {
            (Some(cursor), _) => cursor.parse().is_ok_and(|cursor: Cursor| {
                (after..=head).contains(&cursor.seq)
                    && (cursor.epoch.is_none() || cursor.epoch == epoch)
            }),
            (None, Some(Replay::Live)) => true,
            (None, Some(Replay::All) | None) => false,
        };
        if !begins_within {
            query.after = Some(Cursor { seq: after, epoch }.to_string());
            query.replay = None;
        }
        Ok(())
    }

    /// What the ticket lets through.
    pub(crate) fn filter(&self) -> Filter {
        let types = self.r#type.as_deref().unwrap_or_default();
        let mut filter = Filter::all();
        filter.categories = self.category;
        filter.types = types.iter().map(|text| TypePattern::new(text)).collect();
        filter
    }

    /// Whether the claims make sense together. An empty list is none of the two things that it
    /// could mean, nothing or everything.
    fn check(&self) -> Result<(), String> {
        if self.category.is_some_and(CategorySet::is_empty) {
            return Err("field `category`: is empty; name one, or leave it out for all".to_owned());
        }
        if let Some(types) = &self.r#type {
            if types.is_empty() {
                return Err("field `type`: is empty; name one, or leave it out for all".to_owned());
            }
            if types.iter().any(String::is_empty) {
                return Err("field `type`: an event type is not empty".to_owned());
            }
            if MAX_TYPES < types.len() {
                return Err(format!("field `type`: more than {MAX_TYPES} types"));
            }
        }
        if let (Some(after), Some(until)) = (self.after, self.until)
            && until < after
        {
            return Err(format!("field `until`: {until} is before `after`, {after}"));
        }
        let ranged = self.after.is_some() || self.until.is_some();
        if ranged && self.epoch.is_none() {
            return Err("field `epoch`: missing; a range is one of a certain stream".to_owned());
        }
        Ok(())
    }
}

/// Why a ticket is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketError {
    #[error("a ticket is at most {MAX_BYTES} bytes long")]
    TooLong,
    #[error("this is no ticket: expected three parts in base64url, joined by dots")]
    Malformed,
    #[error("the ticket's signature is not right; the server may have another token by now")]
    Signature,
    #[error("a ticket is signed with `HS256`, and its header has no `crit`")]
    Algorithm,
    #[error("the ticket says something else than a ticket does: {0}")]
    Unfit(String),
    #[error("the ticket has expired")]
    Expired,
    #[error("the ticket is good for more than a day, which is not taken")]
    LongLived,
    #[error("the ticket is for another epoch: the server has started anew since")]
    OtherEpoch,
    #[error("the ticket begins after seq {after}, and the newest event is {head}")]
    Ahead { after: u64, head: u64 },
}

/// Reads a part of a ticket that was signed: only of such a one an error may be particular.
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
        Tickets::new(Some(&token), EPOCH.parse().unwrap())
    }

    fn request(json: &str) -> TicketRequest {
        from_json(json.as_bytes()).unwrap()
    }

    /// The claims of a ticket that is issued for `json`.
    fn claims(json: &str) -> Claims {
        let ticket = tickets().issue_at(&request(json), NOW).unwrap().ticket;
        tickets().verify_at(&ticket, NOW).unwrap()
    }

    fn query(pairs: &[(&str, &str)]) -> StreamQuery {
        StreamQuery::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_ticket_is_a_json_web_token_as_anybody_makes_it() {
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
        };
        assert_eq!(tickets().verify_at(ticket, NOW), Ok(known));

        let issued =
            tickets().issue_at(&request(r#"{"expires_in":60,"category":["network"]}"#), NOW);
        let expected = Ticket {
            ticket: ticket.to_owned(),
            expires_at: at(NOW + 60),
        };
        assert_eq!(issued.unwrap(), expected);
    }

    #[test]
    fn a_ticket_says_what_was_asked_for() {
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
    fn a_ticket_is_good_until_its_last_second_is_over() {
        let ticket = tickets().issue_at(&TicketRequest::default(), NOW).unwrap();
        assert_eq!(ticket.expires_at, at(NOW + 300));
        for (at, expected) in [
            (NOW, Ok(())),
            (NOW + 300, Ok(())),
            (NOW + 301, Err(TicketError::Expired)),
            (NOW + 90_000, Err(TicketError::Expired)),
        ] {
            let verified = tickets().verify_at(&ticket.ticket, at).map(drop);
            assert_eq!(verified, expected, "{at}");
        }
        assert_eq!(TicketError::Expired.to_string(), "the ticket has expired");
    }

    #[test]
    fn time_left_is_from_now() {
        let tickets = tickets();
        let ticket = tickets.issue(&request(r#"{"expires_in":1000}"#)).unwrap();
        let left = tickets.verify(&ticket.ticket).unwrap().time_left();
        assert!(Duration::from_secs(990) < left && left <= Duration::from_secs(1000));
        let over = claims("{}"); // Of some day in 2027.
        assert!(over.time_left() <= Duration::from_secs(NOW));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused_with_their_field() {
        let many = format!(r#"{{"type":[{}"x"]}}"#, r#""x","#.repeat(100));
        let long = format!(r#"{{"type":["{}"]}}"#, "x".repeat(4000));
        for (json, field) in [(r#"{"after":5,"until":4}"#, "until"), (&*long, "type")] {
            let Failure { body: error, .. } = tickets().issue_at(&request(json), NOW).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidField);
            let start = format!("field `{field}`: ");
            assert!(error.message.starts_with(&start), "{}", error.message);
        }
        for json in [
            r#"{"categories":[]}"#,
            r#"{"expires_in":-1}"#,
            r#"{"expires_in":0}"#,
            r#"{"expires_in":3601}"#,
            r#"{"type":["a",""]}"#,
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
    fn tickets_survive_a_restart_with_the_same_token_and_no_other() {
        let epoch: Epoch = "0000000000000001".parse().unwrap();
        let of = |text| Tickets::new(Some(&token(text)), epoch);
        let ticket = tickets().issue_at(&TicketRequest::default(), NOW).unwrap();
        let again = of("correct-horse-battery-staple").verify_at(&ticket.ticket, NOW);
        assert!(again.is_ok(), "{again:?}");
        let other = of("correct-horse-battery-stapler");
        let none = Tickets::new(None, epoch);
        let none_either = Tickets::new(None, epoch);
        for tickets in [&other, &none] {
            let verified = tickets.verify_at(&ticket.ticket, NOW);
            assert_eq!(verified, Err(TicketError::Signature));
        }
        let ticket = none.issue_at(&TicketRequest::default(), NOW).unwrap();
        assert!(none.verify_at(&ticket.ticket, NOW).is_ok());
        let verified = none_either.verify_at(&ticket.ticket, NOW);
        assert_eq!(verified, Err(TicketError::Signature));
    }

    #[test]
    fn a_range_is_one_of_this_epoch() {
        let other = Tickets {
            epoch: "0000000000000001".parse().unwrap(),
            ..tickets()
        };
        for range in [r#"{"after":0}"#, r#"{"until":5}"#] {
            let ticket = tickets().issue_at(&request(range), NOW).unwrap().ticket;
            assert!(tickets().verify_at(&ticket, NOW).is_ok());
            let verified = other.verify_at(&ticket, NOW);
            assert_eq!(verified, Err(TicketError::OtherEpoch));
        }
    }

    #[test]
    fn whatever_is_changed_the_signature_does_not_fit() {
        let ticket = tickets()
            .issue_at(&TicketRequest::default(), NOW)
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
    fn no_algorithm_but_ours() {
        let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None","typ":"JWT"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
        ] {
            // Even from who has the key; and without a signature it does not get that far.
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
    fn claims_of_who_has_the_key_are_looked_at_too() {
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
        for exp in [NOW + MAX_SECONDS + 2, u64::MAX] {
            let signed = tickets().sign(header, &format!(r#"{{"exp":{exp}}}"#));
            let verified = tickets().verify_at(&signed, NOW);
            assert_eq!(verified, Err(TicketError::LongLived));
        }
    }

    #[test]
    fn what_is_too_long_is_not_looked_at() {
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

    #[test]
    fn a_filter_only_narrows() {
        use tapline_oapi::{Event, KnownType};
        let of = |known| Event::known(known, None);
        let (load, idle) = (of(KnownType::PageLoad), of(KnownType::NetworkIdle));
        let (request, log) = (of(KnownType::NetworkRequest), of(KnownType::ConsoleLog));
        for (ticket, asked, expected) in [
            ("{}", &[][..], [true, true, true, true]),
            (
                r#"{"category":["network"]}"#,
                &[],
                [false, true, true, false],
            ),
            (
                r#"{"category":["network","page"]}"#,
                &[("category", "page,console")],
                [true, false, false, false],
            ),
            (
                r#"{"category":["network"]}"#,
                &[("category", "page")],
                [false; 4],
            ),
            (r#"{"type":["network_*"]}"#, &[], [false, true, true, false]),
            (
                r#"{"type":["network_*"]}"#,
                &[("type", "*")],
                [false, true, true, false],
            ),
            (
                r#"{"type":["network_*","page_load"]}"#,
                &[("type", "network_idle,console_log")],
                [false, true, false, false],
            ),
            (
                r#"{"type":["network_*"]}"#,
                &[("type", "page_load")],
                [false; 4],
            ),
            (
                r#"{"type":["network_*"]}"#,
                &[("category", "page")],
                [false; 4],
            ),
        ] {
            let mut query = query(asked);
            claims(ticket).narrow(&mut query, 0).unwrap();
            let matches = [&load, &idle, &request, &log].map(|it| query.filter.matches(it));
            assert_eq!(matches, expected, "{ticket} {asked:?}");
        }
    }

    #[test]
    fn a_range_says_where_a_stream_may_begin() {
        let range = claims(r#"{"after":10}"#);
        let at = |seq: u64| format!("{seq}-{EPOCH}");
        for (asked, expected) in [
            (&[][..], at(10)),
            (&[("replay", "all")], at(10)),
            (&[("after", "0")], at(10)),
            (&[("after", "9")], at(10)),
            (&[("after", "10")], "10".to_owned()),
            (&[("after", "15")], "15".to_owned()),
            (&[("after", "15-00000000c0ffee00")], at(15)),
            (&[("after", "20"), ("replay", "all")], "20".to_owned()),
            // These would be answered from the oldest event retained.
            (&[("after", "21")], at(10)),
            (&[("after", "15-0000000000000001")], at(10)),
            (&[("after", "what?")], at(10)),
        ] {
            let mut query = query(asked);
            range.narrow(&mut query, 20).unwrap();
            assert_eq!(query.after, Some(expected), "{asked:?}");
        }
        let mut live = query(&[("replay", "live")]);
        range.narrow(&mut live, 20).unwrap();
        assert_eq!(live, query(&[("replay", "live")]));

        let ahead = TicketError::Ahead { after: 10, head: 9 };
        assert_eq!(range.narrow(&mut query(&[]), 9), Err(ahead));
    }

    #[test]
    fn without_a_range_a_stream_begins_where_it_asks() {
        let mut asked = query(&[("after", "what?"), ("notices", "true")]);
        let before = asked.clone();
        claims(r#"{"until":5}"#).narrow(&mut asked, 20).unwrap();
        assert_eq!(asked, before);
    }
}
