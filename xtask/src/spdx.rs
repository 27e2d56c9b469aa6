//! SPDX licence expressions, as far as manifests use them: identifiers, `AND`, `OR`, `WITH`, parentheses, and the slash that
//! older manifests write for `OR`.

use std::error::Error;
use std::fmt;
use std::iter::Peekable;
use std::vec;

/// Whether a choice among the allowed licences satisfies the expression.
///
/// `X WITH Y` is a licence of its own: it is allowed where it is listed as such.
pub(crate) fn is_satisfied(expression: &str, allowed: &[&str]) -> Result<bool, Malformed> {
    let mut parser = Parser {
        words: words(expression).into_iter().peekable(),
        allowed,
    };
    let satisfied = parser.any_of()?;
    match parser.words.next() {
        None => Ok(satisfied),
        Some(word) => Err(Malformed {
            found: Some(word),
            expected: "AND, OR or the end",
        }),
    }
}

/// A text that is no licence expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// None at the end of the text.
    found: Option<String>,
    expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(word) => write!(f, "`{word}` stands where {} is expected", self.expected),
            None => write!(f, "it ends where {} is expected", self.expected),
        }
    }
}

impl Error for Malformed {}

/// By recursive descent, with a function for each strength of binding. Every side is read to its end, also where the answer
/// is known already: a malformed rest is not to pass unseen.
struct Parser<'a> {
    words: Peekable<vec::IntoIter<String>>,
    allowed: &'a [&'a str],
}

impl Parser<'_> {
    fn any_of(&mut self) -> Result<bool, Malformed> {
        let mut satisfied = self.all_of()?;
        while self.take("OR") {
            satisfied |= self.all_of()?;
        }
        Ok(satisfied)
    }

    fn all_of(&mut self) -> Result<bool, Malformed> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool, Malformed> {
        if self.take("(") {
            let satisfied = self.any_of()?;
            return if self.take(")") {
                Ok(satisfied)
            } else {
                Err(Malformed {
                    found: self.words.next(),
                    expected: "`)`",
                })
            };
        }
        let mut licence = self.identifier()?;
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.identifier()?);
        }
        Ok(self.allowed.contains(&licence.as_str()))
    }

    fn identifier(&mut self) -> Result<String, Malformed> {
        let word = self.words.next();
        match word {
            Some(word) if !matches!(word.as_str(), "AND" | "OR" | "WITH" | "(" | ")") => Ok(word),
            found => Err(Malformed {
                found,
                expected: "an identifier",
            }),
        }
    }

    fn take(&mut self, word: &str) -> bool {
        self.words.next_if(|next| next == word).is_some()
    }
}

fn words(expression: &str) -> Vec<String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[&str] = &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];

    #[track_caller]
    fn check(expression: &str, expected: bool) {
        assert_eq!(
            is_satisfied(expression, ALLOWED),
            Ok(expected),
            "{expression}"
        );
    }

    #[track_caller]
    fn check_malformed(expression: &str, message: &str) {
        let malformed = is_satisfied(expression, ALLOWED).unwrap_err();
        assert_eq!(malformed.to_string(), message, "{expression}");
    }

    #[test]
    fn one_licence_is_listed_or_not() {
        check("MIT", true);
        check("GPL-3.0-only", false);
        check("MIT-0", false);
    }

    #[test]
    fn of_alternatives_one_is_enough() {
        check("GPL-3.0-only OR MIT", true);
        check("MIT OR GPL-3.0-only", true);
        check("GPL-3.0-only OR LGPL-2.1-or-later", false);
        check("Apache-2.0/MIT", true);
    }

    #[test]
    fn of_what_is_joined_all_are_needed() {
        check("MIT AND ISC", true);
        check("MIT AND GPL-3.0-only", false);
    }

    #[test]
    fn and_binds_stronger_than_or() {
        check("MIT OR ISC AND GPL-3.0-only", true);
        check("GPL-3.0-only AND ISC OR MIT", true);
        check("(MIT OR ISC) AND GPL-3.0-only", false);
        check("(GPL-3.0-only OR MIT) AND (ISC OR Unicode-3.0)", true);
    }

    #[test]
    fn an_exception_makes_a_licence_of_its_own() {
        check("Apache-2.0 WITH LLVM-exception", true);
        check("Apache-2.0", false);
        check("MIT WITH LLVM-exception", false);
        check("Apache-2.0 OR Apache-2.0 WITH LLVM-exception", true);
    }

    #[test]
    fn what_is_no_expression_is_an_error_however_it_begins() {
        check_malformed("", "it ends where an identifier is expected");
        check_malformed("MIT OR", "it ends where an identifier is expected");
        check_malformed(
            "MIT ISC",
            "`ISC` stands where AND, OR or the end is expected",
        );
        check_malformed("(MIT OR ISC", "it ends where `)` is expected");
        check_malformed("MIT)", "`)` stands where AND, OR or the end is expected");
        check_malformed("AND MIT", "`AND` stands where an identifier is expected");
    }
}
