//! The live page: what a person looks at to find out why a page failed.
//!
//! Three files that the program carries along. They load nothing from elsewhere, so that they work
//! where nothing else does, and run under a policy that allows no more ([`CONTENT_SECURITY_POLICY`]).
//! What they show was written by pages under test and is hostile: it becomes text, and never markup.

use crate::route::Route;

/// Only what the page brings along, and connections to where it comes from. It may not be framed:
/// a page that frames it could make its user type the token elsewhere.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// What is in it.
    pub(crate) text: &'static str,
}

/// The headers that go with each of the files, beside its type. They are small and belong to the
/// program that runs, so they are asked for anew each time.
pub(crate) const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
];

/// The file behind a route, if it is one of the page's.
pub(crate) const fn asset(route: Route) -> Option<Asset> {
    let (content_type, text) = match route {
        Route::ShowPage => ("text/html; charset=utf-8", include_str!("page/index.html")),
        Route::PageScript => (
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        ),
        Route::PageStyle => ("text/css; charset=utf-8", include_str!("page/page.css")),
        _ => return None,
    };
    Some(Asset { content_type, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(route: Route) -> &'static str {
        asset(route).unwrap().text
    }

    #[test]
    fn the_page_asks_for_its_own_files_and_for_no_others() {
        let html = text(Route::ShowPage);
        assert!(html.contains(r#"<script src="page.js" defer></script>"#));
        assert!(html.contains(r#"<link rel="stylesheet" href="page.css">"#));
        for part in [html, text(Route::PageScript), text(Route::PageStyle)] {
            for elsewhere in ["http://", "https://", "src=\"//", "@import", "url("] {
                assert!(!part.contains(elsewhere), "{elsewhere}");
            }
        }
    }

    #[test]
    fn nothing_on_it_needs_more_than_the_policy_allows() {
        let html = text(Route::ShowPage);
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert_eq!(html.matches("<script").count(), 1);
    }

    #[test]
    fn what_a_page_under_test_wrote_becomes_text_only() {
        let script = text(Route::PageScript);
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!script.contains(sink), "{sink}");
        }
        // Nor does a token survive the page that it was typed into.
        for store in ["localStorage", "sessionStorage", "document.cookie"] {
            assert!(!script.contains(store), "{store}");
        }
    }

    #[test]
    fn only_the_pages_routes_have_a_file() {
        let files: Vec<_> = Route::ALL
            .iter()
            .copied()
            .filter(|route| asset(*route).is_some())
            .collect();
        let expected = [Route::ShowPage, Route::PageScript, Route::PageStyle];
        assert_eq!(files, expected);
    }
}
