//! A trace for Perfetto and other viewers of Chrome's JSON trace format: [`TraceWriter`].
//!
//! A process of the trace is a target of the browser (a tab, a worker), and the first one is Tapline's own: commands,
//! the machine, and what is missing. Requests and navigations are asynchronous slices (`b`/`e`), because they
//! overlap; the phases of a request are nested in it. Everything else is an instant. A command and what it caused are
//! slices of 1 µs, joined by a flow: flows begin and end at slices.
//!
//! The format: <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.

use std::collections::{HashMap, VecDeque};
use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tapline_oapi::data::EventData;
use tapline_oapi::joins::{Navigation, Place, Problem, ProblemKind, Request};
use tapline_oapi::{Category, Envelope, EventType, KnownType};

use crate::insight::{Finding, Tally, context_of, place_of, target_of_picture};
use crate::request::{caused_by, micros};
use crate::sanitize::Sanitizer;
use crate::words::{one_line, summary_of};

/// The longest name of a slice, in characters.
const MAX_NAME: usize = 120;

/// How many targets have a lane of their own. Later ones share Tapline's.
const MAX_LANES: usize = 1_000;

/// How many commands are remembered for what they cause.
const MAX_CAUSES: usize = 16_384;

/// The lane of what belongs to no target.
const OWN: u64 = 1;

/// Writes a trace, each event when it is given.
#[derive(Debug)]
pub struct TraceWriter<W> {
    out: W,
    sanitizer: Sanitizer,
    buffer: Vec<u8>,
    is_first: bool,
    /// The process of each target.
    lanes: HashMap<String, u64>,
    /// Where the commands are, by run and seq.
    causes: HashMap<(u64, u64), Spot>,
    causes_order: VecDeque<(u64, u64)>,
    run: u64,
    now: u64,
}

/// A slice of a thread.
#[derive(Debug, Clone, Copy)]
struct Spot {
    pid: u64,
    tid: u64,
    ts: u64,
}

/// An event of the trace.
#[derive(Serialize)]
struct TraceEvent<'a> {
    ph: &'static str,
    pid: u64,
    tid: u64,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The scope of an instant: its thread, or everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    /// A flow ends at the slice that encloses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a Value>,
}

impl<W: io::Write> TraceWriter<W> {
    /// Writes the beginning of the file.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn new(mut out: W, sanitizer: Sanitizer) -> io::Result<Self> {
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        let mut writer = Self {
            out,
            sanitizer,
            buffer: Vec::new(),
            is_first: true,
            lanes: HashMap::new(),
            causes: HashMap::new(),
            causes_order: VecDeque::new(),
            run: 0,
            now: 0,
        };
        writer.name_process(OWN, "Tapline")?;
        Ok(writer)
    }

    /// What follows is of another run of the server.
    pub(crate) fn restarted(&mut self) {
        self.run += 1;
    }

    /// Writes an event, unless it is a part of a request or of a navigation, which are written when they
    /// leave.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn event(&mut self, envelope: &Envelope) -> io::Result<()> {
        let event = &envelope.event;
        self.now = self.now.max(event.ts);
        let cause = caused_by(envelope);
        let data = match event.event_type {
            EventType::Known(KnownType::MonitorScreenshot) => return self.screenshot(envelope),
            _ => event.typed_data().ok().flatten(),
        };
        let place = data.as_ref().map(place_of).unwrap_or_default();
        let url = data.as_ref().and_then(|data| match data {
            EventData::PageTabOpened(it) => Some(it.url.clone()),
            EventData::PageNavigation(it) => Some(it.url.clone()),
            data => context_of(data)?.url.clone(),
        });
        let pid = self.lane(&place, url.as_deref())?;
        let is_part = matches!(
            event.event_type,
            EventType::Known(
                KnownType::NetworkRequest
                    | KnownType::NetworkResponse
                    | KnownType::NetworkResponseEnd
                    | KnownType::NetworkLoadingFailed
                    | KnownType::NetworkWebsocketClosed
                    | KnownType::NetworkWebsocketMessage
            )
        );
        // A request that a command caused has a slice at its beginning, where the flow ends.
        if is_part
            && (cause.is_none() || event.event_type != EventType::Known(KnownType::NetworkRequest))
        {
            return Ok(());
        }
        let summary = summary_of(event, data.as_ref());
        let text = one_line(
            &self.sanitizer.body(&self.sanitizer.url(&summary.text)),
            MAX_NAME,
        );
        let event_type = event.event_type.as_str();
        let name = match event.category {
            Category::Console | Category::Interaction if !text.is_empty() => text.clone(),
            _ if is_part => text.clone(),
            Category::Control => one_line(&summary.text, MAX_NAME),
            _ => one_line(event_type, MAX_NAME),
        };
        let mut args = Map::new();
        args.insert("seq".into(), envelope.seq.into());
        args.insert("type".into(), one_line(event_type, MAX_NAME).into());
        if !text.is_empty() {
            args.insert("text".into(), text.into());
        }
        if summary.is_error {
            args.insert("is_error".into(), true.into());
        }
        let spot = Spot {
            pid,
            tid: self.thread_of(event.category),
            ts: event.ts,
        };
        let is_cause = matches!(
            event.category,
            Category::Control | Category::Interaction | Category::Platform
        );
        self.mark(
            &name,
            event.category.as_str(),
            spot,
            args,
            is_cause || cause.is_some(),
        )?;
        if is_cause {
            self.remember((self.run, envelope.seq), spot);
        }
        match cause {
            Some(cause) => self.flow(cause, envelope.seq, spot),
            None => Ok(()),
        }
    }

    /// Writes a request, a navigation, or a problem of the stream.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        match finding {
            Finding::Request(request) => self.request(request),
            Finding::Navigation(navigation) => self.navigation(navigation),
            Finding::Problem(problem) => self.problem(problem),
        }
    }

    /// Writes the end of the file, and returns the writer.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn finish(mut self, tally: &Tally) -> io::Result<W> {
        write!(
            self.out,
            "\n],\"otherData\":{{\"creator\":\"Tapline {}\",",
            env!("CARGO_PKG_VERSION")
        )?;
        write!(
            self.out,
            "\"sanitized\":{},\"tally\":",
            self.sanitizer.is_on()
        )?;
        serde_json::to_writer(&mut self.out, tally)?;
        writeln!(self.out, "}}}}")?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The writer.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn screenshot(&mut self, envelope: &Envelope) -> io::Result<()> {
        let place = Place {
            target_id: target_of_picture(&envelope.event),
            ..Place::default()
        };
        let pid = self.lane(&place, None)?;
        let mut args = Map::new();
        args.insert("seq".into(), envelope.seq.into());
        let cause = caused_by(envelope);
        let spot = Spot {
            pid,
            tid: self.thread_of(Category::Screenshot),
            ts: envelope.event.ts,
        };
        self.mark("screenshot", "screenshot", spot, args, cause.is_some())?;
        match cause {
            Some(cause) => self.flow(cause, envelope.seq, spot),
            None => Ok(()),
        }
    }

    fn request(&mut self, request: &Request) -> io::Result<()> {
        let pid = self.lane(&request.place, None)?;
        let tid = self.thread_of(Category::Network);
        let id = id_of("r", request.at.run, request.at.seq);
        let end = request.end_ts().unwrap_or(self.now).max(request.ts);
        let url = self.sanitizer.url(&request.url);
        let short = url.split(['?', '#']).next().unwrap_or(&url);
        let mut name = match short {
            "" => one_line(&format!("request {}", request.request_id), MAX_NAME),
            short => one_line(&format!("{} {short}", request.method), MAX_NAME),
        };
        if !request.has_ended() {
            name.push_str(" (end not seen)");
        }
        let response = request.response.as_ref();
        let args = compact(json!({
            "seq": request.at.seq,
            "end_seq": request.end.map(|end| end.seq),
            "request_id": request.request_id,
            "url": one_line(&url, 2_000),
            "outcome": request.outcome,
            "unknown": request.unknown,
            "status": request.status(),
            "resource_type": request.resource_type,
            "mime_type": response.and_then(|it| it.mime_type.as_ref()),
            "protocol": response.and_then(|it| it.protocol.as_ref()),
            "from_cache": response.and_then(|it| it.from_cache.as_ref()),
            "encoded_bytes": request.encoded_bytes,
            "error": request.failure.as_ref().map(|it| &it.error_text),
            "navigation": request.navigation,
            "caused_by": request.caused_by,
            "lost": (request.lost != 0).then_some(request.lost),
        }));
        let slice = |ph: &'static str, ts: u64, name: &str, args: Option<&Value>| TraceEventOwned {
            ph,
            ts,
            name: name.to_owned(),
            args: args.cloned(),
        };
        let mut slices = vec![slice("b", request.ts, &name, Some(&args))];
        let mut at = request.ts;
        for hop in &request.redirects {
            let (from, to) = (
                hop.ts.unwrap_or(at).clamp(at, end),
                hop.end_ts.clamp(at, end),
            );
            let to = to.max(from);
            let status = hop
                .status
                .map_or_else(|| "redirect".to_owned(), |it| format!("redirect {it}"));
            let args = json!({"url": one_line(&self.sanitizer.url(&hop.url), 2_000)});
            slices.push(slice("b", from, &status, Some(&args)));
            slices.push(slice("e", to, &status, None));
            at = to;
        }
        if let Some(timing) = &request.timing {
            let mut at = request.hop_ts.clamp(at, end);
            for (phase, ms, inner) in [
                ("blocked", timing.blocked, None),
                ("dns", timing.dns, None),
                ("connect", timing.connect, timing.tls),
                ("send", timing.send, None),
                ("wait", timing.wait, None),
                ("receive", timing.receive, None),
            ] {
                let length = ms.map_or(0, micros);
                let to = at.saturating_add(length).min(end);
                if to == at {
                    continue;
                }
                slices.push(slice("b", at, phase, None));
                let tls = inner.map_or(0, micros).min(to - at);
                if tls != 0 {
                    slices.push(slice("b", to - tls, "tls", None));
                    slices.push(slice("e", to, "tls", None));
                }
                slices.push(slice("e", to, phase, None));
                at = to;
            }
        }
        slices.push(slice("e", end, &name, None));
        for it in slices {
            self.put(&TraceEvent {
                id: Some(id.clone()),
                args: it.args.as_ref(),
                ..blank(
                    it.ph,
                    "request",
                    &it.name,
                    Spot {
                        pid,
                        tid,
                        ts: it.ts,
                    },
                )
            })?;
        }
        Ok(())
    }

    fn navigation(&mut self, navigation: &Navigation) -> io::Result<()> {
        let pid = self.lane(&navigation.place, Some(&navigation.url))?;
        let tid = self.thread_of(Category::Page);
        let id = id_of("n", navigation.at.run, navigation.at.seq);
        let url = self.sanitizer.url(&navigation.url);
        let kind = if navigation.is_page() {
            "page"
        } else {
            "frame"
        };
        let name = one_line(&format!("{kind} {url}"), MAX_NAME);
        let start = navigation.start_ts;
        let milestones = [
            ("dom_content_loaded", navigation.dom_content_loaded),
            ("load", navigation.load),
            (
                "largest_contentful_paint",
                navigation.lcp.as_ref().map(|lcp| lcp.ts),
            ),
            ("network_idle", navigation.network_idle),
            ("layout_settled", navigation.layout_settled),
            ("settled", navigation.settled),
            ("crashed", navigation.crashed),
        ];
        let reached = milestones.iter().filter_map(|(_, ts)| *ts).max();
        let end = reached.unwrap_or(navigation.ts).max(start);
        let args = compact(json!({
            "seq": navigation.at.seq,
            "url": one_line(&url, 2_000),
            "request": navigation.request,
            "caused_by": navigation.caused_by,
            "cumulative_layout_shift": navigation.cls,
            "lost": (navigation.lost != 0).then_some(navigation.lost),
        }));
        let spot = |ts| Spot { pid, tid, ts };
        let id = Some(id);
        self.put(&TraceEvent {
            id: id.clone(),
            args: Some(&args),
            ..blank("b", "navigation", &name, spot(start))
        })?;
        let mut reached: Vec<_> = milestones
            .into_iter()
            .filter_map(|(name, ts)| Some((ts?.clamp(start, end), name)))
            .collect();
        reached.sort_unstable();
        for (ts, milestone) in reached {
            self.put(&TraceEvent {
                id: id.clone(),
                ..blank("n", "navigation", milestone, spot(ts))
            })?;
        }
        self.put(&TraceEvent {
            id,
            ..blank("e", "navigation", &name, spot(end))
        })
    }

    /// What is missing is drawn across all lanes. Other problems are events, which were written.
    fn problem(&mut self, problem: &Problem) -> io::Result<()> {
        if !matches!(problem.kind, ProblemKind::EventsLost | ProblemKind::Restart) {
            return Ok(());
        }
        let args = json!({"seq": problem.at.seq});
        let spot = Spot {
            pid: OWN,
            tid: self.thread_of(Category::Monitor),
            ts: problem.ts,
        };
        self.put(&TraceEvent {
            s: Some("g"),
            args: Some(&args),
            ..blank("i", "lost", &problem.text, spot)
        })
    }

    /// An instant, or a slice of 1 µs where a flow begins or ends.
    fn mark(
        &mut self,
        name: &str,
        category: &str,
        spot: Spot,
        args: Map<String, Value>,
        is_slice: bool,
    ) -> io::Result<()> {
        let args = Value::Object(args);
        let (ph, dur, s) = match is_slice {
            true => ("X", Some(1), None),
            false => ("i", None, Some("t")),
        };
        self.put(&TraceEvent {
            dur,
            s,
            args: Some(&args),
            ..blank(ph, category, name, spot)
        })
    }

    /// An arrow from a command to what it caused, if the command was read, and not after it.
    fn flow(&mut self, cause: u64, effect: u64, to: Spot) -> io::Result<()> {
        let Some(from) = self.causes.get(&(self.run, cause)).copied() else {
            return Ok(());
        };
        if to.ts < from.ts {
            return Ok(());
        }
        let id = Some(id_of("f", self.run, effect));
        self.put(&TraceEvent {
            id: id.clone(),
            ..blank("s", "cause", "caused", from)
        })?;
        self.put(&TraceEvent {
            id,
            bp: Some("e"),
            ..blank("f", "cause", "caused", to)
        })
    }

    fn remember(&mut self, key: (u64, u64), spot: Spot) {
        if self.causes_order.len() == MAX_CAUSES
            && let Some(oldest) = self.causes_order.pop_front()
        {
            self.causes.remove(&oldest);
        }
        self.causes.insert(key, spot);
        self.causes_order.push_back(key);
    }

    /// The process of a target. Names it when it is first seen.
    fn lane(&mut self, place: &Place, url: Option<&str>) -> io::Result<u64> {
        let Some(target) = place.target_id.as_deref() else {
            return Ok(OWN);
        };
        if let Some(pid) = self.lanes.get(target) {
            return Ok(*pid);
        }
        if self.lanes.len() == MAX_LANES {
            return Ok(OWN);
        }
        let pid = OWN + 1 + self.lanes.len() as u64;
        self.lanes.insert(target.to_owned(), pid);
        let kind = match place.target_type {
            Some(kind) => serde_json::to_value(kind)?
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            None => "target".to_owned(),
        };
        let short: String = target.chars().take(8).collect();
        let url = self.sanitizer.url(url.unwrap_or_default()).into_owned();
        let name = one_line(&format!("{kind} {short} {url}"), MAX_NAME);
        self.name_process(pid, &name)?;
        Ok(pid)
    }

    fn name_process(&mut self, pid: u64, name: &str) -> io::Result<()> {
        self.metadata(pid, 0, "process_name", name)?;
        let threads = [
            Category::Page,
            Category::Network,
            Category::Console,
            Category::Interaction,
            Category::Screenshot,
            Category::Control,
        ];
        for category in threads {
            let tid = self.thread_of(category);
            self.metadata(pid, tid, "thread_name", category.as_str())?;
        }
        let own = self.thread_of(Category::Monitor);
        self.metadata(pid, own, "thread_name", "other")
    }

    fn metadata(&mut self, pid: u64, tid: u64, what: &str, name: &str) -> io::Result<()> {
        let args = json!({"name": name});
        self.put(&TraceEvent {
            args: Some(&args),
            ..blank("M", "", what, Spot { pid, tid, ts: 0 })
        })
    }

    /// The thread of a category, the same in every process.
    fn thread_of(&self, category: Category) -> u64 {
        match category {
            Category::Page => 1,
            Category::Network => 2,
            Category::Console => 3,
            Category::Interaction => 4,
            Category::Screenshot => 5,
            Category::Control | Category::Platform | Category::Connection => 6,
            _ => 7,
        }
    }

    fn put(&mut self, event: &TraceEvent<'_>) -> io::Result<()> {
        self.buffer.clear();
        let comma: &[u8] = if std::mem::take(&mut self.is_first) {
            b"\n"
        } else {
            b",\n"
        };
        self.buffer.extend_from_slice(comma);
        serde_json::to_writer(&mut self.buffer, event)?;
        self.out.write_all(&self.buffer)
    }
}

/// A part of a request, before it is written.
struct TraceEventOwned {
    ph: &'static str,
    ts: u64,
    name: String,
    args: Option<Value>,
}

fn blank<'a>(ph: &'static str, cat: &'a str, name: &'a str, spot: Spot) -> TraceEvent<'a> {
    TraceEvent {
        ph,
        pid: spot.pid,
        tid: spot.tid,
        ts: spot.ts,
        dur: None,
        cat,
        name,
        id: None,
        s: None,
        bp: None,
        args: None,
    }
}

/// Unique within the file: requests, navigations and flows count for themselves.
fn id_of(kind: &str, run: u64, seq: u64) -> String {
    format!("{kind}{run}.{seq}")
}

/// Without the fields that are null.
fn compact(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    object
}
