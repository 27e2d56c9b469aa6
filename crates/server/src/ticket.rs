//! Applies the claims of a ticket to a query.

use tapline_access::{Claims, TicketError};
use tapline_api::{Cursor, Epoch, Filter, Replay, StreamQuery, TypePattern};

/// Removes from `query` what the ticket does not permit. `query` is complete: it includes the
/// `Last-Event-ID`, where one was sent; `epoch` and `head` are the stream's, and `instance` is its name in a fleet.
///
/// With a range, a stream begins at the ticket's `after`, unless a cursor asks for a later position or
/// `replay=live` for the head. A cursor that is no position in this stream also begins there: otherwise it
/// would be answered from the oldest retained event, which may be before the range.
///
/// # Errors
///
/// [`TicketError`] where the ticket is for another instance, or its range is of another epoch or begins after the head.
pub(crate) fn narrow(
    query: &mut StreamQuery,
    claims: &Claims,
    epoch: Epoch,
    head: u64,
    instance: Option<&str>,
) -> Result<(), TicketError> {
    if let Some(pattern) = claims.instance()
        && !instance.is_some_and(|name| TypePattern::new(pattern).matches(name))
    {
        return Err(TicketError::OtherInstance);
    }
    query.filter = query.filter.narrowed(&filter(claims));
    if claims.epoch().is_some_and(|of| of != epoch.to_string()) {
        return Err(TicketError::OtherEpoch);
    }
    query.earlier_epochs = claims.epoch().is_none();
    let Some(after) = claims.after() else {
        return Ok(());
    };
    if head < after {
        return Err(TicketError::Ahead { after, head });
    }
    let begins_within = match (&query.after, query.replay) {
        (Some(cursor), _) => cursor.parse().is_ok_and(|cursor: Cursor| {
            (after..=head).contains(&cursor.seq) && cursor.epoch.is_none_or(|of| of == epoch)
        }),
        (None, Some(Replay::Live)) => true,
        (None, Some(Replay::All) | None) => false,
    };
    if !begins_within {
        let epoch = Some(epoch);
        query.after = Some(Cursor { seq: after, epoch }.to_string());
        query.replay = None;
    }
    Ok(())
}

/// The events that the ticket permits.
pub(crate) fn filter(claims: &Claims) -> Filter {
    let mut filter = Filter::all();
    filter.categories = claims.categories();
    filter.types = claims
        .types()
        .iter()
        .map(|text| TypePattern::new(text))
        .collect();
    filter
}

#[cfg(test)]
mod tests {
    use tapline_access::{Access, Grant, Requirement};
    use tapline_oapi::from_json;

    use super::*;

    const EPOCH: &str = "00000000c0ffee00";

    /// The claims of a ticket that is issued for `json`.
    fn claims(json: &str) -> Claims {
        let access = Access::default();
        let request = from_json(json.as_bytes()).unwrap();
        let ticket = access.issue(&request, EPOCH, None).unwrap().ticket;
        let query = [("ticket", &*ticket)];
        let grant = access.admit(&Default::default(), query, Requirement::TokenOrTicket);
        match grant.unwrap() {
            Grant::Ticket(claims) => claims,
            Grant::Full => unreachable!("a ticket was sent"),
        }
    }

    fn narrow(claims: &Claims, query: &mut StreamQuery, head: u64) -> Result<(), TicketError> {
        super::narrow(query, claims, EPOCH.parse().unwrap(), head, None)
    }

    fn query(pairs: &[(&str, &str)]) -> StreamQuery {
        StreamQuery::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_range_of_another_epoch_is_refused() {
        for range in [r#"{"after":0}"#, r#"{"until":5}"#] {
            let claims = claims(range);
            assert_eq!(narrow(&claims, &mut query(&[]), 20), Ok(()));
            let other = "0000000000000001".parse().unwrap();
            let refused = super::narrow(&mut query(&[]), &claims, other, 20, None);
            assert_eq!(refused, Err(TicketError::OtherEpoch));
        }
    }

    #[test]
    fn a_ticket_is_for_the_instances_that_it_names() {
        for (ticket, instance, is_for) in [
            (r#"{"exp":1}"#, None, true),
            (r#"{"exp":1}"#, Some("a-1"), true),
            (r#"{"exp":1,"instance":"a-1"}"#, Some("a-1"), true),
            (r#"{"exp":1,"instance":"a-*"}"#, Some("a-1"), true),
            (r#"{"exp":1,"instance":"a-1"}"#, Some("a-12"), false),
            (r#"{"exp":1,"instance":"*"}"#, None, false),
        ] {
            let claims: Claims = serde_json::from_str(ticket).unwrap();
            let epoch = EPOCH.parse().unwrap();
            let narrowed = super::narrow(&mut query(&[]), &claims, epoch, 0, instance);
            let expected = if is_for {
                Ok(())
            } else {
                Err(TicketError::OtherInstance)
            };
            assert_eq!(narrowed, expected, "{ticket} {instance:?}");
        }
    }

    #[test]
    fn a_ticket_only_narrows_the_filter() {
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
            narrow(&claims(ticket), &mut query, 0).unwrap();
            let matches = [&load, &idle, &request, &log].map(|it| query.filter.matches(it));
            assert_eq!(matches, expected, "{ticket} {asked:?}");
        }
    }

    #[test]
    fn a_range_bounds_where_a_stream_begins() {
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
            // Without the ticket, these are answered from the oldest retained event.
            (&[("after", "21")], at(10)),
            (&[("after", "15-0000000000000001")], at(10)),
            (&[("after", "what?")], at(10)),
        ] {
            let mut query = query(asked);
            narrow(&range, &mut query, 20).unwrap();
            assert_eq!(query.after, Some(expected), "{asked:?}");
        }
        let mut live = query(&[("replay", "live")]);
        narrow(&range, &mut live, 20).unwrap();
        assert_eq!((live.after, live.replay), (None, Some(Replay::Live)));

        let ahead = TicketError::Ahead { after: 10, head: 9 };
        assert_eq!(narrow(&range, &mut query(&[]), 9), Err(ahead));
    }

    #[test]
    fn without_a_range_a_stream_begins_where_it_asks() {
        let mut asked = query(&[("after", "what?"), ("notices", "true")]);
        let before = asked.clone();
        narrow(&claims(r#"{"until":5}"#), &mut asked, 20).unwrap();
        assert_eq!((&asked.after, asked.notices), (&before.after, true));
        assert!(!asked.earlier_epochs, "what it permits is of this epoch");
        let mut unbounded = before.clone();
        narrow(&claims("{}"), &mut unbounded, 20).unwrap();
        assert_eq!(unbounded, before);
    }
}
