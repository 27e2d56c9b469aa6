//! How events are joined with navigations.

use std::collections::{HashMap, VecDeque};

use tapline_oapi::Envelope;
use tapline_oapi::data::{PageLayoutShift, PageLcp, PageNavigation};
use tapline_oapi::joins::{At, Lcp, Navigation, Place};

use crate::request::caused_by;

/// Milestones that are nothing but a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Milestone {
    DomContentLoaded,
    Load,
    NetworkIdle,
    LayoutSettled,
    Settled,
    Crashed,
}

/// How an event is related to the page that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It is about the page that the target shows.
    Present,
    /// It is about a request, perhaps of an earlier page.
    Request,
    /// It is about the request of a document, which has the number of the page before.
    Document,
}

/// A navigation that is kept.
#[derive(Debug)]
struct Entry {
    navigation: Navigation,
    shifts: ShiftWindow,
    /// Whether the number of the navigation is certain: an event of its own document named it.
    is_numbered: bool,
}

impl Entry {
    /// The navigation has this number in its target, as the event `event` says.
    fn number(&mut self, nav_seq: u64, event: u64) {
        let known = &mut self.navigation.place.nav_seq;
        if known.replace(nav_seq) != Some(nav_seq) {
            self.navigation.updated = event;
        }
    }
}

/// A session window of layout shifts.
#[derive(Debug, Default)]
struct ShiftWindow {
    first: f64,
    last: f64,
    sum: f64,
}

/// All navigations that are kept, by the order in which they were read.
#[derive(Debug)]
pub(crate) struct Navigations {
    most: usize,
    run: u64,
    entries: VecDeque<Entry>,
    /// The number of the first of the entries.
    first: u64,
    by_loader: HashMap<Box<str>, u64>,
    /// The present page of each target.
    current: HashMap<Box<str>, u64>,
}

impl Navigations {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            run: 0,
            entries: VecDeque::new(),
            first: 0,
            by_loader: HashMap::new(),
            current: HashMap::new(),
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Navigation> + ExactSizeIterator {
        self.entries.iter().map(|entry| &entry.navigation)
    }

    /// A frame navigated. Returns the number of the navigation, and whether its document is a new one: a page that
    /// is restored from the back/forward cache has that of an earlier navigation.
    pub(crate) fn navigated(&mut self, envelope: &Envelope, data: PageNavigation) -> (u64, bool) {
        let number = self.first + self.entries.len() as u64;
        let is_page = data.parent_frame_id.is_none();
        if let (true, Some(target)) = (is_page, &data.target_id)
            && let Some(before) = self.current.insert(target.as_str().into(), number)
            && let Some(entry) = self.entry_mut(before)
        {
            entry.navigation.replaced = Some(envelope.event.ts);
            entry.navigation.updated = envelope.seq;
        }
        let mut is_new = true;
        if !data.loader_id.is_empty() {
            let loader = data.loader_id.as_str().into();
            is_new = self.by_loader.insert(loader, number).is_none();
        }
        let navigation = Navigation {
            at: At {
                run: self.run,
                seq: envelope.seq,
            },
            ts: envelope.event.ts,
            start_ts: envelope.event.ts,
            url: data.url,
            parent_frame_id: data.parent_frame_id,
            place: Place {
                session_id: data.session_id,
                target_id: data.target_id,
                target_type: data.target_type,
                frame_id: Some(data.frame_id),
                loader_id: Some(data.loader_id),
                nav_seq: data.nav_seq,
            },
            caused_by: caused_by(envelope),
            updated: envelope.seq,
            ..Navigation::default()
        };
        self.entries.push_back(Entry {
            is_numbered: navigation.place.nav_seq.is_some(),
            navigation,
            shifts: ShiftWindow::default(),
        });
        (number, is_new)
    }

    /// The request of the document of a navigation. Returns the seq of the page that
    /// the request belongs to, if the navigation is one.
    pub(crate) fn document(
        &mut self,
        number: u64,
        request: u64,
        began: u64,
        event: u64,
    ) -> Option<u64> {
        let navigation = &mut self.entry_mut(number)?.navigation;
        if navigation.request.is_none() {
            navigation.updated = event;
            navigation.request = Some(request);
            navigation.start_ts = began.min(navigation.ts);
        }
        navigation.is_page().then_some(navigation.at.seq)
    }

    /// The page that the event `event` belongs to.
    pub(crate) fn page_of(&mut self, place: &Place, relation: Relation, event: u64) -> Option<u64> {
        let loader = place.loader_id.as_deref();
        let of_loader = loader.and_then(|loader| self.by_loader.get(loader).copied());
        if let Some(number) = of_loader
            && let Some(entry) = self.entry_mut(number)
            && entry.navigation.is_page()
        {
            let is_own = entry.navigation.place.frame_id == place.frame_id;
            if is_own
                && relation != Relation::Document
                && let Some(nav_seq) = place.nav_seq
            {
                entry.number(nav_seq, event);
                entry.is_numbered = true;
            }
            return Some(number);
        }
        let target = place.target_id.as_deref()?;
        let current = *self.current.get(target)?;
        let Some(nav_seq) = place.nav_seq else {
            return (relation == Relation::Present).then_some(current);
        };
        let entry = self.entry_mut(current)?;
        let known = entry.navigation.place.nav_seq;
        if known == Some(nav_seq) {
            return Some(current);
        }
        // The event of the navigation has no number. A later number than that of the page before can only
        // be its own.
        let has_number = entry.is_numbered;
        let earlier = self.numbered(target, nav_seq, current);
        let previous = self.previous_of(target, current);
        let is_later = previous
            .and_then(|page| page.place.nav_seq)
            .max(known)
            .is_none_or(|number| number < nav_seq);
        if !has_number && earlier.is_none() && is_later {
            self.entry_mut(current)?.number(nav_seq, event);
            return Some(current);
        }
        earlier
    }

    /// The seq of a page.
    pub(crate) fn seq(&self, number: u64) -> Option<u64> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some(self.entries.get(index)?.navigation.at.seq)
    }

    /// Whether this is the page of the document.
    pub(crate) fn has_loader(&self, number: u64, loader_id: Option<&str>) -> bool {
        loader_id.is_some_and(|id| self.by_loader.get(id) == Some(&number))
    }

    /// Whether the frame is that of the target's tab, as far as is known.
    pub(crate) fn is_top_frame(&self, place: &Place) -> bool {
        let (Some(target), Some(frame)) = (&place.target_id, &place.frame_id) else {
            return false;
        };
        target == frame
            || self.current.get(target.as_str()).is_some_and(|number| {
                let index = number.checked_sub(self.first).unwrap_or(u64::MAX);
                let entry = usize::try_from(index)
                    .ok()
                    .and_then(|it| self.entries.get(it));
                entry.is_some_and(|it| it.navigation.place.frame_id.as_ref() == Some(frame))
            })
    }

    pub(crate) fn reached(&mut self, number: u64, envelope: &Envelope, milestone: Milestone) {
        let (ts, seq) = (envelope.event.ts, envelope.seq);
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        let navigation = &mut entry.navigation;
        let field = match milestone {
            Milestone::DomContentLoaded => &mut navigation.dom_content_loaded,
            Milestone::Load => &mut navigation.load,
            Milestone::NetworkIdle => &mut navigation.network_idle,
            Milestone::LayoutSettled => &mut navigation.layout_settled,
            Milestone::Settled => &mut navigation.settled,
            Milestone::Crashed => &mut navigation.crashed,
        };
        // The first time counts: the network may be idle many times.
        field.get_or_insert(ts);
        navigation.updated = seq;
    }

    pub(crate) fn painted(&mut self, number: u64, envelope: &Envelope, data: PageLcp) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        if entry.navigation.place.frame_id.as_ref() != Some(&data.source_frame_id) {
            return;
        }
        let details = data.lcp_details;
        let seconds = [details.render_time, details.load_time, data.time]
            .into_iter()
            .find(|seconds| 0.0 < *seconds);
        entry.navigation.lcp = Some(Lcp {
            ts: seconds.map_or(envelope.event.ts, |seconds| (seconds * 1e6).round() as u64),
            size: details.size,
            element_id: details.element_id.filter(|id| !id.is_empty()),
            url: details.url.filter(|url| !url.is_empty()),
        });
        entry.navigation.updated = envelope.seq;
    }

    pub(crate) fn shifted(&mut self, number: u64, envelope: &Envelope, data: &PageLayoutShift) {
        /// A window ends after this many seconds without a shift, and has at most so many.
        const GAP: f64 = 1.0;
        const LONGEST: f64 = 5.0;
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        let navigation = &mut entry.navigation;
        navigation.layout_shifts += 1;
        navigation.updated = envelope.seq;
        let is_own = navigation.place.frame_id.as_ref() == Some(&data.source_frame_id);
        let shift = &data.layout_shift_details;
        if !is_own || shift.had_recent_input || shift.value <= 0.0 {
            return;
        }
        let window = &mut entry.shifts;
        let continues =
            0.0 < window.sum && data.time - window.last < GAP && data.time - window.first < LONGEST;
        if continues {
            window.sum += shift.value;
        } else {
            window.first = data.time;
            window.sum = shift.value;
        }
        window.last = data.time;
        navigation.cls = navigation.cls.max(window.sum);
    }

    /// Events are missing up to the seq `to`: milestones of each present page may be among them.
    pub(crate) fn lost(&mut self, count: u64, to: u64) {
        let first = self.first;
        for number in self.current.values() {
            let index = number
                .checked_sub(first)
                .and_then(|it| usize::try_from(it).ok());
            if let Some(entry) = index.and_then(|it| self.entries.get_mut(it)) {
                entry.navigation.lost = entry.navigation.lost.saturating_add(count);
                entry.navigation.updated = to;
            }
        }
    }

    /// The server was restarted.
    pub(crate) fn restarted(&mut self) {
        self.run += 1;
        self.by_loader.clear();
        self.current.clear();
    }

    /// Removes the oldest while more are kept than allowed.
    pub(crate) fn over_limit(&mut self) -> Option<Navigation> {
        if self.entries.len() <= self.most {
            None
        } else {
            self.pop()
        }
    }

    /// Removes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Navigation> {
        let navigation = self.entries.pop_front()?.navigation;
        let number = self.first;
        self.first += 1;
        let place = &navigation.place;
        for (map, key) in [
            (&mut self.by_loader, &place.loader_id),
            (&mut self.current, &place.target_id),
        ] {
            if let Some(key) = key.as_deref()
                && map.get(key) == Some(&number)
            {
                map.remove(key);
            }
        }
        Some(navigation)
    }

    /// An earlier page of the target than `current`, by its number in the target.
    fn numbered(&self, target: &str, nav_seq: u64, current: u64) -> Option<u64> {
        /// How far back an event may be late.
        const RECENT: usize = 64;
        let end = usize::try_from(current.checked_sub(self.first)?).ok()?;
        let recent = (0..end).rev().take(RECENT);
        let found = recent.into_iter().find(|index| {
            let navigation = &self.entries[*index].navigation;
            navigation.is_page()
                && navigation.at.run == self.run
                && navigation.place.target_id.as_deref() == Some(target)
                && navigation.place.nav_seq == Some(nav_seq)
        });
        found.map(|index| self.first + index as u64)
    }

    /// The page of the target before `current`, if it is one of the last ones.
    fn previous_of(&self, target: &str, current: u64) -> Option<&Navigation> {
        const RECENT: usize = 64;
        let end = usize::try_from(current.checked_sub(self.first)?).ok()?;
        (0..end)
            .rev()
            .take(RECENT)
            .map(|index| &self.entries[index].navigation)
            .find(|it| {
                it.is_page()
                    && it.at.run == self.run
                    && it.place.target_id.as_deref() == Some(target)
            })
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let index = number.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }
}
