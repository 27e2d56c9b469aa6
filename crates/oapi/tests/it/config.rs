//! Configurations and the state.

use tapline_oapi::{
    BrowserConfig, Category, CategoryConfig, CategorySet, ConfigRequest, Epoch, State, StateConfig,
    from_json,
};

#[track_caller]
fn check(json: &str, enabled: &[Category], explicit: &[(Category, bool)]) {
    let request: ConfigRequest = from_json(json.as_bytes()).unwrap();
    let browser = request.browser.unwrap_or_default();
    assert_eq!(browser.enabled(), CategorySet::of(enabled));
    assert_eq!(browser.explicit().collect::<Vec<_>>(), explicit);
}

#[test]
fn only_explicit_fields_count() {
    check("{}", &[], &[]);
    check(r#"{"browser":null}"#, &[], &[]);
    check(r#"{"browser":{}}"#, &[], &[]);
    check(
        r#"{"browser":{"page":{},"console":null,"network":{"enabled":null}}}"#,
        &[],
        &[],
    );
    check(
        r#"{"browser":{"page":{"enabled":true},"console":{"enabled":false},"system":{"enabled":false},"monitor":{"enabled":true}}}"#,
        &[Category::Page, Category::Monitor],
        &[
            (Category::Console, false),
            (Category::Page, true),
            (Category::System, false),
            (Category::Monitor, true),
        ],
    );
}

#[test]
fn an_absent_browser_is_not_an_empty_one() {
    assert_eq!(from_json::<ConfigRequest>(b"{}").unwrap().browser, None);
    assert_eq!(
        from_json::<ConfigRequest>(br#"{"browser":{}}"#)
            .unwrap()
            .browser,
        Some(BrowserConfig::default())
    );
}

#[test]
fn a_state_names_each_user_facing_category() {
    let browser = BrowserConfig::of(CategorySet::of(&[Category::Network, Category::System]));
    for category in Category::ALL {
        let expected = category.is_user_facing().then_some(CategoryConfig {
            enabled: Some(category == Category::Network),
        });
        assert_eq!(browser.get(category), expected, "{category}");
    }

    let mut state = State {
        config: StateConfig {
            browser,
            ..StateConfig::default()
        },
        seq: 17,
        applied_at: None,
        session_id: None,
        session_start_seq: None,
        epoch: Epoch::from_bits(14),
    };
    const BROWSER: &str = r#"{"console":{"enabled":false},"network":{"enabled":true},"page":{"enabled":false},"interaction":{"enabled":false},"control":{"enabled":false},"platform":{"enabled":false},"connection":{"enabled":false},"screenshot":{"enabled":false},"captcha":{"enabled":false}}"#;
    assert_eq!(
        serde_json::to_string(&state).unwrap(),
        format!(r#"{{"config":{{"browser":{BROWSER}}},"seq":17,"epoch":"000000000000000e"}}"#),
    );

    state.applied_at = Some("2026-11-22T12:09:18.733796Z".parse().unwrap());
    state.session_id = Some("s".to_owned());
    state.session_start_seq = Some(0);
    let json = serde_json::to_string(&state).unwrap();
    assert!(
        json.ends_with(
            r#""seq":17,"applied_at":"2026-11-22T12:09:18.733796Z","session_id":"s","session_start_seq":0,"epoch":"000000000000000e"}"#
        ),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
}
