//! `GET /fleet/stream`: the events of many instances on one connection.
//!
//! It is written as the body of an answer, and not by the streams of one backend ([`crate::stream`]): there is nothing to
//! share, since each event names its instance.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use tapline_api::{Epoch, FleetEvent, FleetItem, FleetQuery, FleetReader};
use tapline_oapi::ByeReason;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::answer::{Body, Failure, Whole};
use crate::export::ExportBody;
use crate::host::Host;
use crate::metrics::StreamEnd;
use crate::routes::mark_as_stream;
use crate::stream::{StreamPermit, write_data};

/// So many pieces wait for a client that is slow.
const PIECES: usize = 4;

/// What a notice about an instance has.
#[derive(Serialize)]
struct OfInstance<'a> {
    instance: &'a str,
    epoch: Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matching: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Epoch>,
}

#[derive(Serialize)]
struct Hello<'a> {
    asked: Option<&'a str>,
    reason: &'static str,
}

#[derive(Serialize)]
struct Bye {
    reason: ByeReason,
}

/// Begins the stream. `expires` is the time after which it ends.
pub(super) fn begin(
    host: &Arc<Host>,
    reader: Box<dyn FleetReader>,
    query: &FleetQuery,
    expires: Option<Duration>,
) -> Result<Whole, Failure> {
    let (asked, notices) = (query.after.as_deref(), query.notices);
    let mut permit = StreamPermit::acquire(host)?;
    permit.begin();
    let (pieces, body) = mpsc::channel(PIECES);
    let mut first = Vec::new();
    let reason = match (asked, reader.is_evicted()) {
        (None, _) => "fresh",
        (Some(_), false) => "resumed",
        (Some(_), true) => "evicted",
    };
    if notices {
        notice(
            &mut first,
            "hello",
            &reader.cursor(),
            &Hello { asked, reason },
        );
    } else if reader.is_evicted() {
        first.extend_from_slice(
            b": gap: some of what follows the cursor is not stored any more, and how much is not known\n",
        );
    } else {
        first.extend_from_slice(b": connected\n");
    }
    let writing = Writing {
        host: host.clone(),
        reader,
        notices,
        expires: expires.map(|time| Instant::now() + time),
        pieces,
    };
    host.spawn(async move {
        let end = writing.run(first.into()).await;
        permit.end(end);
    });
    let mut answer = Response::new(Body::Export(ExportBody(body)));
    mark_as_stream(answer.headers_mut());
    Ok(answer)
}

struct Writing {
    host: Arc<Host>,
    reader: Box<dyn FleetReader>,
    notices: bool,
    /// When the ticket that opened it expires.
    expires: Option<Instant>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Writing {
    async fn run(mut self, first: Bytes) -> StreamEnd {
        if self.pieces.send(Ok(first)).await.is_err() {
            return StreamEnd::Client;
        }
        loop {
            let beat = self.host.options.beat.max(Duration::from_millis(1));
            let mut out = Vec::new();
            let ended = tokio::select! {
                biased;
                () = self.host.stopping.cancelled() => Some(ByeReason::Shutdown),
                () = expired(self.expires) => Some(ByeReason::Expired),
                () = self.pieces.closed() => return StreamEnd::Client,
                read = self.reader.next() => match read {
                    Some(items) => {
                        for item in &items {
                            self.write(&mut out, item);
                        }
                        None
                    }
                    None => Some(ByeReason::Restarted),
                },
                () = sleep(beat) => {
                    match self.notices {
                        true => notice(&mut out, "beat", &self.reader.cursor(), &()),
                        false => out.extend_from_slice(b": keep-alive\n"),
                    }
                    None
                }
            };
            if let Some(reason) = ended {
                match self.notices {
                    true => notice(&mut out, "bye", &self.reader.cursor(), &Bye { reason }),
                    false => out.extend_from_slice(b": bye: connect again with the last id\n"),
                }
            }
            if self.pieces.send(Ok(out.into())).await.is_err() {
                return StreamEnd::Client;
            }
            if let Some(reason) = ended {
                return reason.into();
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>, item: &FleetItem) {
        let FleetItem {
            instance,
            epoch,
            what,
            cursor,
        } = item;
        let of = OfInstance {
            instance,
            epoch: *epoch,
            from: None,
            to: None,
            count: None,
            matching: None,
            before: None,
        };
        match what {
            FleetEvent::Event(envelope) => {
                // A name needs no escape.
                let begin = format!("{{\"instance\":\"{instance}\",\"epoch\":\"{epoch}\",");
                let json = envelope.json();
                let mut parts = json.parts().into_iter();
                let rest = parts.next().unwrap_or_default().strip_prefix('{');
                out.extend_from_slice(format!("id: {cursor}\n").as_bytes());
                let parts = [&*begin, rest.unwrap_or_default()].into_iter().chain(parts);
                write_data(out, parts);
            }
            FleetEvent::Lost(lost) if self.notices => {
                let gap = OfInstance {
                    from: Some(lost.first),
                    to: Some(lost.last),
                    count: Some(lost.count()),
                    matching: lost.matching,
                    ..of
                };
                notice(out, "gap", cursor, &gap);
            }
            FleetEvent::Lost(lost) => {
                let at_most = if lost.matching.is_none() {
                    "at most "
                } else {
                    ""
                };
                let (count, first, last) = (lost.at_most(), lost.first, lost.last);
                let line =
                    format!(": gap: {instance}: {at_most}{count} lost, seq {first} to {last}\n");
                out.extend_from_slice(line.as_bytes());
            }
            FleetEvent::Epoch { from } if self.notices => {
                let before = Some(*from);
                notice(out, "epoch", cursor, &OfInstance { before, ..of });
            }
            FleetEvent::Epoch { from } => {
                let line = format!(": epoch: {instance}: {from} ends here; {epoch} follows\n");
                out.extend_from_slice(line.as_bytes());
            }
        }
    }
}

async fn expired(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

fn notice(out: &mut Vec<u8>, name: &str, cursor: &str, value: &impl Serialize) {
    let json = serde_json::to_string(value).expect("our own types serialize");
    out.extend_from_slice(format!("event: {name}\nid: {cursor}\ndata: {json}\n\n").as_bytes());
}
