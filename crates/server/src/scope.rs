//! Applies what a caller may do to what it asks for: the instances of its token, and the claims of its ticket.

use tapline_access::{AccessError, Claims, Grant, TicketError};
use tapline_api::{Cursor, Epoch, Filter, FleetQuery, Replay, StreamQuery, TypePattern};

/// Whether the caller may ask for this instance of a fleet; `None` is a server that is no instance, and what is for no
/// instance.
///
/// # Errors
///
/// [`AccessError`] if the token or the ticket is for other instances.
pub(crate) fn check_instance(grant: &Grant, instance: Option<&str>) -> Result<(), AccessError> {
    let is_for = |pattern: &TypePattern| instance.is_some_and(|name| pattern.matches(name));
    if let Some(names) = instances(grant)
        && !names.iter().any(is_for)
    {
        return Err(AccessError::OtherInstance);
    }
    let of_ticket = grant.ticket.as_ref().and_then(Claims::instances);
    if let Some(mut names) = of_ticket
        && !names.any(|name| is_for(&TypePattern::new(name)))
    {
        return Err(TicketError::OtherInstance.into());
    }
    Ok(())
}

/// Whether the caller may use every instance that one of these names stands for.
///
/// # Errors
///
/// [`AccessError`] if its token is for other instances.
pub(crate) fn check_names(grant: &Grant, names: &[String]) -> Result<(), AccessError> {
    let Some(permitted) = instances(grant) else {
        return Ok(());
    };
    // What stands for any characters is matched only by what does so, too, if it is a character that no pattern has.
    let all_of = |name: &String| name.replace('*', "\0");
    let is_within = |name: &String| permitted.iter().any(|it| it.matches(&all_of(name)));
    match names.iter().all(is_within) {
        true => Ok(()),
        false => Err(AccessError::OtherInstance),
    }
}

/// Removes from `query`, for a stream of many instances, what the caller may not read.
///
/// # Errors
///
/// [`TicketError`] where the ticket has a range of seqs: it is of one instance.
pub(crate) fn narrow_fleet(query: &mut FleetQuery, grant: &Grant) -> Result<(), TicketError> {
    query.permitted.extend(instances(grant));
    let Some(claims) = &grant.ticket else {
        return Ok(());
    };
    if claims.after().is_some() || claims.until().is_some() {
        return Err(TicketError::Ranged);
    }
    let of_ticket = claims.instances();
    query
        .permitted
        .extend(of_ticket.map(|names| names.map(TypePattern::new).collect()));
    query.filter = query.filter.narrowed(&filter(claims));
    Ok(())
}

/// The only instances that the caller's token is for; `None` is for all.
pub(crate) fn instances(grant: &Grant) -> Option<Vec<TypePattern>> {
    let names = grant.instances.as_ref()?;
    Some(names.iter().map(|name| TypePattern::new(name)).collect())
}

/// Removes from `query` what the ticket does not permit. `query` is complete: it includes the
/// `Last-Event-ID`, where one was sent; `epoch` and `head` are the stream's.
///
/// With a range, a stream begins at the ticket's `after`, unless a cursor asks for a later position or
/// `replay=live` for the head. A cursor that is no position in this stream also begins there: otherwise it
/// would be answered from the oldest retained event, which may be before the range.
///
/// # Errors
///
/// [`TicketError`] where its range is of another epoch or begins after the head.
pub(crate) fn narrow(
    query: &mut StreamQuery,
    claims: &Claims,
    epoch: Epoch,
    head: u64,
) -> Result<(), TicketError> {
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
        grant.unwrap().ticket.unwrap()
    }

    fn narrow(claims: &Claims, query: &mut StreamQuery, head: u64) -> Result<(), TicketError> {
        super::narrow(query, claims, EPOCH.parse().unwrap(), head)
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
            let refused = super::narrow(&mut query(&[]), &claims, other, 20);
            assert_eq!(refused, Err(TicketError::OtherEpoch));
        }
    }

    #[test]
    fn a_token_and_a_ticket_are_for_the_instances_that_they_name() {
        let refused_token = Err(AccessError::OtherInstance);
        let refused_ticket = Err(AccessError::Ticket(TicketError::OtherInstance));
        for (token, ticket, instance, expected) in [
            (None, None, None, Ok(())),
            (None, None, Some("a-1"), Ok(())),
            (None, Some("a-1"), Some("a-1"), Ok(())),
            (None, Some("a-*"), Some("a-1"), Ok(())),
            (None, Some("a-1"), Some("a-12"), refused_ticket.clone()),
            (None, Some("b,a-*"), Some("a-1"), Ok(())),
            (None, Some("*"), None, refused_ticket.clone()),
            (Some("b,a-*"), None, Some("a-1"), Ok(())),
            (Some("b,a-*"), None, Some("b"), Ok(())),
            (Some("b,a-*"), None, Some("b-1"), refused_token.clone()),
            (Some("*"), None, None, refused_token.clone()),
            // Each of both has to permit it.
            (Some("b"), Some("a-1"), Some("a-1"), refused_token),
            (Some("a-*"), Some("b"), Some("a-1"), refused_ticket),
        ] {
            let grant = Grant {
                instances: token.map(|names| names.split(',').map(str::to_owned).collect()),
                ticket: ticket.map(|name| {
                    let claims = format!(r#"{{"exp":1,"instance":"{name}"}}"#);
                    serde_json::from_str(&claims).unwrap()
                }),
            };
            let checked = check_instance(&grant, instance);
            assert_eq!(checked, expected, "{grant:?} {instance:?}");
        }
    }

    #[test]
    fn names_are_within_those_of_the_token_if_all_that_they_stand_for_are() {
        for (token, asked, is_within) in [
            ("shop-*,till-1", "shop-1", true),
            ("shop-*,till-1", "shop-*", true),
            ("shop-*,till-1", "shop-1*", true),
            ("shop-*,till-1", "shop-*-eu", true),
            ("shop-*,till-1", "till-1", true),
            ("shop-*,till-1", "till-12", false),
            ("shop-*,till-1", "till-*", false),
            ("shop-*,till-1", "shop*", false),
            ("shop-*,till-1", "*", false),
            ("*-eu", "shop-*-eu", true),
            ("*-eu", "shop-*", false),
            ("a*b*c", "a*c", false),
            ("a*b*c", "ab*c", true),
            ("*", "*", true),
        ] {
            let grant = Grant {
                instances: Some(token.split(',').map(str::to_owned).collect()),
                ticket: None,
            };
            let checked = check_names(&grant, &[asked.to_owned()]);
            assert_eq!(checked.is_ok(), is_within, "{token} {asked}");
        }
        let names = ["*".to_owned()];
        assert_eq!(check_names(&Grant::everything(), &names), Ok(()));
    }

    #[test]
    fn a_stream_of_many_has_what_the_token_and_the_ticket_permit() {
        let narrowed = |token: Option<&str>, ticket: &str| {
            let grant = Grant {
                instances: token.map(|names| names.split(',').map(str::to_owned).collect()),
                ticket: Some(serde_json::from_str(ticket).unwrap()),
            };
            let mut query = FleetQuery::from_pairs([("instances", "a*,b*")]).unwrap();
            narrow_fleet(&mut query, &grant).map(|()| query)
        };
        let has = |query: &FleetQuery| ["a-1", "a-2", "b", "c"].map(|name| query.has(name));
        let all = narrowed(None, r#"{"exp":1}"#).unwrap();
        assert_eq!(has(&all), [true, true, true, false]);
        let ticket = r#"{"exp":1,"instance":"a-1,c","category":["page"]}"#;
        let some = narrowed(None, ticket).unwrap();
        assert_eq!(has(&some), [true, false, false, false]);
        let page = tapline_oapi::Category::Page;
        assert_eq!(
            some.filter.categories,
            Some(tapline_oapi::CategorySet::of(&[page]))
        );
        let both = narrowed(Some("a-2,b"), r#"{"exp":1,"instance":"a-*"}"#).unwrap();
        assert_eq!(has(&both), [false, true, false, false]);
        let ranged = narrowed(None, r#"{"exp":1,"after":3,"epoch":"00000000c0ffee00"}"#);
        assert_eq!(ranged.map(drop), Err(TicketError::Ranged));
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
