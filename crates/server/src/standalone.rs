//! The page as one file that shows events without a server: [`Standalone`].
//!
//! A browser loads no modules from `file://`, so the modules of the page become one script. It runs under a policy that
//! allows this script and this style sheet, by their hashes, and no connection.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::digest::{SHA256, digest};

use crate::page::{Asset, DOCUMENT};

/// The page as one file, but for the events that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standalone {
    /// What is before the events.
    pub before: String,
    /// What is behind the events.
    pub after: String,
}

/// The page as one file. The events between its two parts are a bundle as
/// [`BundleWriter::in_html`](tapline_insight::BundleWriter::in_html) writes it.
pub fn standalone() -> &'static Standalone {
    static PAGE: LazyLock<Standalone> = LazyLock::new(|| {
        let main = asset("main.js");
        let (script, style) = (join(main), asset("page.css").text);
        build(DOCUMENT.text, &script, style)
    });
    &PAGE
}

/// What loads the modules and the style sheet in the document.
const SCRIPT: &str = r#"<script type="module" src="page/main.js"></script>"#;
const STYLE: &str = r#"<link rel="stylesheet" href="page/page.css">"#;

fn build(document: &str, script: &str, style: &str) -> Standalone {
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src blob: data:; base-uri 'none'; form-action 'none'",
        hash(script),
        hash(style),
    );
    let head = format!(
        "<head>\n<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n<meta name=\"referrer\" content=\"no-referrer\">"
    );
    let document = document
        .replacen("<head>", &head, 1)
        .replacen(SCRIPT, "", 1)
        .replacen(STYLE, &format!("<style>{style}</style>"), 1);
    let (before, after) = document
        .split_once("</body>")
        .expect("the document has a body");
    Standalone {
        before: format!("{before}<script type=\"application/json\" id=\"bundle\">"),
        after: format!("</script>\n<script type=\"module\">{script}</script>\n</body>{after}"),
    }
}

fn hash(text: &str) -> String {
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

fn asset(name: &str) -> &'static Asset {
    Asset::find(name).unwrap_or_else(|| panic!("the page has no {name}"))
}

/// One script of a module and all that it imports, each in a function of its own.
///
/// Read are imports and exports as the page has them, on one line each: `import { a, b as c } from "./x.js";`, `import * as x
/// from "./x.js";`, and `export` before `const`, `function`, `async function` and `class`. No module may import itself.
fn join(main: &'static Asset) -> String {
    let mut script = String::from("\n");
    let (mut done, mut open) = (BTreeSet::new(), Vec::new());
    add(main, &mut script, &mut done, &mut open);
    script
}

/// Adds a module behind those that it imports.
fn add(
    module: &'static Asset,
    script: &mut String,
    done: &mut BTreeSet<&'static str>,
    open: &mut Vec<&'static str>,
) {
    assert!(
        !open.contains(&module.name),
        "{open:?} import {} in a circle",
        module.name
    );
    if done.contains(module.name) {
        return;
    }
    open.push(module.name);
    let (mut body, mut exports) = (String::new(), Vec::new());
    for line in module.text.lines() {
        if let Some(import) = line.strip_prefix("import ") {
            let (names, from) = read_import(import)
                .unwrap_or_else(|| panic!("{}: cannot be joined: {line}", module.name));
            add(asset(from), script, done, open);
            let _ = writeln!(body, "const {names} = {};", variable(from));
        } else if let Some(export) = line.strip_prefix("export ") {
            let name = exported(export)
                .unwrap_or_else(|| panic!("{}: cannot be joined: {line}", module.name));
            exports.push(name);
            body.push_str(export);
            body.push('\n');
        } else {
            body.push_str(line);
            body.push('\n');
        }
    }
    open.pop();
    done.insert(module.name);
    let (name, exports) = (variable(module.name), exports.join(", "));
    let _ = write!(
        script,
        "// {}\nconst {name} = (() => {{\n{body}return {{ {exports} }};\n}})();\n",
        module.name
    );
}

/// What an import binds, as the pattern of a declaration, and the module.
fn read_import(import: &str) -> Option<(String, &str)> {
    let (names, from) = import.strip_suffix("\";")?.split_once(" from \"./")?;
    let pattern = match names.strip_prefix("* as ") {
        Some(name) => name.to_owned(),
        None => {
            let list = names.strip_prefix('{')?.strip_suffix('}')?;
            format!("{{{}}}", list.replace(" as ", ": "))
        }
    };
    Some((pattern, from))
}

/// The name that a declaration exports.
fn exported(export: &str) -> Option<&str> {
    let kinds = ["const ", "function ", "async function ", "class "];
    let declared = kinds.iter().find_map(|kind| export.strip_prefix(kind))?;
    let end = declared.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')))?;
    (0 < end).then_some(&declared[..end])
}

/// The name of a module's variable: that of its file, with characters that a name may have.
fn variable(name: &str) -> String {
    let stem = name.trim_end_matches(".js");
    let name: String = stem
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect();
    format!("${name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_exports_are_read() {
        let read = |line| read_import(line).map(|(names, from)| format!("{names} {from}"));
        let named = read(r#"{ a, b as c } from "./x.js";"#);
        assert_eq!(named.as_deref(), Some("{ a, b: c } x.js"));
        assert_eq!(
            read(r#"* as graph from "./graph.js";"#).as_deref(),
            Some("graph graph.js")
        );
        for other in [
            r#""./x.js";"#,
            r#"x from "./x.js";"#,
            r#"{ a } from "x.js";"#,
        ] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(exported("const a = 1;"), Some("a"));
        assert_eq!(exported("async function a$1() {"), Some("a$1"));
        assert_eq!(exported("class A extends B {"), Some("A"));
        for other in ["default 1;", "{ a };", "let a = 1;", "const { a } = b;"] {
            assert_eq!(exported(other), None, "{other}");
        }
    }

    /// Each module is there once and behind those that it imports, and nothing is left of how modules are written.
    #[test]
    fn the_page_is_joined_in_the_order_of_its_imports() {
        let script = join(asset("main.js"));
        assert_eq!(script, join(asset("main.js")), "it is the same each time");
        let place = |name: &str| {
            let begin = format!("\nconst {} = (() => {{\n", variable(name));
            assert_eq!(script.matches(&begin).count(), 1, "{name}");
            script.find(&begin).unwrap()
        };
        // The page of a gateway has a script of its own.
        let modules = crate::page::ASSETS.iter();
        for module in modules.filter(|module| module.name != "fleet.js") {
            for line in module.text.lines() {
                if let Some(import) = line.strip_prefix("import ") {
                    let (_, from) = read_import(import).unwrap();
                    assert!(place(from) < place(module.name), "{} {from}", module.name);
                }
            }
        }
        for line in script.lines() {
            assert!(
                !line.starts_with("import ") && !line.starts_with("export "),
                "{line}"
            );
        }
    }

    #[test]
    fn the_file_loads_nothing_and_runs_what_it_has_by_its_hash() {
        let Standalone { before, after } = standalone();
        let file = format!("{before}{{}}{after}");
        assert_eq!(file.matches("<script").count(), 2);
        assert_eq!(file.matches("</script>").count(), 2, "a script ends early");
        for outside in [" src=", " href=", "@import", "url("] {
            assert!(!file.contains(outside), "{outside}");
        }
        let part = |begin: &str, end: &str| {
            let begin = file.find(begin).unwrap() + begin.len();
            let end = begin + file[begin..].find(end).unwrap();
            file[begin..end].to_owned()
        };
        let script = part("<script type=\"module\">", "</script>");
        let style = part("<style>", "</style>");
        for hash in [hash(&script), hash(&style)] {
            assert!(before.contains(&format!("'sha256-{hash}'")));
        }
    }
}
