//! A server in front of the program. It forwards requests to the program, and the answers back byte for
//! byte, but it can cut an answer where a test needs it. It answers a few requests itself: a page for a
//! browser, the reports of that page, and an SDK's request for a browser's description, which comes
//! before it follows the browser's telemetry.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::http;
use crate::program::DEADLINE;

const PAGE: &str = include_str!("page.html");

/// A page that uses the client of the docs.
const CLIENT_PAGE: &str = include_str!("client.html");
const CLIENT: &str = include_str!("../../../../docs/clients/page.mjs");

pub(crate) struct Front {
    pub(crate) url: String,
    state: Arc<(Mutex<State>, Condvar)>,
    reports: Receiver<Value>,
}

#[derive(Default)]
struct State {
    /// Where the program listens.
    program: String,
    /// Under which path the stream is there: that of an instance, at a gateway.
    path: String,
    /// The heads of the requests that went to the program's stream.
    asked: Vec<String>,
    /// What came back on the newest of these.
    answered: Vec<u8>,
    /// An answer is broken off behind the first of these, the next one behind the second …
    cuts: VecDeque<String>,
}

impl Front {
    pub(crate) fn of(program: &str) -> Self {
        let front = Self::alone();
        front.hand_on_to(program);
        front
    }

    /// With no program behind it yet.
    pub(crate) fn alone() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let (reporter, reports) = mpsc::channel();
        let answering = Answering {
            url: url.clone(),
            state: state.clone(),
            reporter,
        };
        // The thread ends with the test's process: a blocked `accept` cannot be interrupted.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let answering = answering.clone();
                // A peer that leaves is no error: it is what some of them are asked to do.
                std::thread::spawn(move || answering.answer(&socket));
            }
        });
        Self {
            url,
            state,
            reports,
        }
    }

    /// From now on, the program is this one.
    pub(crate) fn hand_on_to(&self, program: &str) {
        program.clone_into(&mut self.state.0.lock().unwrap().program);
    }

    /// From now on, the program is a gateway, and what it has under this path.
    pub(crate) fn hand_on_to_instance(&self, program: &str, path: &str) {
        self.hand_on_to(program);
        path.clone_into(&mut self.state.0.lock().unwrap().path);
    }

    /// Breaks off the stream on which `text` comes next, right behind it.
    pub(crate) fn cut_behind(&self, text: &str) {
        self.state.0.lock().unwrap().cuts.push_back(text.to_owned());
    }

    /// The heads of the requests for a stream so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.0.lock().unwrap().asked.clone()
    }

    /// Waits until what was answered on the newest stream is `enough`.
    #[track_caller]
    pub(crate) fn wait_for_answer(&self, enough: impl Fn(&str) -> bool) {
        let (state, changed) = &*self.state;
        let state = state.lock().unwrap();
        let (state, timeout) = changed
            .wait_timeout_while(state, DEADLINE, |state| {
                !enough(&String::from_utf8_lossy(&state.answered))
            })
            .unwrap();
        let answered = String::from_utf8_lossy(&state.answered);
        assert!(!timeout.timed_out(), "only this came: {answered}");
    }

    /// The address of a page that follows `stream`.
    pub(crate) fn page(&self, stream: &str) -> String {
        let query: String = stream.bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("{}/page?{query}", self.url)
    }

    /// The page's next report.
    #[track_caller]
    pub(crate) fn next_report(&self) -> Value {
        self.reports
            .recv_timeout(DEADLINE)
            .expect("the page should have sent a report")
    }
}

/// What a thread that answers needs.
#[derive(Clone)]
struct Answering {
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
    reporter: Sender<Value>,
}

impl Answering {
    /// One request, and the end of the connection.
    fn answer(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(socket);
        let head = read_head(&mut reader)?;
        let mut body = vec![0; content_length(&head)];
        reader.read_exact(&mut body)?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (program, path) = {
            let state = self.state.0.lock().unwrap();
            (state.program.clone(), state.path.clone())
        };
        match target.split('?').next().unwrap_or_default() {
            "/page" => write_answer(socket, "text/html", PAGE)?,
            "/client" => write_answer(socket, "text/html", CLIENT_PAGE)?,
            "/page.mjs" => write_answer(socket, "text/javascript", CLIENT)?,
            "/ticket" => {
                let ticket = ticket(&program, &path, r#"{"expires_in":1}"#);
                write_answer(socket, "text/plain", &ticket)?;
            }
            "/report" => {
                for line in String::from_utf8_lossy(&body).lines() {
                    // The receiver is gone once the test is over.
                    let _ = self.reporter.send(serde_json::from_str(line)?);
                }
                write_answer(socket, "text/plain", "")?;
            }
            "/browsers/one" => {
                let ticket = ticket(&program, &path, "{}");
                let browser = json!({
                    "session_id": "one",
                    "base_url": format!("{}{path}", self.url),
                    "cdp_ws_url": format!("ws://127.0.0.1/cdp?jwt={ticket}"),
                });
                write_answer(socket, "application/json", &browser.to_string())?;
            }
            target if target.strip_prefix(&*path) == Some("/telemetry/stream") => {
                self.hand_on(socket, &head)?;
            }
            _ => socket.write_all(
                b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            )?,
        }
        socket.shutdown(Shutdown::Both)
    }

    fn hand_on(&self, mut socket: &TcpStream, head: &str) -> io::Result<()> {
        let (state, changed) = &*self.state;
        let mut program = {
            let mut state = state.lock().unwrap();
            state.asked.push(head.to_owned());
            state.answered.clear();
            changed.notify_all();
            TcpStream::connect(&state.program)?
        };
        program.write_all(head.as_bytes())?;
        let mut piece = vec![0; 64 * 1024];
        let mut handed_on = Vec::new();
        loop {
            let read = program.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            let before = handed_on.len();
            handed_on.extend_from_slice(&piece[..read]);
            let cut = {
                let mut state = state.lock().unwrap();
                let cut = state.cuts.front().and_then(|text| {
                    let from = before.saturating_sub(text.len());
                    let at = position(&handed_on[from..], text.as_bytes())?;
                    Some(from + at + text.len())
                });
                if cut.is_some() {
                    state.cuts.pop_front();
                }
                state.answered.extend_from_slice(&piece[..read]);
                cut
            };
            changed.notify_all();
            let end = cut.unwrap_or(handed_on.len());
            socket.write_all(&handed_on[before..end])?;
            if cut.is_some() {
                return Ok(());
            }
        }
    }
}

/// Up to and with the empty line.
fn read_head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

fn content_length(head: &str) -> usize {
    header(head, "content-length").map_or(0, |length| length.parse().unwrap())
}

/// The value of a header in a request's head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (its_name, value) = line.split_once(':')?;
        its_name.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A ticket for the program's stream.
fn ticket(program: &str, path: &str, request: &str) -> String {
    let answer = http::ask(
        program,
        "POST",
        &format!("{path}/telemetry/tickets"),
        request,
    );
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    answer["ticket"].as_str().unwrap().to_owned()
}

fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|part| part == text)
}

fn write_answer(mut socket: &TcpStream, media_type: &str, body: &str) -> io::Result<()> {
    write!(
        socket,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {media_type}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
