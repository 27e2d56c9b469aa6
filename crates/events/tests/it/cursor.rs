use tapline_events::Cursor;

#[test]
fn both_forms_are_read_and_nothing_else_is() {
    let epoch = "00000000c0ffee00".parse().unwrap();
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
        let read = text
            .parse::<Cursor>()
            .ok()
            .map(|cursor| (cursor.seq, cursor.epoch));
        assert_eq!(read, expected, "{text:?}");
    }
}

#[test]
fn it_is_written_as_it_is_read() {
    for text in ["7", "7-00000000c0ffee00"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
}
