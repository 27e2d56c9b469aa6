//! The live page: what a person looks at to find out why a page failed.
//!
//! Files that the program carries along: a document, a style sheet, and modules that import each other. They load
//! nothing from elsewhere, so that they work where nothing else does, and run under a policy that allows no more
//! ([`CONTENT_SECURITY_POLICY`]). What they show was written by pages under test and is hostile: it becomes text,
//! and never markup.

/// Only what the page brings along, connections to where it comes from, and pictures that it has received. It may
/// not be framed: a page that frames it could make its user type the token elsewhere.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self'; connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The headers that go with each of the files, beside its type. They are small and belong to the
/// program that runs, so they are asked for anew each time.
pub(crate) const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
];

/// One file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// The last part of its path: `/page/{name}`.
    pub(crate) name: &'static str,
    /// What is in it.
    pub(crate) text: &'static str,
}

macro_rules! assets {
    ($($name:literal,)*) => {
        &[$(Asset { name: $name, text: include_str!(concat!("page/", $name)) },)*]
    };
}

/// The document.
pub(crate) const DOCUMENT: Asset = Asset {
    name: "index.html",
    text: include_str!("page/index.html"),
};

/// The document of a gateway: its instances.
pub(crate) const FLEET: Asset = Asset {
    name: "fleet.html",
    text: include_str!("page/fleet.html"),
};

/// What the documents load. A test holds the list against the folder.
pub(crate) const ASSETS: &[Asset] = assets![
    "api.js",
    "axis.js",
    "band.js",
    "dom.js",
    "empty.js",
    "file.js",
    "files.js",
    "filters.js",
    "fleet.css",
    "fleet.js",
    "graph.js",
    "joins.js",
    "keys.js",
    "list.js",
    "live.js",
    "main.js",
    "page.css",
    "panel.js",
    "problems.js",
    "rows.js",
    "session.js",
    "store.js",
    "text.js",
    "waterfall.js",
];

impl Asset {
    /// The one of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ASSETS.iter().find(|asset| asset.name == name)
    }

    /// Its media type.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// All files, the documents first.
    fn all() -> impl Iterator<Item = &'static Asset> {
        [&DOCUMENT, &FLEET].into_iter().chain(ASSETS)
    }

    fn scripts() -> impl Iterator<Item = &'static Asset> {
        ASSETS.iter().filter(|asset| asset.name.ends_with(".js"))
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
        let files = fs::read_dir(folder).unwrap();
        let files: BTreeSet<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<_> = all().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(served, files);
    }

    #[test]
    fn the_page_asks_for_its_own_files_and_for_no_others() {
        assert!(
            DOCUMENT
                .text
                .contains(r#"<script type="module" src="page/main.js"></script>"#)
        );
        assert!(
            DOCUMENT
                .text
                .contains(r#"<link rel="stylesheet" href="page/page.css">"#)
        );
        for Asset { name, text } in all() {
            for elsewhere in ["http://", "https://", "src=\"//", "@import", "url("] {
                assert!(!text.contains(elsewhere), "{elsewhere} in {name}");
            }
        }
        for Asset { name, text } in scripts() {
            for import in text.lines().filter(|line| line.starts_with("import")) {
                let (_, from) = import.split_once("\"./").expect("a file beside it");
                let file = from.trim_end_matches("\";");
                assert!(Asset::find(file).is_some(), "{name} imports {file}");
            }
        }
    }

    #[test]
    fn nothing_on_it_needs_more_than_the_policy_allows() {
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            for document in [DOCUMENT, FLEET] {
                assert!(!document.text.contains(inline), "{inline}");
            }
        }
        for document in [DOCUMENT, FLEET] {
            assert_eq!(document.text.matches("<script").count(), 1);
        }
    }

    #[test]
    fn what_a_page_under_test_wrote_becomes_text_only() {
        for Asset { name, text } in scripts() {
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(sink), "{sink} in {name}");
            }
            // Nor does a token survive the page that it was typed into.
            for store in ["localStorage", "sessionStorage", "document.cookie"] {
                assert!(!text.contains(store), "{store} in {name}");
            }
        }
    }

    #[test]
    fn a_name_that_is_none_of_them_is_no_file() {
        for name in ["", "index.html", "..", "../page.rs", "main.js?", "Main.js"] {
            assert_eq!(Asset::find(name), None, "{name}");
        }
        assert_eq!(
            Asset::find("page.css").unwrap().content_type(),
            "text/css; charset=utf-8"
        );
    }
}
