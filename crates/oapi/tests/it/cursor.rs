use tapline_oapi::{Cursor, CursorError, Epoch};

#[test]
fn only_seq_and_seq_with_epoch_are_cursors() {
    let epoch = Epoch::from_bits(0xc0ff_ee00);
    for (text, expected) in [
        ("0", Some((0, None))),
        ("42", Some((42, None))),
        ("18446744073709551615", Some((u64::MAX, None))),
        ("42-00000000c0ffee00", Some((42, Some(epoch)))),
        ("42-00000000C0FFEE00", Some((42, Some(epoch)))),
        ("", None),
        ("-", None),
        ("42-", None),
        ("-00000000c0ffee00", None),
        ("+42", None),
        (" 42", None),
        ("42 ", None),
        ("4 2", None),
        ("18446744073709551616", None),
        ("000000000000000000000042", None),
        ("42-c0ffee00", None),
        ("42-00000000c0ffee00-1", None),
        ("42-000000000000000g", None),
        ("42-+0000000c0ffee00", None),
        ("४२", None),
    ] {
        let read = text.parse::<Cursor>();
        match expected {
            Some((seq, epoch)) => assert_eq!(read, Ok(Cursor { seq, epoch }), "{text:?}"),
            None => assert_eq!(read, Err(CursorError::Cursor(text.to_owned())), "{text:?}"),
        }
    }
}

#[test]
fn a_cursor_is_written_in_the_form_in_which_it_is_read() {
    for text in ["7", "7-00000000c0ffee00"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
}

#[test]
fn an_epoch_is_a_json_string_of_16_hexadecimal_digits() {
    let epoch = Epoch::from_bits(0xc0ff_ee00);
    assert_eq!(
        serde_json::to_string(&epoch).unwrap(),
        r#""00000000c0ffee00""#
    );
    assert_eq!(
        serde_json::from_str::<Epoch>(r#""00000000c0ffee00""#).unwrap(),
        epoch
    );
    for json in [
        r#""""#,
        r#""c0ffee00""#,
        r#""+0000000c0ffee00""#,
        "7",
        "null",
    ] {
        assert!(serde_json::from_str::<Epoch>(json).is_err(), "{json}");
    }
}

#[test]
fn an_error_names_the_form_and_stays_short() {
    assert_eq!(
        "x".parse::<Cursor>().unwrap_err().to_string(),
        "`x` is not a cursor; write SEQ or SEQ-EPOCH, such as `41` or `41-00000000c0ffee00`"
    );
    assert_eq!(
        "x".parse::<Epoch>().unwrap_err().to_string(),
        "`x` is not an epoch; write 16 hexadecimal digits, such as `00000000c0ffee00`"
    );
    let long = "ü".repeat(100_000).parse::<Cursor>().unwrap_err();
    assert!(long.to_string().len() < 300, "{long}");
}
