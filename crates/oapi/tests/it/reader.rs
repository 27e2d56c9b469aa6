//! The list of readers, patches of readers, and tickets.

use tapline_oapi::{
    Category, CategorySet, ErrorCode, OnLag, ReaderInfo, ReaderKind, ReaderList, ReaderPatch,
    ReaderPatched, Ticket, TicketRequest, from_json,
};

#[test]
fn a_list_is_read_as_it_was_written() {
    let info = ReaderInfo {
        id: "r1".to_owned(),
        kind: ReaderKind::Stream,
        peer: "127.0.0.1:9".to_owned(),
        opened_at: "2026-11-22T12:09:18.733796Z".parse().unwrap(),
        category: None,
        r#type: vec![],
        notices: true,
        overtaken: OnLag::Oldest,
        epoch: None,
        position: 7,
        behind_events: 2,
        behind_bytes: 900,
        behind_seconds: 1.5,
        delivered: 4,
        filtered: 2,
        lost: 1,
    };
    let narrow = ReaderInfo {
        kind: ReaderKind::Wait,
        category: Some(CategorySet::of(&[Category::Page])),
        r#type: vec!["page_*".to_owned()],
        overtaken: OnLag::Close,
        ..info.clone()
    };
    let list = ReaderList {
        head: 9,
        readers: vec![info, narrow],
    };
    let json = serde_json::to_string(&list).unwrap();
    let of = |kind, asked, overtaken| {
        format!(
            r#"{{"id":"r1","kind":"{kind}","peer":"127.0.0.1:9","opened_at":"2026-11-22T12:09:18.733796Z",{asked}"notices":true,"overtaken":"{overtaken}","position":7,"behind_events":2,"behind_bytes":900,"behind_seconds":1.5,"delivered":4,"filtered":2,"lost":1}}"#
        )
    };
    let first = of("stream", "", "oldest");
    let second = of("wait", r#""category":["page"],"type":["page_*"],"#, "close");
    assert_eq!(
        json,
        format!(r#"{{"head":9,"readers":[{first},{second}]}}"#)
    );
    assert_eq!(serde_json::from_str::<ReaderList>(&json).unwrap(), list);

    let patched = ReaderPatched {
        id: "r1".to_owned(),
        category: None,
        r#type: vec!["x".to_owned()],
        after: 4,
    };
    let json = serde_json::to_string(&patched).unwrap();
    assert_eq!(json, r#"{"id":"r1","type":["x"],"after":4}"#);
    assert_eq!(
        serde_json::from_str::<ReaderPatched>(&json).unwrap(),
        patched
    );
}

#[test]
fn an_empty_list_is_not_an_absent_list() {
    let nothing = ReaderPatch::default();
    for same in ["{}", r#"{"category":null,"type":null}"#] {
        assert_eq!(from_json::<ReaderPatch>(same.as_bytes()).unwrap(), nothing);
    }
    let patch: ReaderPatch = from_json(br#"{"category":[],"type":[]}"#).unwrap();
    assert_eq!(
        (patch.category, patch.r#type),
        (Some(CategorySet::EMPTY), Some(vec![]))
    );
}

#[track_caller]
fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(
    json: &str,
    code: ErrorCode,
    message: &str,
) {
    let error = from_json::<T>(json.as_bytes()).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn an_error_names_the_field_that_is_out_of_bounds() {
    use ErrorCode::{InvalidField, UnknownField};
    let many = format!(r#"{{"type":[{}]}}"#, vec![r#""x""#; 101].join(","));
    refused::<ReaderPatch>(&many, InvalidField, "field `type`: more than 100 types");
    refused::<TicketRequest>(&many, InvalidField, "field `type`: more than 100 types");
    refused::<ReaderPatch>(
        r#"{"type":["a",""]}"#,
        InvalidField,
        "field `type`: an event type must not be empty",
    );
    refused::<ReaderPatch>(
        r#"{"category":["pages"]}"#,
        InvalidField,
        "field `category[0]`: unknown value `pages`",
    );
    refused::<ReaderPatch>(r#"{"types":[]}"#, UnknownField, "field `types`");
    refused::<TicketRequest>(r#"{"untill":1}"#, UnknownField, "field `untill`");
    for seconds in ["0", "3601"] {
        let json = format!(r#"{{"expires_in":{seconds}}}"#);
        refused::<TicketRequest>(
            &json,
            InvalidField,
            "field `expires_in`: a ticket must be valid for 1 to 3600 seconds",
        );
    }
    for field in ["after", "until"] {
        let json = format!(r#"{{"{field}":9223372036854775808}}"#);
        let message = format!("field `{field}`: a seq must be from 0 to 2^63 - 1");
        refused::<TicketRequest>(&json, InvalidField, &message);
    }
}

#[test]
fn a_ticket_is_valid_for_five_minutes_by_default() {
    let lifetime = |json: &str| {
        from_json::<TicketRequest>(json.as_bytes())
            .unwrap()
            .lifetime()
    };
    assert_eq!(lifetime("{}"), 300);
    assert_eq!(lifetime(r#"{"expires_in":null}"#), 300);
    assert_eq!(
        lifetime(r#"{"expires_in":3600,"after":9223372036854775807,"until":0}"#),
        3600
    );
}

#[test]
fn debug_does_not_show_the_ticket() {
    let ticket = Ticket {
        ticket: "secret".to_owned(),
        expires_at: "2026-11-22T12:09:18Z".parse().unwrap(),
    };
    assert!(!format!("{ticket:?}").contains("secret"));
    let json = serde_json::to_string(&ticket).unwrap();
    assert_eq!(
        json,
        r#"{"ticket":"secret","expires_at":"2026-11-22T12:09:18Z"}"#
    );
}
