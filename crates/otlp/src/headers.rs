//! The headers that a collector asks for, such as a token, from a file that may change while it is used.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// More than any server accepts in its headers.
const MAX_BYTES: u64 = 64 * 1024;

/// Those that the sender sets, or that belong to the connection.
const RESERVED: &[HeaderName] = &[
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Why a file of headers cannot be used. The error contains nothing of its content but names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadersError {
    /// It cannot be read.
    #[error("cannot read the headers file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no header.
    #[error("the headers file {}, line {line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Reads `name: value`, one header a line. Empty lines and those that begin with `#` are skipped. Values are marked
/// as sensitive, so that no debug output contains them.
///
/// Blocks on the disk.
pub(crate) fn read(path: &Path) -> Result<HeaderMap, HeadersError> {
    let text = text_of(path).map_err(|source| HeadersError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut headers = HeaderMap::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = header(line).map_err(|fault| HeadersError::Line {
            path: path.to_owned(),
            line: n + 1,
            fault,
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    if MAX_BYTES < file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = line.split_once(':').ok_or("expected `name: value`")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| "what is before the colon is no name of a header")?;
    if RESERVED.contains(&name) {
        return Err("this header is set by Tapline; remove the line");
    }
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| "what is after the colon is no value of a header")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<HeaderMap, HeadersError> {
        let name = format!(
            "tapline-headers-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let headers = read(&path);
        std::fs::remove_file(&path).unwrap();
        headers
    }

    #[test]
    fn a_line_is_a_header() {
        let headers = check("# of the vendor\n\nAuthorization: Bearer a:b=\r\nX-Tenant:7").unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b=");
        assert_eq!(headers["x-tenant"], "7");
        assert!(!format!("{headers:?}").contains("Bearer"));
    }

    #[test]
    fn an_error_names_the_line_and_not_its_content() {
        for (text, expected) in [
            ("a: b\nsecret", "line 2: expected `name: value`"),
            ("sec ret: 1", "line 1: what is before the colon"),
            ("a: sec\u{7f}ret", "line 1: what is after the colon"),
            ("Content-Length: 5", "line 1: this header is set by Tapline"),
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("sec ret"),
                "{error}"
            );
        }
        assert!(matches!(
            check(&"#".repeat(70_000)),
            Err(HeadersError::Read { .. })
        ));
        assert!(read(Path::new("/nowhere/headers")).is_err());
    }
}
