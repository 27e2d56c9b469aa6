//! What the server captures, and what becomes of it: session, browser, sinks, readers, losses.

use tapline_client::{Client, Cursor, Error, PageOptions, PageOrder};
use tapline_oapi::{Category, CategorySet, Envelope, ReaderInfo, SinkInfo, State};

use super::metrics::Metrics;
use super::{Check, Outcome, line, session, unknown};
use crate::figures::{Clock, counted};

/// Looks at all of them. `own` is a reader of ours. Whether all could be looked at.
pub(super) async fn check(
    client: &Client,
    state: Option<&State>,
    metrics: &Metrics,
    own: Option<&str>,
    checks: &mut Vec<Check>,
) -> bool {
    let before = checks.len();
    checks.push(session(state, metrics));
    checks.push(match browser(client, state, metrics).await {
        Ok(check) => check,
        Err(error) => unknown("browser", error),
    });
    match client.sinks().await {
        Ok(list) => checks.extend(sinks(&list.sinks, metrics)),
        Err(error) => checks.push(unknown("sinks", error)),
    }
    match client.readers().await {
        Ok(list) => {
            let others = list.readers.iter().filter(|it| Some(&*it.id) != own);
            checks.push(readers(&others.collect::<Vec<_>>(), metrics));
        }
        Err(error) => checks.push(unknown("readers", error)),
    }
    checks.push(loss(metrics));
    checks.extend(limits(metrics));
    checks[before..]
        .iter()
        .all(|it| it.result != Outcome::Unknown)
}

/// Whether the browser source has its browser.
async fn browser(
    client: &Client,
    state: Option<&State>,
    metrics: &Metrics,
) -> Result<Check, Error> {
    let check = |result, text: String| Ok(Check::new("browser", result, line(&text)));
    let of_browser = &[("source", "browser")];
    if !metrics.has("tapline_source_unreadable_total", of_browser) {
        let text = "the server has no browser source: it has the events that are published to it; --cdp URL names a \
                    browser";
        return check(Outcome::Note, text.to_owned());
    }
    let running = state.filter(|it| it.session_id.is_some());
    let Some((state, start)) = running.and_then(|it| Some((it, it.session_start_seq?))) else {
        let text = "not connected: the source runs while a session does";
        return check(Outcome::Note, text.to_owned());
    };
    let unreadable = metrics.sum("tapline_source_unreadable_total", of_browser);
    if 0 < unreadable {
        let text = format!(
            "{} of the browser could not be read, so events may be missing: is it newer than this Tapline?",
            counted(unreadable, "message")
        );
        return check(Outcome::Mend, text);
    }
    let of_session = |types: &[&str]| PageOptions {
        after: Some(Cursor {
            seq: start,
            epoch: Some(state.epoch),
        }),
        types: types.iter().map(|&it| it.to_owned()).collect(),
        order: PageOrder::NewestFirst,
        limit: 1,
        ..PageOptions::default()
    };
    let newest = async |types: &[&str]| {
        let page = client.page(&of_session(types)).await?;
        Ok((page.envelopes.into_iter().next(), page.lost))
    };
    let (monitor, _) = newest(&[
        "monitor_disconnected",
        "monitor_reconnected",
        "monitor_reconnect_failed",
        "monitor_init_failed",
    ])
    .await?;
    // The first thing that a browser reports are its tabs.
    let (tab, lost) = newest(&["page_tab_opened"]).await?;
    let seq = |envelope: &Option<Envelope>| envelope.as_ref().map_or(0, |it| it.seq);
    let has_tab_since = seq(&monitor) < seq(&tab);
    match monitor {
        Some(monitor) => {
            let at = Clock::new(false).of_day(monitor.event.ts);
            let event_type = monitor.event.event_type.as_str();
            let reason = data(&monitor, "reason");
            let step = data(&monitor, "step");
            match event_type {
                "monitor_disconnected" if !has_tab_since => {
                    let text = format!(
                        "lost at {at} ({reason}); the source tries to reach it again: check that the browser runs"
                    );
                    return check(Outcome::Mend, text);
                }
                "monitor_reconnect_failed" if !has_tab_since => {
                    let text = format!(
                        "given up at {at}: start the browser that --cdp names, then `tapline stop` and `tapline start`"
                    );
                    return check(Outcome::Mend, text);
                }
                "monitor_init_failed" if !has_tab_since && is_no_browser(&step) => {
                    let text = format!(
                        "what --cdp names does not answer like a browser ({step} failed at {at}): check its address \
                         and that it was started with --remote-debugging-port"
                    );
                    return check(Outcome::Mend, text);
                }
                "monitor_init_failed" => {
                    let text = format!(
                        "connected, but it refused {step} at {at}: some events are missing"
                    );
                    return check(Outcome::Note, text);
                }
                _ => {}
            }
        }
        None if tab.is_none() && lost == 0 => {
            let pages = CategorySet::of(&[Category::Page]);
            let captured = state.config.browser.enabled();
            if captured.intersection(pages).is_empty() {
                let text = "no failure was reported; that it is connected cannot be seen while `page` is not captured";
                return check(Outcome::Note, text.to_owned());
            }
            let text = "no tab was reported since the session started: check that the browser that --cdp names runs \
                        with --remote-debugging-port; the server's log has the reason";
            return check(Outcome::Mend, text.to_owned());
        }
        None => {}
    }
    check(Outcome::Ok, "connected".to_owned())
}

/// Steps before anything is known of a browser.
fn is_no_browser(step: &str) -> bool {
    matches!(
        step,
        "GET /json/version" | "WebSocket handshake" | "connect"
    )
}

/// A text of an event's data; empty if it has none.
fn data(envelope: &Envelope, name: &str) -> String {
    let data = envelope.event.data.as_deref();
    let value = data.and_then(|it| serde_json::from_str::<serde_json::Value>(it.get()).ok());
    let text = value.and_then(|it| it.get(name)?.as_str().map(str::to_owned));
    text.unwrap_or_default()
}

fn sinks(sinks: &[SinkInfo], metrics: &Metrics) -> Vec<Check> {
    if sinks.is_empty() {
        let text = "none: events are in memory only, until they are evicted; --archive DIR stores all of them";
        return vec![Check::new("sinks", Outcome::Note, text)];
    }
    let capacity = metrics.sum("tapline_stream_max_events", &[]);
    sinks
        .iter()
        .map(|sink| {
            let mut wrong = Vec::new();
            for (count, what) in [
                (sink.lost, "evicted before it could read them"),
                (sink.failed, "given up"),
                (sink.rejected, "refused by the other end"),
            ] {
                if 0 < count {
                    wrong.push(format!("{} {what}", counted(count, "event")));
                }
            }
            if capacity / 2 < sink.lag {
                wrong.push(format!(
                    "it is {} behind, and will lose some",
                    counted(sink.lag, "event")
                ));
            }
            let error = sink.last_error.as_ref();
            let error = error.map(|it| format!("; last error: {it}")).unwrap_or_default();
            let name = &sink.name;
            let (result, text) = match (sink.on, wrong.is_empty(), error.is_empty()) {
                (_, false, _) => (
                    Outcome::Mend,
                    format!(
                        "{name}: {}{error}; check its other end (the disk, the collector), or raise --capacity",
                        wrong.join(", ")
                    ),
                ),
                (_, true, false) => (
                    Outcome::Mend,
                    format!(
                        "{name}: nothing is lost yet, but {} pending{error}",
                        counted(sink.lag, "event")
                    ),
                ),
                (false, true, true) => (
                    Outcome::Note,
                    format!("{name}: switched off by the session's configuration"),
                ),
                (true, true, true) => (
                    Outcome::Ok,
                    format!(
                        "{name}: {} exported, {} behind",
                        counted(sink.exported, "event"),
                        sink.lag
                    ),
                ),
            };
            Check::new("sinks", result, line(&text))
        })
        .collect()
}

fn readers(readers: &[&ReaderInfo], metrics: &Metrics) -> Check {
    let capacity = metrics.sum("tapline_stream_max_events", &[]);
    let worst = readers
        .iter()
        .max_by_key(|it| (it.lost, it.behind_events))
        .filter(|it| 0 < it.lost || capacity / 2 < it.behind_events);
    let Some(worst) = worst else {
        let text = match readers.len() {
            0 => "none is open".to_owned(),
            1 => "1 is open, and has lost nothing".to_owned(),
            count => format!("{count} are open, and none has lost anything"),
        };
        return Check::new("readers", Outcome::Ok, text);
    };
    let losing = readers.iter().filter(|it| 0 < it.lost).count();
    let text = format!(
        "{losing} of {} have lost events; {} ({}) has lost {} and is {} behind: give it a narrower --category or --type, \
         or the server a larger --capacity",
        readers.len(),
        worst.id,
        worst.peer,
        worst.lost,
        worst.behind_events,
    );
    Check::new("readers", Outcome::Mend, line(&text))
}

/// What all readers have lost since the server began.
fn loss(metrics: &Metrics) -> Check {
    let lost = metrics.sum("tapline_lost_events_total", &[]);
    match lost {
        0 => Check::new(
            "loss",
            Outcome::Ok,
            "no reader has lost an event since the server started",
        ),
        lost => Check::new(
            "loss",
            Outcome::Mend,
            format!(
                "{} evicted before readers that asked for them got them, since the server started: raise --capacity \
                 and --capacity-bytes, or store all with --archive",
                counted(lost, "event")
            ),
        ),
    }
}

/// The limits that have refused a client.
fn limits(metrics: &Metrics) -> Option<Check> {
    let flags: Vec<_> = metrics
        .labels_of_some("tapline_refused_total", "reason")
        .into_iter()
        .map(|reason| match reason {
            "connections" => "--max-connections",
            "address" => "--max-connections-per-address",
            "streams" => "--max-streams",
            other => other,
        })
        .collect();
    (!flags.is_empty()).then(|| {
        let text = format!(
            "clients were refused {} times since the server started, by {}: raise it if they were yours",
            metrics.sum("tapline_refused_total", &[]),
            flags.join(", ")
        );
        Check::new("limits", Outcome::Mend, line(&text))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const METRICS: &[u8] = b"tapline_stream_max_events 100\n";

    fn sink(changes: &Value) -> Check {
        let mut sink = json!({"name": "archive", "on": true, "position": 9, "lag": 1, "read": 9, "exported": 8,
            "excluded": 0, "rejected": 0, "failed": 0, "pending": 1, "lost": 0});
        merge(&mut sink, changes);
        let sink = serde_json::from_value(sink).unwrap();
        sinks(&[sink], &Metrics::read(METRICS)).remove(0)
    }

    fn reader(changes: &Value) -> Check {
        let mut reader = json!({"id": "r1", "kind": "stream", "peer": "127.0.0.1:9",
            "opened_at": "2026-11-22T12:09:18Z", "notices": true, "overtaken": "oldest", "position": 7,
            "behind_events": 2, "behind_bytes": 900, "behind_seconds": 1.5, "delivered": 4, "filtered": 2, "lost": 0});
        merge(&mut reader, changes);
        let reader = serde_json::from_value(reader).unwrap();
        readers(&[&reader], &Metrics::read(METRICS))
    }

    fn merge(value: &mut Value, changes: &Value) {
        for (name, change) in changes.as_object().unwrap() {
            value[name] = change.clone();
        }
    }

    #[track_caller]
    fn check(check: &Check, result: Outcome, text: &str) {
        assert_eq!(check.result, result, "{check:?}");
        assert!(check.text.contains(text), "{check:?}");
    }

    #[test]
    fn sinks_that_fail_lag_or_lose_are_to_be_mended() {
        check(
            &sink(&json!({})),
            Outcome::Ok,
            "archive: 8 events exported, 1 behind",
        );
        check(&sink(&json!({"on": false})), Outcome::Note, "switched off");
        check(
            &sink(&json!({"lost": 3})),
            Outcome::Mend,
            "3 events evicted",
        );
        check(
            &sink(&json!({"lag": 51})),
            Outcome::Mend,
            "it is 51 events behind",
        );
        let failed = sink(&json!({"failed": 2, "last_error": "no space"}));
        check(
            &failed,
            Outcome::Mend,
            "2 events given up; last error: no space",
        );
        let waits = sink(&json!({"last_error": "no\nspace"}));
        check(
            &waits,
            Outcome::Mend,
            "1 event pending; last error: no space",
        );
    }

    #[test]
    fn readers_that_lose_or_will_lose_are_to_be_mended() {
        check(
            &reader(&json!({})),
            Outcome::Ok,
            "1 is open, and has lost nothing",
        );
        let lost = reader(&json!({"lost": 5}));
        check(
            &lost,
            Outcome::Mend,
            "1 of 1 have lost events; r1 (127.0.0.1:9) has lost 5",
        );
        check(
            &reader(&json!({"behind_events": 60})),
            Outcome::Mend,
            "60 behind",
        );
    }

    #[test]
    fn losses_and_limits_are_those_of_the_metrics() {
        let metrics = Metrics::read(
            b"tapline_lost_events_total 7\ntapline_refused_total{reason=\"streams\"} 2\n",
        );
        check(&loss(&metrics), Outcome::Mend, "7 events evicted");
        check(
            &limits(&metrics).unwrap(),
            Outcome::Mend,
            "2 times since the server started, by --max-streams",
        );
        let none = Metrics::read(METRICS);
        check(&loss(&none), Outcome::Ok, "");
        assert!(limits(&none).is_none());
    }
}
