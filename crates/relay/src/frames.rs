//! Follows the frames of one direction of a WebSocket (RFC 6455), beside the bytes that pass.
//!
//! Only headers are parsed, so a payload of any size costs one addition. Of messages that a [`Listener`]
//! wants, the beginning is kept, unmasked.

/// How much of a client's message is kept, in bytes: twice the longest URL that is published.
pub(crate) const KEPT: usize = 16 * 1024;

/// The longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Receives messages.
pub(crate) trait Listener {
    /// A message begins: how much of it to keep, in bytes, if any.
    fn wants(&mut self) -> Option<usize>;

    /// A kept message has ended. `beginning` is all of it, up to so many bytes.
    fn message(&mut self, beginning: Vec<u8>);
}

/// These bytes are not frames of a WebSocket without extensions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(&'static str);

/// The sender of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// It masks every frame.
    Client,
    /// It masks no frame.
    Server,
}

/// The position in the frames of one direction.
#[derive(Debug)]
pub(crate) struct Frames {
    sender: Sender,
    header: [u8; MAX_HEADER],
    /// How many bytes of the header were received.
    have: usize,
    /// How much of the payload is still to come; `None` while the header is incomplete.
    payload: Option<u64>,
    /// The masking key of the payload, rotated to the next byte.
    mask: [u8; 4],
    /// The current frame is the last one of a message.
    ends: bool,
    /// The current frame is a control frame, which may stand between the frames of a message.
    control: bool,
    /// A message has begun and has not ended.
    open: bool,
    kept: Option<Vec<u8>>,
    /// How much of the message is kept at most, in bytes.
    limit: usize,
    messages: u64,
    closing: bool,
}

impl Frames {
    pub(crate) fn of(sender: Sender) -> Self {
        Self {
            sender,
            header: [0; MAX_HEADER],
            have: 0,
            payload: None,
            mask: [0; 4],
            ends: false,
            control: false,
            open: false,
            kept: None,
            limit: 0,
            messages: 0,
            closing: false,
        }
    }

    /// How many messages have ended. Control frames are not counted.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether this side has sent a close frame.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Reads the next bytes. After an error, the position of frames is lost for good.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        listener: &mut impl Listener,
    ) -> Result<(), Unreadable> {
        loop {
            let payload = match self.payload {
                Some(payload) => payload,
                None => match self.header(&mut bytes)? {
                    Some(payload) => self.begin(payload, listener)?,
                    None => return Ok(()),
                },
            };
            let here = usize::try_from(payload).map_or(bytes.len(), |all| all.min(bytes.len()));
            let (part, rest) = bytes.split_at(here);
            bytes = rest;
            self.keep(part);
            let left = payload - here as u64;
            self.payload = Some(left);
            if left > 0 {
                return Ok(());
            }
            self.end(listener);
        }
    }

    /// Reads header bytes, and returns the length of the payload once the header is complete.
    fn header(&mut self, bytes: &mut &[u8]) -> Result<Option<u64>, Unreadable> {
        loop {
            let length = match self.have {
                0 | 1 => 2,
                _ => self.header_length()?,
            };
            if self.have == length {
                break;
            }
            let here = bytes.len().min(length - self.have);
            if here == 0 {
                return Ok(None);
            }
            self.header[self.have..self.have + here].copy_from_slice(&bytes[..here]);
            self.have += here;
            *bytes = &bytes[here..];
        }
        let [_, second, ..] = self.header;
        Ok(Some(match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.header[2..10]);
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        }))
    }

    /// The header's length, from its first two bytes.
    fn header_length(&self) -> Result<usize, Unreadable> {
        let masked = self.header[1] & 0x80 != 0;
        if masked != (self.sender == Sender::Client) {
            return Err(Unreadable(
                "the masking is wrong: clients mask every frame, servers none",
            ));
        }
        let length = match self.header[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        Ok(if masked { length + 4 } else { length })
    }

    fn begin(&mut self, payload: u64, listener: &mut impl Listener) -> Result<u64, Unreadable> {
        let first = self.header[0];
        if first & 0x70 != 0 {
            return Err(Unreadable(
                "a reserved bit is set, but no extension was negotiated",
            ));
        }
        if payload >> 63 != 0 {
            return Err(Unreadable("a payload length of more than 63 bits"));
        }
        let last = first & 0x80 != 0;
        let opcode = first & 0x0f;
        self.control = opcode >= 8;
        self.ends = last && !self.control;
        match opcode {
            0 if self.open => {}
            1 | 2 if !self.open => {
                self.open = true;
                let limit = listener.wants();
                self.kept = limit.map(|_| Vec::new());
                self.limit = limit.unwrap_or(0);
            }
            0..=2 => {
                return Err(Unreadable(
                    "a new message within a message, or a continuation without one",
                ));
            }
            8..=10 if last && payload <= 125 => self.closing |= opcode == 8,
            8..=10 => {
                return Err(Unreadable(
                    "a control frame that is fragmented or longer than 125 bytes",
                ));
            }
            _ => return Err(Unreadable("an unknown opcode")),
        }
        if self.sender == Sender::Client {
            self.mask
                .copy_from_slice(&self.header[self.have - 4..self.have]);
        }
        Ok(payload)
    }

    fn keep(&mut self, part: &[u8]) {
        let Some(kept) = self.kept.as_mut().filter(|_| !self.control) else {
            return;
        };
        let part = &part[..part.len().min(self.limit - kept.len())];
        let begin = kept.len();
        kept.extend_from_slice(part);
        if self.sender == Sender::Client {
            for chunk in kept[begin..].chunks_mut(4) {
                for (byte, key) in chunk.iter_mut().zip(self.mask) {
                    *byte ^= key;
                }
            }
            // The rotation is right only while all bytes are kept; afterwards none is.
            self.mask.rotate_left(part.len() % 4);
        }
    }

    fn end(&mut self, listener: &mut impl Listener) {
        self.payload = None;
        self.have = 0;
        if self.ends {
            self.open = false;
            self.messages += 1;
            if let Some(kept) = self.kept.take() {
                listener.message(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keeps nothing: messages are only counted.
    impl Listener for () {
        fn wants(&mut self) -> Option<usize> {
            None
        }

        fn message(&mut self, _: Vec<u8>) {}
    }

    /// Keeps every message.
    #[derive(Default)]
    struct All(Vec<Vec<u8>>);

    impl Listener for All {
        fn wants(&mut self) -> Option<usize> {
            Some(KEPT)
        }

        fn message(&mut self, beginning: Vec<u8>) {
            self.0.push(beginning);
        }
    }

    /// The frame as it goes over the wire; a client's where there is a mask.
    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(masked | length as u8),
            length @ 126..65_536 => {
                frame.push(masked | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(masked | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        match mask {
            None => frame.extend(payload),
            Some(mask) => {
                frame.extend(mask);
                frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
            }
        }
        frame
    }

    const MASK: Option<[u8; 4]> = Some([1, 20, 80, 250]);

    #[test]
    fn a_message_may_come_in_parts_with_a_ping_between() {
        let bytes = [
            frame(0x01, b"{\"id\":", MASK),
            frame(0x89, b"ping", MASK),
            frame(0x00, b"", MASK),
            frame(0x80, b"1}", MASK),
            frame(0x82, b"", MASK),
            frame(0x88, b"\x03\xe8", MASK),
        ]
        .concat();
        let mut all = All::default();
        let mut frames = Frames::of(Sender::Client);
        frames.read(&bytes, &mut all).unwrap();
        assert_eq!(all.0, [b"{\"id\":1}".to_vec(), Vec::new()]);
        assert_eq!(frames.messages(), 2);
        assert!(frames.is_closing());
    }

    #[test]
    fn the_beginning_of_a_long_message_is_kept() {
        let payload: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for (sender, mask) in [(Sender::Client, MASK), (Sender::Server, None)] {
            let bytes = [frame(0x81, &payload, mask), frame(0x81, b"x", mask)].concat();
            let mut all = All::default();
            Frames::of(sender).read(&bytes, &mut all).unwrap();
            assert_eq!(all.0, [payload[..KEPT].to_vec(), b"x".to_vec()]);
        }
    }

    #[test]
    fn unreadable_bytes_are_an_error_that_names_the_fault() {
        let long = frame(0x89, &[0; 126], None);
        let huge = [&[0x82, 127, 0xff][..], &[0; 7]].concat();
        let masked = frame(0x81, b"x", MASK);
        let cases = [
            (frame(0xc1, b"x", None), "extension"),
            (frame(0x83, b"x", None), "unknown opcode"),
            (frame(0x80, b"x", None), "continuation without"),
            (frame(0x01, b"x", None).repeat(2), "within a message"),
            (frame(0x09, b"x", None), "control frame"),
            (long, "control frame"),
            (huge, "63 bits"),
            (masked, "masking"),
            (b"HTTP/1.1 400 Bad Request".to_vec(), "extension"),
        ];
        for (bytes, expected) in cases {
            let error = Frames::of(Sender::Server)
                .read(&bytes, &mut ())
                .unwrap_err();
            assert!(error.to_string().contains(expected), "{error} {bytes:?}");
        }
        let unmasked = frame(0x81, b"x", None);
        Frames::of(Sender::Client)
            .read(&unmasked, &mut ())
            .unwrap_err();
    }

    proptest! {
        /// However the bytes are split on their way, the same messages are read.
        #[test]
        fn splitting_the_bytes_changes_nothing(
            messages in prop::collection::vec(prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>()), 1..4), 0..6),
            cuts in prop::collection::vec(1_usize..40, 1..50),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for parts in &messages {
                for (at, (part, mask)) in parts.iter().enumerate() {
                    let opcode = u8::from(at == 0);
                    let last = if at + 1 == parts.len() { 0x80 } else { 0 };
                    bytes.extend(frame(last | opcode, part, Some(*mask)));
                }
                expected.push(parts.iter().flat_map(|(part, _)| part.clone()).collect::<Vec<_>>());
            }
            let mut all = All::default();
            let mut frames = Frames::of(Sender::Client);
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (part, behind) = rest.split_at(rest.len().min(*cut));
                frames.read(part, &mut all).unwrap();
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(frames.messages(), expected.len() as u64);
            prop_assert_eq!(all.0, expected);
        }

        /// Whatever comes, it is read or refused.
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for sender in [Sender::Client, Sender::Server] {
                let mut all = All::default();
                let mut frames = Frames::of(sender);
                if frames.read(&bytes, &mut all).is_ok() {
                    prop_assert_eq!(frames.messages(), all.0.len() as u64);
                }
            }
        }
    }
}
