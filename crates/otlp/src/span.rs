//! A navigation and a request as a span: the mapping that docs/otlp.md describes.

use tapline_oapi::Epoch;
use tapline_oapi::joins::{Navigation, Outcome, Request, Unknown};

use crate::encode::{put_bytes, put_fixed64, put_message, put_text, put_varint};
use crate::record::{Attributes, cut, span_id_of, trace_id_of};
use crate::spans::Notes;

/// The numbers of the fields of a `Span`.
mod field {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const LINKS: u32 = 13;
    pub(super) const STATUS: u32 = 15;

    /// Of an event in a span.
    pub(super) mod event {
        pub(in crate::span) const TIME: u32 = 1;
        pub(in crate::span) const NAME: u32 = 2;
        pub(in crate::span) const ATTRIBUTES: u32 = 3;
    }

    /// Of a status.
    pub(super) mod status {
        pub(in crate::span) const MESSAGE: u32 = 2;
        pub(in crate::span) const CODE: u32 = 3;
    }
}

/// `SpanKind`.
const INTERNAL: u64 = 1;
const CLIENT: u64 = 3;

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// Another span, which a span is related to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
}

impl Link {
    /// From a header `traceparent`. `None` where it is not valid.
    fn of_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = parts.next()?;
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        // A later version may have more parts.
        let is_known = version.len() == 2 && version != "ff" && flags.len() == 2;
        if !is_known || version == "00" && parts.next().is_some() {
            return None;
        }
        Some(Self {
            trace: trace_id_of(trace)?.try_into().ok()?,
            span: span_id_of(span)?.try_into().ok()?,
        })
    }
}

/// Writes the spans of one epoch.
#[derive(Debug)]
pub(crate) struct SpanWriter {
    epoch: Epoch,
    text: String,
}

impl SpanWriter {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            text: epoch.to_string(),
        }
    }

    /// The page is the root of its trace.
    pub(crate) fn navigation(&self, out: &mut Vec<u8>, page: &Navigation, notes: Notes<'_>) {
        let seq = page.at.seq;
        let reached = [
            ("dom_content_loaded", page.dom_content_loaded),
            ("load", page.load),
            ("network_idle", page.network_idle),
            ("layout_settled", page.layout_settled),
            ("navigation_settled", page.settled),
            ("crashed", page.crashed),
        ];
        let last = reached.iter().filter_map(|(_, ts)| *ts).max();
        let is_open = page.crashed.or(page.replaced).or(page.settled).is_none();
        let end = match is_open {
            true => last.unwrap_or(0).max(notes.last_ts),
            false => last.or(page.replaced).unwrap_or(page.ts),
        };
        self.begin(out, seq, seq, None);
        put_text(out, field::NAME, "navigation");
        put_varint(out, field::KIND, INTERNAL);
        times(out, page.start_ts, end);
        let mut attributes = self.attributes(out, seq, notes);
        attributes.text("tapline.type", "page_navigation");
        attributes.some_text("url.full", Some(&page.url));
        attributes.text(
            "tapline.outcome",
            match (page.crashed.is_some(), is_open) {
                (true, _) => "crashed",
                (false, true) => "open",
                (false, false) => "ended",
            },
        );
        attributes.some_text("tapline.target_id", page.place.target_id.as_deref());
        attributes.count("tapline.caused_by", page.caused_by);
        attributes.count("tapline.lost", Some(page.lost).filter(|lost| 0 < *lost));
        for (name, ts) in reached {
            if let Some(ts) = ts {
                event(out, name, ts, None);
            }
        }
        if let Some(lcp) = &page.lcp {
            event(out, "largest_contentful_paint", lcp.ts, None);
        }
        if let Some(link) = notes.link {
            put_link(out, link);
        }
        if page.crashed.is_some() {
            failed(out, "the page crashed");
        }
    }

    /// A request is a child of its page. One that belongs to no page is the root of a trace.
    pub(crate) fn request(&self, out: &mut Vec<u8>, request: &Request, notes: Notes<'_>) {
        let seq = request.at.seq;
        self.begin(
            out,
            seq,
            request.navigation.unwrap_or(seq),
            request.navigation,
        );
        let method = match request.method.is_empty() {
            true => "request",
            false => &request.method,
        };
        put_text(out, field::NAME, &cut(method));
        put_varint(out, field::KIND, CLIENT);
        let end = request.end_ts();
        times(out, request.ts, end.unwrap_or(notes.last_ts));
        let mut attributes = self.attributes(out, seq, notes);
        attributes.text("tapline.type", "network_request");
        attributes.some_text("url.full", Some(&request.url));
        attributes.some_text("tapline.request_id", Some(&request.request_id));
        if !request.method.is_empty() {
            attributes.method(&request.method);
        }
        attributes.some_text("tapline.resource_type", request.resource_type.as_deref());
        let response = request.response.as_ref();
        let status = request.status();
        if let Some(status) = status {
            attributes.integer("http.response.status_code", status.into());
        }
        attributes.protocol(response.and_then(|it| it.protocol.as_deref()));
        let peer = response.and_then(|it| it.remote_ip.as_deref());
        attributes.some_text("network.peer.address", peer);
        attributes.text("tapline.outcome", outcome(request));
        attributes.some_text("tapline.unknown", request.unknown.map(unknown));
        attributes.count("tapline.caused_by", request.caused_by);
        attributes.count("tapline.encoded_bytes", request.encoded_bytes);
        attributes.count("tapline.lost", Some(request.lost).filter(|lost| 0 < *lost));
        let failure = request.failure.as_ref().map(|it| &*it.error_text);
        let error = status
            .filter(|status| 400 <= *status)
            .map(|it| it.to_string());
        attributes.some_text("error.type", failure.or(error.as_deref()));
        for hop in &request.redirects {
            event(out, "redirect", hop.end_ts, Some(&hop.to));
        }
        let headers = request.headers.iter();
        let sent = headers
            .filter(|(name, _)| name.eq_ignore_ascii_case("traceparent"))
            .find_map(|(_, value)| Link::of_traceparent(value));
        for link in sent
            .into_iter()
            .chain(notes.link.filter(|it| Some(*it) != sent))
        {
            put_link(out, link);
        }
        if request.is_problem() {
            failed(out, failure.unwrap_or_default());
        }
    }

    fn begin(&self, out: &mut Vec<u8>, seq: u64, root: u64, parent: Option<u64>) {
        put_bytes(out, field::TRACE_ID, &trace_id(self.epoch, root));
        put_bytes(out, field::SPAN_ID, &span_id(self.epoch, seq));
        if let Some(parent) = parent {
            put_bytes(out, field::PARENT_SPAN_ID, &span_id(self.epoch, parent));
        }
    }

    /// What all spans have.
    fn attributes<'o>(&self, out: &'o mut Vec<u8>, seq: u64, notes: Notes<'_>) -> Attributes<'o> {
        let mut attributes = Attributes::new(out, field::ATTRIBUTES);
        attributes.count("tapline.seq", Some(seq));
        attributes.text("tapline.epoch", &self.text);
        attributes.some_text("session.id", notes.session);
        attributes
    }
}

/// In microseconds since the Unix epoch. A span does not end before it begins.
fn times(out: &mut Vec<u8>, start: u64, end: u64) {
    put_fixed64(out, field::START, start.saturating_mul(1000));
    put_fixed64(out, field::END, end.max(start).saturating_mul(1000));
}

fn event(out: &mut Vec<u8>, name: &str, ts: u64, url: Option<&str>) {
    put_message(out, field::EVENTS, |out| {
        put_fixed64(out, field::event::TIME, ts.saturating_mul(1000));
        put_text(out, field::event::NAME, name);
        Attributes::new(out, field::event::ATTRIBUTES).some_text("url.full", url);
    });
}

fn put_link(out: &mut Vec<u8>, link: Link) {
    put_message(out, field::LINKS, |out| {
        put_bytes(out, field::TRACE_ID, &link.trace);
        put_bytes(out, field::SPAN_ID, &link.span);
    });
}

fn failed(out: &mut Vec<u8>, message: &str) {
    put_message(out, field::STATUS, |out| {
        if !message.is_empty() {
            put_text(out, field::status::MESSAGE, &cut(message));
        }
        put_varint(out, field::status::CODE, ERROR);
    });
}

fn outcome(request: &Request) -> &'static str {
    match request.outcome {
        Outcome::Pending => "pending",
        Outcome::Open => "open",
        Outcome::Answered => "answered",
        Outcome::Failed if request.was_given_up() => "given_up",
        Outcome::Failed => "failed",
        Outcome::Unknown => "unknown",
    }
}

fn unknown(reason: Unknown) -> &'static str {
    match reason {
        Unknown::EventsLost => "events_lost",
        Unknown::Restart => "restart",
        Unknown::NotCaptured => "not_captured",
        Unknown::SentAgain => "sent_again",
    }
}

/// The same for the same event of the same epoch, always, and different for any other.
///
/// The bits are mixed: samplers take them for random ones.
fn span_id(epoch: Epoch, seq: u64) -> [u8; 8] {
    let bits = mixed(mixed(epoch.bits()).wrapping_add(seq));
    // An id of only zeros is none.
    bits.max(1).to_be_bytes()
}

fn trace_id(epoch: Epoch, seq: u64) -> [u8; 16] {
    let high = mixed(!mixed(epoch.bits()).wrapping_add(seq));
    let low = mixed(high ^ epoch.bits());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.max(1).to_be_bytes());
    id[8..].copy_from_slice(&low.to_be_bytes());
    id
}

/// Two different numbers give two different ones (the last step of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_follow_from_the_epoch_and_the_seq() {
        let (one, other) = (Epoch::from_bits(7), Epoch::from_bits(8));
        let ids = |epoch| (1..10_000).map(move |seq| (span_id(epoch, seq), trace_id(epoch, seq)));
        let all: HashSet<_> = ids(one).chain(ids(other)).collect();
        assert_eq!(all.len(), 2 * 9_999);
        let spans: HashSet<_> = ids(one).map(|(span, _)| span).collect();
        assert_eq!(spans.len(), 9_999);
        assert_eq!(span_id(one, 5), span_id(one, 5));
        assert_ne!(span_id(Epoch::from_bits(0), 0), [0; 8]);
    }

    #[test]
    fn a_traceparent_is_a_link() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let link = Link::of_traceparent(valid).unwrap();
        assert_eq!((link.trace[0], link.span[7]), (0x4b, 0xb7));
        assert!(Link::of_traceparent(&format!("{valid}-more")).is_none());
        assert_eq!(
            Link::of_traceparent(&format!("cc{}-more", &valid[2..])),
            Some(link)
        );
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(Link::of_traceparent(wrong).is_none(), "{wrong}");
        }
    }
}
