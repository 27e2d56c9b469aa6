//! Server-Sent Events, read as their specification says, with nothing passed over.

use std::net::SocketAddr;

use serde_json::Value;

use crate::http::{Connection, Head, Request, get};

/// A comment, or all other lines up to a blank line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) comments: Vec<String>,
    pub(crate) event: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
    /// The `data` lines, joined by line breaks.
    pub(crate) data: Option<String>,
}

impl Frame {
    /// What it is called; empty for an event of the stream, and for a comment.
    pub(crate) fn name(&self) -> &str {
        self.event.as_deref().unwrap_or_default()
    }

    pub(crate) fn is_event(&self) -> bool {
        self.event.is_none() && self.data.is_some()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("a frame with data")).unwrap()
    }

    /// A notice carries the position behind it for an id, so that its client resumes there. A session notice
    /// has none.
    #[track_caller]
    pub(crate) fn assert_resumes_behind(&self) {
        let notice = self.json();
        let field = match self.name() {
            "hello" => "used",
            "gap" => "to",
            "filter" => "after",
            "beat" => "position",
            "bye" => "last_seq",
            _ => return assert_eq!(self.id, None, "{self:?}"),
        };
        let id = self.id.as_deref().unwrap();
        let (seq, epoch) = id.split_once('-').unwrap();
        assert_eq!(seq, notice[field].to_string(), "{self:?}");
        assert_eq!(epoch.len(), 16, "{self:?}");
    }

    /// The seq within the envelope, which has to be the one in the id.
    pub(crate) fn seq(&self) -> u64 {
        let seq = self.json()["seq"].as_u64().unwrap();
        let id = self.id.as_deref().unwrap();
        assert_eq!(id.split('-').next().unwrap(), seq.to_string());
        seq
    }

    /// The one comment that it is.
    pub(crate) fn comment(&self) -> &str {
        match &self.comments[..] {
            [comment] if self.data.is_none() => comment,
            _ => panic!("not a comment: {self:?}"),
        }
    }
}

pub(crate) struct Stream {
    connection: Connection,
    pub(crate) head: Head,
    unread: Vec<u8>,
    ended: bool,
}

impl Stream {
    pub(crate) async fn open(addr: SocketAddr, query: &str) -> Self {
        Self::ask(addr, &get(&format!("/telemetry/stream?{query}"))).await
    }

    /// As a browser does that lost its connection.
    pub(crate) async fn resume(addr: SocketAddr, query: &str, last: impl AsRef<[u8]>) -> Self {
        let target = format!("/telemetry/stream?{query}");
        Self::ask(addr, &get(&target).header("last-event-id", last)).await
    }

    pub(crate) async fn ask(addr: SocketAddr, request: &Request) -> Self {
        Self::over(Connection::open(addr).await, request).await
    }

    pub(crate) async fn over(mut connection: Connection, request: &Request) -> Self {
        connection.write(&request.bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.status, 200);
        Self {
            connection,
            head,
            unread: Vec::new(),
            ended: false,
        }
    }

    /// The next frame; `None` where the stream came to its proper end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut looked_at = 0;
        loop {
            // Clients in wide use take a blank line for an event once they have seen an id.
            assert!(
                !self.unread.starts_with(b"\n"),
                "a blank line without a frame"
            );
            if self.unread.starts_with(b":")
                && let Some(at) = self.unread.iter().position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = self.unread.drain(..=at).collect();
                let line = String::from_utf8(line).unwrap();
                assert!(!line.contains('\r'), "a bare carriage return: {line:?}");
                let comment = line.trim_end_matches('\n').strip_prefix(": ").unwrap();
                return Some(Frame {
                    comments: vec![comment.to_owned()],
                    ..Frame::default()
                });
            }
            let end = self.unread[looked_at..]
                .windows(2)
                .position(|two| two == b"\n\n");
            if let Some(at) = end {
                let frame: Vec<u8> = self.unread.drain(..looked_at + at + 2).collect();
                return Some(parse(std::str::from_utf8(&frame).unwrap()));
            }
            looked_at = self.unread.len().saturating_sub(1);
            if !self.ended {
                self.ended = !self.connection.read_chunk(&mut self.unread).await;
            }
            if self.ended {
                assert_eq!(self.unread, b"", "half a frame");
                return None;
            }
        }
    }

    pub(crate) async fn expect(&mut self) -> Frame {
        self.next().await.expect("the stream should continue")
    }

    /// The next event, passing over comments and notices.
    pub(crate) async fn event(&mut self) -> Frame {
        loop {
            let frame = self.expect().await;
            if frame.is_event() {
                return frame;
            }
        }
    }

    /// The next frame of this name, passing over everything else.
    pub(crate) async fn notice(&mut self, name: &str) -> Value {
        loop {
            let frame = self.expect().await;
            if frame.name() == name {
                frame.assert_resumes_behind();
                return frame.json();
            }
        }
    }

    /// The next comment about the stream's beginning, passing over the one about a cursor without an epoch.
    pub(crate) async fn comment(&mut self) -> String {
        loop {
            let frame = self.expect().await;
            if !frame.comment().starts_with("epoch ") {
                return frame.comment().to_owned();
            }
        }
    }

    /// The seqs of the next so many events.
    pub(crate) async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(self.event().await.seq());
        }
        seqs
    }

    /// All that comes up to the end.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

fn parse(text: &str) -> Frame {
    // It would end a line, too, and no frame of ours has a use for that.
    assert!(!text.contains('\r'), "a bare carriage return: {text:?}");
    let mut frame = Frame::default();
    let text = text.strip_suffix("\n\n").unwrap();
    for line in text.split('\n') {
        let (name, value) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("no field: {line:?}"));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let slot = match name {
            "" => panic!("a comment within a frame: {text:?}"),
            "data" => {
                match &mut frame.data {
                    None => frame.data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                }
                continue;
            }
            "retry" => {
                frame.retry = Some(value.parse().unwrap());
                continue;
            }
            "id" => &mut frame.id,
            "event" => &mut frame.event,
            _ => panic!("an unknown field: {line:?}"),
        };
        assert_eq!(slot.replace(value.to_owned()), None, "twice: {line:?}");
    }
    frame
}
