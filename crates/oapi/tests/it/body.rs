use tapline_oapi::body::is_text;

#[test]
fn text_is_recognised_by_its_media_type() {
    for text in [
        "text/html",
        "text/css; charset=utf-8",
        "application/json",
        "application/problem+json",
        "image/svg+xml",
        "Application/JavaScript",
    ] {
        assert!(is_text(text), "{text}");
    }
    for other in [
        "",
        "image/png",
        "application/octet-stream",
        "font/woff2",
        "video/mp4",
        "application/pdf",
        "application/wasm",
    ] {
        assert!(!is_text(other), "{other}");
    }
}
