//! How a stream gets here, and whether the clocks agree.

use std::time::Duration;

use jiff::Timestamp;
use tapline_client::{Client, Probe};

use super::{Check, Outcome, line, unknown};
use crate::figures;

/// How long the first message of a stream may take. It is sent at once; a slow line and a busy machine need a part of
/// this.
const SLOW: Duration = Duration::from_secs(1);

/// How long is waited for it.
const WITHIN: Duration = Duration::from_secs(5);

/// How far two clocks may differ without harm to `--since 5m`.
const CLOCK: Duration = Duration::from_secs(2);

/// Opens a stream. `call` is how long a call takes. Returns the id of the reader, which is gone soon.
pub(super) async fn check(
    client: &Client,
    call: Duration,
    checks: &mut Vec<Check>,
) -> Option<String> {
    let sent = Timestamp::now();
    let probe = match client.probe(WITHIN).await {
        Ok(probe) => probe,
        Err(error) => {
            checks.push(unknown("stream", error));
            return None;
        }
    };
    let received = Timestamp::now();
    checks.push(arrival(&probe, call));
    checks.push(clock(client, &probe, sent, received).await);
    probe.reader.clone()
}

fn arrival(probe: &Probe, call: Duration) -> Check {
    let shown = |time: Duration| figures::duration(time.as_secs_f64() * 1e3);
    let between = match probe.between.is_empty() {
        true => String::new(),
        false => format!(" ({})", line(&probe.between.join(", "))),
    };
    let what = match (probe.head_after, probe.hello_after) {
        (_, Some(after)) if after < SLOW => None,
        (_, Some(after)) => Some(format!("its first message took {}", shown(after))),
        (Some(_), None) => Some(format!(
            "its first message did not come within {}",
            shown(WITHIN)
        )),
        (None, None) => Some(format!("its answer did not begin within {}", shown(WITHIN))),
    };
    if let Some(what) = what {
        let text = format!(
            "something between{between} holds the stream back: {what}, while a call takes {}; set the proxy to pass \
             text/event-stream on at once (nginx: proxy_buffering off, proxy_http_version 1.1), as docs/proxies.md has it",
            shown(call)
        );
        return Check::new("stream", Outcome::Mend, text);
    }
    let after = shown(probe.hello_after.unwrap_or_default());
    if let Some(encoding) = &probe.encoding {
        let text = format!(
            "a program between{between} compresses the stream ({}), although this client does not ask for it: events \
             may wait in it; switch that off for text/event-stream",
            line(encoding)
        );
        return Check::new("stream", Outcome::Mend, text);
    }
    let text = match probe.between.is_empty() {
        true => format!("its first message arrives after {after}: nothing holds it back"),
        false => {
            format!("a proxy is between{between}; it passes the first message on after {after}")
        }
    };
    Check::new("stream", Outcome::Ok, text)
}

/// Compares the time at which the server opened our stream with the time in which we did.
async fn clock(client: &Client, probe: &Probe, sent: Timestamp, received: Timestamp) -> Check {
    let readers = match client.readers().await {
        Ok(readers) => readers,
        Err(error) => return unknown("clock", error),
    };
    let own = readers
        .readers
        .iter()
        .find(|it| Some(&it.id) == probe.reader.as_ref());
    let Some(own) = own else {
        let text = "not compared: the stream, which has the server's time, did not begin";
        return Check::new("clock", Outcome::Unknown, text);
    };
    compared(own.opened_at, sent, received)
}

/// The server did `opened` between `sent` and `received`, if the clocks agree.
fn compared(opened: Timestamp, sent: Timestamp, received: Timestamp) -> Check {
    let is_ahead = received < opened;
    let by = match is_ahead {
        true => opened.duration_since(received),
        false => sent.duration_since(opened),
    };
    // Negative where it is between them.
    let by = Duration::try_from(by).unwrap_or_default();
    if by <= CLOCK {
        let most = by + Duration::try_from(received.duration_since(sent)).unwrap_or_default();
        let text = format!(
            "the server's and this machine's differ by {} at most",
            figures::duration(most.as_secs_f64() * 1e3)
        );
        return Check::new("clock", Outcome::Ok, text);
    }
    let text = format!(
        "the server's is {} {} this machine's: times such as `--since 5m` are the server's; set both clocks by NTP",
        figures::duration(by.as_secs_f64() * 1e3),
        if is_ahead { "ahead of" } else { "behind" },
    );
    Check::new("clock", Outcome::Mend, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(opened: i64, result: Outcome, text: &str) {
        let at = |millis: i64| Timestamp::from_millisecond(1_795_349_358_000 + millis).unwrap();
        let check = compared(at(opened), at(0), at(40));
        assert_eq!(check.result, result);
        assert!(check.text.contains(text), "{}", check.text);
    }

    #[test]
    fn clocks_are_compared_by_when_the_server_opened_the_stream() {
        check(20, Outcome::Ok, "differ by 40 ms at most");
        check(1_040, Outcome::Ok, "differ by 1.04 s at most");
        check(
            90_040,
            Outcome::Mend,
            "is 1 min 30 s ahead of this machine's",
        );
        check(-3_000, Outcome::Mend, "is 3.00 s behind this machine's");
    }
}
