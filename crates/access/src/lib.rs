//! Who may call: the token, tickets, host and origin rules, and TLS.
//!
//! **What it is.** The rules that protect an HTTP endpoint of Tapline, and the secrets that they need, read
//! from files and replaceable at run time. The server and the DevTools relay use the same rules.
//!
//! **What it is not.** It has no routes and no sockets: a caller passes a request's headers and query, and
//! answers by itself. It does not know the stream: a ticket yields its [`Claims`], and the server applies
//! them.
//!
//! **Start at** [`AccessConfig::load`], and then [`Access::check`] and [`Access::admit`].
//!
//! **Layer.** 4, below `server` and `relay`, which use it.
//!
//! ```
//! use http::{HeaderMap, HeaderValue, header};
//! use tapline_access::{AccessConfig, AccessError, Grant, Requirement, Token, TokenSource};
//!
//! let token = Token::from_variable("TAPLINE_TOKEN", "correct-horse-battery-staple")?;
//! let access = AccessConfig {
//!     token: Some(TokenSource::Fixed(token)),
//!     allow_origins: vec!["https://app.example".to_owned()],
//!     ..AccessConfig::default()
//! }
//! .load()?;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert(header::HOST, HeaderValue::from_static("tapline.example"));
//! access.check(&headers)?;
//! let refused = access.admit(&headers, [], Requirement::Token).unwrap_err();
//! assert_eq!(refused, AccessError::NoToken(Requirement::Token));
//!
//! let sent = HeaderValue::from_static("Bearer correct-horse-battery-staple");
//! headers.insert(header::AUTHORIZATION, sent);
//! let grant = access.admit(&headers, [], Requirement::Token)?;
//! assert_eq!(grant, Grant::everything());
//!
//! // A page of another origin, in a browser that has the token for whatever reason.
//! headers.insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
//! assert!(access.check(&headers).is_err());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod token;
mod instance_tokens;
mod ticket;
mod origin;
mod tls;
mod client_tls;
mod config;
mod access;

#[cfg(test)]
mod scratch;

pub use access::{
    Access, AccessError, Grant, Reload, Reloadable, Reloaded, Requirement, is_ticket,
};
pub use client_tls::client_tls;
pub use config::{AccessConfig, AllowListError, LoadError, TokenSource};
pub use instance_tokens::{InstanceNames, InstanceTokensError};
pub use origin::{Forbidden, OriginError, is_loopback};
pub use ticket::{Claims, IssueError, TicketError};
pub use tls::{TlsError, TlsFiles};
pub use token::{Token, TokenError};
// The types of rustls that servers and clients handle: this crate is the only home of rustls.
pub use rustls::pki_types::ServerName;
pub use tokio_rustls::client::TlsStream as ClientTlsStream;
pub use tokio_rustls::server::TlsStream;
pub use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
