//! What is drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, Widget};
use tapline_client::Error as ClientError;
use tapline_oapi::{Category, ReaderInfo, SinkInfo};

use super::numbers::{MOST_PENDING, Numbers, SECONDS};
use crate::failure::Failure;
use crate::figures::{self, Clock, counted};
use crate::line::printable;
use crate::session;

/// A terminal with fewer columns or rows than this has no use for tables.
const SMALLEST: (u16, u16) = (24, 6);

/// From so many columns on, all columns of the tables fit.
const WIDE: u16 = 80;

/// The rate that is shown is that of so many seconds.
const RATE_SECONDS: usize = 10;

/// Bars of eight heights.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HELP: &str = "\
q, Ctrl-C  end
p, space   pause, and continue
s          sort the readers by something else
?          this text

/s      events each second, of the last 10 seconds
behind  events that a reader or sink has yet to read
lost    evicted before it could read them

Any key closes this.";

/// By what the readers are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Behind,
    Lost,
    Delivered,
    Oldest,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Behind => Self::Lost,
            Self::Lost => Self::Delivered,
            Self::Delivered => Self::Oldest,
            Self::Oldest => Self::Behind,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Behind => "furthest behind first",
            Self::Lost => "most lost first",
            Self::Delivered => "most delivered first",
            Self::Oldest => "oldest first",
        }
    }
}

/// The numbers, and how they are looked at.
pub(super) struct Screen {
    url: String,
    numbers: Option<Numbers>,
    /// Why there are no newer ones.
    trouble: Option<String>,
    is_paused: bool,
    shows_help: bool,
    sort: Sort,
    clock: Clock,
}

/// A table with a title.
struct Part {
    title: String,
    header: Option<Vec<&'static str>>,
    widths: Vec<Constraint>,
    rows: Vec<(Vec<String>, Style)>,
}

impl Screen {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            numbers: None,
            trouble: None,
            is_paused: false,
            shows_help: false,
            sort: Sort::Behind,
            clock: Clock::new(false),
        }
    }

    /// New numbers, or why there are none. The old ones stay.
    pub(super) fn take(&mut self, numbers: Result<Numbers, ClientError>) {
        if self.is_paused {
            return;
        }
        match numbers {
            Ok(numbers) => {
                self.numbers = Some(numbers);
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(printable(&Failure::Server(error).in_words())),
        }
    }

    pub(super) fn press(&mut self, key: char) {
        if self.shows_help {
            self.shows_help = false;
            return;
        }
        match key {
            'p' | ' ' => self.is_paused = !self.is_paused,
            's' => self.sort = self.sort.next(),
            '?' | 'h' => self.shows_help = true,
            _ => {}
        }
    }

    /// A frame as text, as high as it needs to be.
    pub(super) fn text(&self, columns: u16) -> String {
        let columns = columns.clamp(SMALLEST.0, 500);
        let rows: usize = self.parts(columns).iter().map(Part::height).sum();
        let rows = u16::try_from(rows + self.head().len()).unwrap_or(u16::MAX);
        let area = Rect::new(0, 0, columns, rows.clamp(SMALLEST.1, 500));
        let mut buffer = Buffer::empty(area);
        self.draw_numbers(area, &mut buffer);
        let mut text = String::new();
        for y in 0..area.height {
            let line: String = (0..columns).map(|x| buffer[(x, y)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// All of it: the numbers, and in the last line the keys.
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
            Paragraph::new("too small; q ends it").render(area, buffer);
            return;
        }
        let [numbers, keys] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
        self.draw_numbers(numbers, buffer);
        let text = match self.is_paused {
            true => "paused: p continues, q ends it",
            false => "q end  p pause  s sort  ? help",
        };
        let style = Style::new().add_modifier(Modifier::REVERSED);
        Line::styled(text, style).render(keys, buffer);
        if self.shows_help {
            draw_help(area, buffer);
        }
    }

    fn draw_numbers(&self, area: Rect, buffer: &mut Buffer) {
        let head = self.head();
        let parts = self.parts(area.width);
        let heights = heights(
            &parts.iter().map(Part::height).collect::<Vec<_>>(),
            usize::from(area.height).saturating_sub(head.len()),
        );
        let head_height = u16::try_from(head.len()).unwrap_or(u16::MAX);
        Paragraph::new(head).render(
            Rect {
                height: head_height.min(area.height),
                ..area
            },
            buffer,
        );
        let mut y = area.y + head_height;
        for (part, height) in parts.into_iter().zip(heights) {
            let height = u16::try_from(height).unwrap_or(0);
            part.draw(Rect { y, height, ..area }, buffer);
            y += height;
        }
    }

    /// The server, the session and the sum of everything.
    fn head(&self) -> Vec<Line<'static>> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let Some(numbers) = &self.numbers else {
            return vec![Line::styled(self.url.clone(), bold)];
        };
        let at = self.clock.of_day(numbers.ts);
        let server = format!("{}, epoch {}, at {at}", self.url, numbers.sinks.epoch);
        let session = match numbers.state.as_ref() {
            Some(state) if state.session_id.is_some() => format!(
                "{}, captures {}",
                printable(state.session_id.as_deref().unwrap_or_default()),
                session::captured(state.config.browser.enabled())
            ),
            state => session::described(state),
        };
        let counts = &numbers.counts;
        let all: Vec<u64> = counts
            .buckets
            .iter()
            .map(|it| it.by_category.values().sum())
            .collect();
        let mut events = format!(
            "events   seq {}, {} each second",
            numbers.sinks.head,
            rate(&all)
        );
        if !counts.complete {
            events.push_str(" or more: there were too many to count");
        }
        let mut lines = vec![Line::styled(server, bold)];
        if let Some(trouble) = &self.trouble {
            lines.push(Line::styled(
                format!("not up to date: {trouble}"),
                Style::new().fg(Color::Red),
            ));
        }
        lines.push(Line::raw(format!("session  {session}")));
        lines.push(Line::raw(events));
        let lost: u64 = numbers.readers.readers.iter().map(|it| it.lost).sum();
        let gone: u64 = numbers.sinks.sinks.iter().map(|it| it.lost).sum();
        if 0 < lost + gone {
            lines.push(Line::styled(
                format!(
                    "loss     {} by the open readers, {gone} by the sinks",
                    counted(lost, "event")
                ),
                Style::new().fg(Color::Red),
            ));
        }
        lines
    }

    fn parts(&self, columns: u16) -> Vec<Part> {
        let Some(numbers) = &self.numbers else {
            return Vec::new();
        };
        let is_wide = WIDE <= columns;
        vec![
            rates(numbers),
            in_flight(numbers, is_wide),
            self.readers(&numbers.readers.readers, is_wide),
            sinks(&numbers.sinks.sinks, is_wide),
        ]
    }

    fn readers(&self, readers: &[ReaderInfo], is_wide: bool) -> Part {
        let mut sorted: Vec<_> = readers.iter().collect();
        match self.sort {
            Sort::Behind => sorted.sort_by_key(|it| std::cmp::Reverse(it.behind_events)),
            Sort::Lost => sorted.sort_by_key(|it| std::cmp::Reverse(it.lost)),
            Sort::Delivered => sorted.sort_by_key(|it| std::cmp::Reverse(it.delivered)),
            // As the server lists them.
            Sort::Oldest => {}
        }
        let title = match readers.len() {
            0 => "readers: none".to_owned(),
            count => format!("readers: {count}, {}", self.sort.name()),
        };
        let (header, widths): (Vec<_>, Vec<_>) = match is_wide {
            true => (
                vec!["id", "client", "behind", "delivered", "lost", "asks for"],
                vec![
                    Constraint::Length(6),
                    Constraint::Length(21),
                    Constraint::Length(9),
                    Constraint::Length(10),
                    Constraint::Length(8),
                    Constraint::Fill(1),
                ],
            ),
            false => (
                vec!["id", "behind", "lost"],
                vec![
                    Constraint::Length(6),
                    Constraint::Fill(1),
                    Constraint::Fill(1),
                ],
            ),
        };
        let rows = sorted.into_iter().map(|reader| {
            let style = trouble_if(0 < reader.lost);
            let (behind, lost) = (reader.behind_events.to_string(), reader.lost.to_string());
            let cells = match is_wide {
                true => vec![
                    printable(&reader.id),
                    printable(&reader.peer),
                    behind,
                    reader.delivered.to_string(),
                    lost,
                    session::filter(reader).unwrap_or_else(|| "everything".to_owned()),
                ],
                false => vec![printable(&reader.id), behind, lost],
            };
            (cells, style)
        });
        Part {
            title,
            header: (!readers.is_empty()).then_some(header),
            widths,
            rows: rows.collect(),
        }
    }
}

/// The events of each category that has some.
fn rates(numbers: &Numbers) -> Part {
    let categories = Category::ALL
        .into_iter()
        .map(|it| (it, numbers.by_second(it)));
    let some: Vec<_> = categories
        .filter(|(_, seconds)| seconds.iter().any(|&count| 0 < count))
        .collect();
    let highest = some
        .iter()
        .flat_map(|(_, it)| it)
        .copied()
        .max()
        .unwrap_or(0);
    let rows = some.iter().map(|(category, seconds)| {
        let cells = vec![
            category.as_str().to_owned(),
            rate(seconds),
            bars(seconds, highest),
        ];
        (cells, Style::new())
    });
    Part {
        title: match some.is_empty() {
            true => format!("no event in the last {SECONDS} s"),
            false => format!("events each second, and those of the last {SECONDS} s"),
        },
        header: None,
        widths: vec![
            Constraint::Length(12),
            Constraint::Length(9),
            Constraint::Length(SECONDS as u16),
        ],
        rows: rows.collect(),
    }
}

fn in_flight(numbers: &Numbers, is_wide: bool) -> Part {
    let count = numbers.pending.len();
    let mut widths = vec![
        Constraint::Length(12),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    if !is_wide {
        widths.remove(1);
    }
    let rows = numbers.pending.iter().map(|request| {
        let age = numbers.ts.saturating_sub(request.ts) as f64 / 1e3;
        let mut cells = vec![
            figures::duration(age),
            printable(&request.method),
            printable(&request.url),
        ];
        if !is_wide {
            cells.remove(1);
        }
        (cells, Style::new())
    });
    Part {
        title: match count {
            0 => "requests in flight: none".to_owned(),
            MOST_PENDING.. => format!("requests in flight: {count} or more, oldest first"),
            _ => format!("requests in flight: {count}, oldest first"),
        },
        header: None,
        widths,
        rows: rows.collect(),
    }
}

fn sinks(sinks: &[SinkInfo], is_wide: bool) -> Part {
    let (header, widths) = match is_wide {
        true => (
            vec!["name", "behind", "exported", "failed", "lost", "last error"],
            vec![
                Constraint::Length(10),
                Constraint::Length(9),
                Constraint::Length(10),
                Constraint::Length(8),
                Constraint::Length(8),
                Constraint::Fill(1),
            ],
        ),
        false => (
            vec!["name", "behind", "lost"],
            vec![
                Constraint::Length(10),
                Constraint::Fill(1),
                Constraint::Fill(1),
            ],
        ),
    };
    let rows = sinks.iter().map(|sink| {
        let failed = sink.failed + sink.rejected;
        let style = trouble_if(0 < failed + sink.lost || sink.last_error.is_some());
        let behind = match sink.on {
            true => sink.lag.to_string(),
            false => "off".to_owned(),
        };
        let cells = match is_wide {
            true => vec![
                printable(&sink.name),
                behind,
                sink.exported.to_string(),
                failed.to_string(),
                sink.lost.to_string(),
                printable(sink.last_error.as_deref().unwrap_or("")),
            ],
            false => vec![printable(&sink.name), behind, sink.lost.to_string()],
        };
        (cells, style)
    });
    Part {
        title: match sinks.is_empty() {
            true => "sinks: none".to_owned(),
            false => "sinks".to_owned(),
        },
        header: (!sinks.is_empty()).then_some(header),
        widths,
        rows: rows.collect(),
    }
}

impl Part {
    /// With all of its rows.
    fn height(&self) -> usize {
        1 + usize::from(self.header.is_some()) + self.rows.len()
    }

    /// As many rows as there is space for; the title says how many are not shown.
    fn draw(self, area: Rect, buffer: &mut Buffer) {
        let space = usize::from(area.height).saturating_sub(self.height() - self.rows.len());
        let title = match self.rows.len().saturating_sub(space) {
            0 => self.title,
            more => format!("{}; {more} are not shown", self.title),
        };
        let dim = Style::new().add_modifier(Modifier::DIM);
        let rows = self.rows.into_iter().take(space);
        let mut table = Table::new(
            rows.map(|(cells, style)| Row::new(cells).style(style)),
            self.widths,
        )
        .block(
            Block::new()
                .borders(Borders::TOP)
                .title(format!(" {title} ")),
        );
        if let Some(header) = self.header {
            table = table.header(Row::new(header).style(dim));
        }
        Widget::render(table, area, buffer);
    }
}

/// How high each part is, if there is `space` for all together: the last rows of the highest ones are left out.
fn heights(wanted: &[usize], mut space: usize) -> Vec<usize> {
    let mut heights = vec![0; wanted.len()];
    while 0 < space {
        let smallest = (0..wanted.len())
            .filter(|&n| heights[n] < wanted[n])
            .min_by_key(|&n| heights[n]);
        let Some(n) = smallest else {
            break;
        };
        heights[n] += 1;
        space -= 1;
    }
    heights
}

fn draw_help(area: Rect, buffer: &mut Buffer) {
    let lines = HELP.lines().count() as u16;
    let columns = HELP.lines().map(str::len).max().unwrap_or(0) as u16;
    let (width, height) = ((columns + 4).min(area.width), (lines + 2).min(area.height));
    let inside = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(inside, buffer);
    Paragraph::new(HELP)
        .block(Block::bordered().title(" tapline top "))
        .render(inside, buffer);
}

fn trouble_if(is_trouble: bool) -> Style {
    match is_trouble {
        true => Style::new().fg(Color::Red),
        false => Style::new(),
    }
}

/// The events each second of the last seconds.
fn rate(seconds: &[u64]) -> String {
    let last = &seconds[seconds.len().saturating_sub(RATE_SECONDS)..];
    if last.is_empty() {
        return "0".to_owned();
    }
    let rate = last.iter().sum::<u64>() as f64 / last.len() as f64;
    match rate {
        ..100.0 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

fn bars(seconds: &[u64], highest: u64) -> String {
    let height = |count: u64| {
        let most = BARS.len() as u64 - 1;
        (count * most).div_ceil(highest.max(1)).min(most) as usize
    };
    seconds.iter().map(|&count| BARS[height(count)]).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use tapline_oapi::CountBucket;

    use super::*;
    use crate::top::numbers::Pending;

    fn numbers() -> Numbers {
        let reader = |id: &str, behind: u64, lost: u64| {
            json!({"id": id, "kind": "stream", "peer": "127.0.0.1:9", "opened_at": "2026-11-22T12:09:18Z",
                "notices": true, "overtaken": "oldest", "position": 7, "behind_events": behind, "behind_bytes": 0,
                "behind_seconds": 0.0, "delivered": 4, "filtered": 2, "lost": lost, "category": ["console"]})
        };
        let bucket = |count: u64| CountBucket {
            by_category: [(Category::Console, count), (Category::Network, 2 * count)].into(),
            ..CountBucket::default()
        };
        Numbers {
            state: None,
            sinks: serde_json::from_value(json!({"head": 99, "epoch": "00000000000000ab", "sinks": [{
                "name": "archive", "on": true, "position": 9, "lag": 1, "read": 9, "exported": 8, "excluded": 0,
                "rejected": 0, "failed": 0, "pending": 1, "lost": 0, "last_error": "no\u{1b}[2Jspace"}]}))
            .unwrap(),
            readers: serde_json::from_value(
                json!({"head": 99, "readers": [reader("r1", 5, 0), reader("r2", 1, 7)]}),
            )
            .unwrap(),
            counts: tapline_oapi::EventCounts {
                buckets: (0..30).map(|n| bucket(u64::from(n == 29) * 40)).collect(),
                complete: true,
                ..Default::default()
            },
            pending: vec![Pending {
                seq: 3,
                ts: 1_000_000,
                method: "GET".to_owned(),
                url: "http://shop/slow".to_owned(),
            }],
            ts: 3_500_000,
        }
    }

    fn screen() -> Screen {
        let mut screen = Screen::new("http://h:1");
        screen.clock = Clock::new(true);
        screen.take(Ok(numbers()));
        screen
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let frame = terminal.draw(|frame| screen.draw(frame.area(), frame.buffer_mut()));
        frame.unwrap();
        terminal.backend().to_string()
    }

    #[track_caller]
    fn check(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn everything_is_on_a_wide_screen() {
        let text = drawn(&screen(), 100, 24);
        check(
            &text,
            &[
                "http://h:1, epoch 00000000000000ab, at 00:00:03.500",
                "session  none; nothing is captured. `tapline start` starts one",
                "events   seq 99, 12.0 each second",
                "loss     7 events by the open readers, 0 by the sinks",
                &format!("console      4.0{:36}▄", ""),
                &format!("network      8.0{:36}█", ""),
                "requests in flight: 1, oldest first",
                "2.50 s       GET     http://shop/slow",
                "readers: 2, furthest behind first",
                "r1     127.0.0.1:9           5         4          0        console",
                "archive    1         8          0        0        no [2Jspace",
                "q end  p pause  s sort  ? help",
            ],
        );
    }

    #[test]
    fn a_narrow_screen_has_fewer_columns_and_a_low_one_fewer_rows() {
        let text = drawn(&screen(), 40, 24);
        check(
            &text,
            &["r1     5", "archive    1", "2.50 s       http://shop/slow"],
        );
        assert!(!text.contains("127.0.0.1:9"), "{text}");
        let low = drawn(&screen(), 40, 12);
        check(&low, &["are not shown", "q end"]);
        check(&drawn(&screen(), 23, 12), &["too small"]);
        for (width, height) in [(1, 1), (24, 6), (500, 200)] {
            drawn(&screen(), width, height);
        }
    }

    #[test]
    fn keys_pause_sort_and_explain() {
        let mut screen = screen();
        screen.press('s');
        let text = drawn(&screen, 100, 24);
        check(&text, &["most lost first"]);
        assert!(text.find("r2 ") < text.find("r1 "), "{text}");

        screen.press('p');
        let newer = Numbers {
            ts: 9_000_000,
            ..numbers()
        };
        screen.take(Ok(newer.clone()));
        check(
            &drawn(&screen, 100, 24),
            &["paused: p continues", "at 00:00:03.500"],
        );
        screen.press('p');
        screen.take(Ok(newer));
        check(&drawn(&screen, 100, 24), &["at 00:00:09.000"]);

        screen.press('?');
        check(&drawn(&screen, 100, 24), &["Any key closes this."]);
        screen.press('s');
        let text = drawn(&screen, 100, 24);
        check(&text, &["most lost first"]);
        assert!(!text.contains("Any key closes this."), "{text}");
    }

    #[test]
    fn a_server_that_does_not_answer_is_shown_with_the_last_numbers() {
        let mut screen = screen();
        screen.take(Err(ClientError::TimedOut {
            url: "http://h:1".to_owned(),
            after: std::time::Duration::from_secs(30),
        }));
        check(
            &drawn(&screen, 100, 24),
            &["not up to date: http://h:1 sent nothing", "seq 99"],
        );
        screen.take(Ok(numbers()));
        assert!(!drawn(&screen, 100, 24).contains("not up to date"));
    }

    #[test]
    fn a_frame_as_text_has_everything_and_no_keys() {
        let text = screen().text(100);
        check(&text, &["readers: 2", "archive", "http://shop/slow"]);
        assert!(
            !text.contains("q end") && !text.contains("not shown"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}') && text.ends_with('\n'), "{text}");
    }

    #[test]
    fn space_is_given_to_the_smallest_first() {
        assert_eq!(heights(&[3, 10, 2], 100), [3, 10, 2]);
        assert_eq!(heights(&[3, 10, 2], 9), [3, 4, 2]);
        assert_eq!(heights(&[3, 10, 2], 2), [1, 1, 0]);
    }
}
