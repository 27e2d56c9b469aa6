//! `cargo xtask words`: coined words stay out of docs, help texts, comments, identifiers and messages.
//!
//! Many readers are not native speakers of English, and every field has standard terms. [`WORDS`] lists what was coined here
//! once, with the term to use instead. Names are split into their words first (`tell_refused`, `KeeperThread`), and a phrase
//! is found across line breaks. [`ALLOWED`] lists the uses that are right, each with a reason.

use crate::failure::{Failure, Outcome};
use crate::files::{self, Text};
use crate::options::Options;

/// A word or phrase in lower case, and what to write instead.
const WORDS: &[(&str, &str)] = &[
    ("told", TELL),
    ("tell", TELL),
    ("tells", TELL),
    ("telling", TELL),
    ("teller", "event publisher"),
    ("hear", HEAR),
    ("hears", HEAR),
    ("heard", HEAR),
    ("hearing", HEAR),
    ("keeper", "notifier thread"),
    ("keepers", "notifier threads"),
    ("whoever", PROGRAM),
    ("whomever", PROGRAM),
    ("somebody", PROGRAM),
    ("someone", PROGRAM),
    ("nobody", "no client, no process, no reader"),
    ("everybody", "every client, every reader"),
    ("anybody", PROGRAM),
    ("stranger", "unknown"),
    ("strangers", "unknown crates"),
    ("lobby", "pending joins"),
    ("knock", "notify"),
    ("knocks", "notifies"),
    ("door", "membership queue, notify"),
    ("doors", "membership queue, notify"),
    ("stand aside", "back off"),
    ("stands aside", "backs off"),
    ("goes on", "continues, resumes"),
    ("go on", "continue, resume"),
    ("going on", "in progress"),
    ("comes in", "enters, arrives"),
    ("lies down", "registers"),
    ("lie down", "register"),
    ("laid", "registered, placed"),
    ("pile", "waiter stack"),
    ("piled", "registered"),
    ("bed", "wait node"),
    ("beds", "wait nodes"),
    ("yard", "retire list"),
    ("litter", "garbage pending"),
    ("stray", "overflow stack"),
    ("strays", "overflow stack"),
    ("seat", "member, entry"),
    ("seats", "members, entries"),
    ("owes", "the operation's name"),
    ("floor", "layer"),
    ("floors", "layers"),
    ("room", "crate, module, layer; for capacity: space"),
    ("rooms", "crates, modules, layers"),
    ("roof", "top layer"),
    ("house", "workspace, project"),
    ("workshop", "tools"),
];

const TELL: &str = "report, send, log, emit: whichever of them it is";
const HEAR: &str = "receive, handle, notice";
const PROGRAM: &str = "the client, the process, the thread, the caller";

/// A use that is right: the word, a part of the line that it is on, and the reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("floor", "Math.floor", "a function of JavaScript"),
    ("floor", ".floor()", "a method of floating-point numbers"),
    ("floor", "floor_char_boundary", "a method of strings"),
    ("laid", "laid out", "a browser's layout of a page"),
];

/// Files that are looked at, by their ending.
const ENDINGS: &[&str] = &[".rs", ".md", ".js", ".mjs", ".toml", ".html", ".sh", ".txt"];

/// This list itself.
const EXEMPT: &str = "xtask/src/words.rs";

const ADVICE: &str = "Write the standard term; a use that is right goes into ALLOWED in xtask/src/words.rs with its reason. \
     The findings of a folder only: cargo xtask words -- crates/ring";

pub(crate) fn run(options: &Options) -> Outcome {
    let is_chosen = |path: &str| {
        options.rest.is_empty() || options.rest.iter().any(|it| path.starts_with(it.as_str()))
    };
    let texts = files::texts(|path| {
        ENDINGS.iter().any(|ending| path.ends_with(ending)) && path != EXEMPT && is_chosen(path)
    })?;
    let findings = texts.iter().flat_map(findings);
    Failure::unless_empty(findings.map(|finding| finding.line()).collect(), ADVICE)
}

/// A coined word.
#[derive(Debug, PartialEq, Eq)]
struct Finding<'a> {
    path: &'a str,
    /// From 1.
    line: usize,
    word: &'static str,
    instead: &'static str,
}

impl Finding<'_> {
    fn line(&self) -> String {
        let Self {
            path,
            line,
            word,
            instead,
        } = self;
        format!("{path}:{line}: `{word}`; write: {instead}")
    }
}

fn findings(text: &Text) -> Vec<Finding<'_>> {
    let tokens = tokens(&text.text);
    let lines: Vec<&str> = text.text.lines().collect();
    let mut findings = Vec::new();
    for start in 0..tokens.len() {
        for (word, instead) in WORDS {
            if !begins_with(&tokens[start..], word) {
                continue;
            }
            let line = tokens[start].line;
            if !is_allowed(word, lines.get(line - 1).unwrap_or(&"")) {
                findings.push(Finding {
                    path: &text.path,
                    line,
                    word,
                    instead,
                });
            }
        }
    }
    findings
}

fn is_allowed(word: &str, line: &str) -> bool {
    ALLOWED
        .iter()
        .any(|(allowed, part, _)| *allowed == word && line.contains(part))
}

/// A word of a text, in lower case.
struct Token {
    word: String,
    line: usize,
    /// Something other than space, underscores and comment signs stands before it.
    after_stop: bool,
}

fn begins_with(tokens: &[Token], phrase: &str) -> bool {
    let words: Vec<&str> = phrase.split(' ').collect();
    words.len() <= tokens.len()
        && words.iter().enumerate().all(|(number, word)| {
            tokens[number].word == *word && (number == 0 || !tokens[number].after_stop)
        })
}

/// The words of a text; a name in snake case or camel case is several.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut after_stop = false;
    let mut word = String::new();
    let mut previous = ' ';
    for letter in text.chars().chain(['\n']) {
        let within = letter.is_alphabetic()
            && previous.is_alphabetic()
            && !(letter.is_uppercase() && previous.is_lowercase());
        if !within && !word.is_empty() {
            tokens.push(Token {
                word: std::mem::take(&mut word),
                line,
                after_stop: std::mem::take(&mut after_stop),
            });
        }
        if letter.is_alphabetic() {
            word.extend(letter.to_lowercase());
        } else if !(letter.is_whitespace() || "_/!#*".contains(letter)) {
            after_stop = true;
        }
        if letter == '\n' {
            line += 1;
        }
        previous = letter;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let text = Text {
            path: "crates/x/src/lib.rs".to_owned(),
            text: text.to_owned(),
        };
        let found = findings(&text);
        let found: Vec<(usize, &str)> = found.iter().map(|it| (it.line, it.word)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_word_is_found_in_prose_and_in_names() {
        check("A loss is told.\n", &[(1, "told")]);
        check(
            "\nfn tell_refused(keeper: &KeeperThread) {}",
            &[(2, "tell"), (2, "keeper"), (2, "keeper")],
        );
        check("untold, foretells, housekeeping, TOLD\n", &[(1, "told")]);
    }

    #[test]
    fn a_phrase_is_found_across_lines_of_a_comment_and_not_across_sentences() {
        check("/// The reader goes\n/// on.", &[(1, "goes on")]);
        check("there it goes. On the other hand", &[]);
    }

    #[test]
    fn a_use_with_a_reason_is_allowed() {
        check("Math.floor(3.5)", &[]);
        check("on floor 3", &[(1, "floor")]);
    }
}
