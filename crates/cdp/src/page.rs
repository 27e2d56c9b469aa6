//! Navigation, loading and layout, and what is computed from them: when a page has settled.

use std::time::Duration;

use serde_json::json;
use tapline_oapi::data::{
    LayoutShiftDetails, LcpDetails, PageCrashed, PageDomContentLoaded, PageLayoutSettled,
    PageLayoutShift, PageLcp, PageLoad, PageNavigation, PageNavigationSettled,
};
use tapline_oapi::{Category, KnownType};

use crate::network::{self, Requests};
use crate::outbox::{Outbox, Purpose};
use crate::protocol::{Frame, NavigatedWithinDocument, TimelineEvent};
use crate::repeats::Past;
use crate::targets::{Loading, Milestone, Target};
use crate::time::Time;
use crate::timers::Wait;
use crate::{recover, screenshot};

/// The layout has settled after this time without a layout shift (from the taxonomy).
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The longest id of an element that is kept, in bytes.
const MAX_ELEMENT_ID: usize = 512;

/// A frame has another document, as the browser's event `cause` reports. `is_restored`: it is a document
/// that was left before, as it was left.
pub(crate) fn navigated(
    target: &mut Target,
    frame: &Frame<'_>,
    is_restored: bool,
    cause: &'static str,
    requests: &mut Requests,
    out: &mut Outbox,
) {
    // A page of the browser's own says that an address could not be loaded. The navigation was to that
    // address.
    let url = out.frame_url(frame);
    if frame.unreachable_url.is_some() {
        target.shows_error_page(&frame.loader_id);
    }
    if target.has_main(frame) {
        // What waits belongs to the document before.
        network::fetch_bodies(target, out);
        target.nav_seq += 1;
        target.is_restoring = false;
        target.url.clone_from(&url);
        target.loader = Some(frame.loader_id.to_string());
        target.loading = Loading::default();
        out.timers.cancel_all(target.key);
        if is_restored {
            requests.restored(target, &frame.loader_id, out);
        }
        requests.navigated(target, out);
        // Frames wait for us: what they load is reported, and their documents to the target that they are in.
        let is_first_of_tab = target.parent.is_none() && target.is_new && target.nav_seq == 1;
        if is_first_of_tab
            && out.captures(Category::Network)
            && url.starts_with("http")
            && !target.has_seen_document(&frame.loader_id)
        {
            recover::begin(target, out);
        }
    }
    let data = PageNavigation {
        url,
        frame_id: frame.id.to_string(),
        loader_id: frame.loader_id.to_string(),
        parent_frame_id: frame.parent_id.as_deref().map(str::to_owned),
        session_id: Some(target.session.to_string()),
        target_id: Some(target.id.to_string()),
        target_type: Some(target.kind),
        nav_seq: None,
        ..Default::default()
    };
    out.emit(KnownType::PageNavigation, Some(cause), &data);
}

/// The document that was there before we attached.
///
/// A tab that is opened with a URL begins to load it before we are attached. So the browser reports
/// no navigation to that document, although it is one, and perhaps no request. In a tab that was
/// there before, it is none, unless the tab has another document than when we looked first.
pub(crate) fn found(
    target: &mut Target,
    frame: &Frame<'_>,
    new: bool,
    requests: &mut Requests,
    out: &mut Outbox,
) {
    // A navigation came between the command and its answer, and was emitted.
    if target.nav_seq > 0 {
        return;
    }
    let is_blank = ["", ":", "about:blank"].iter().any(|it| frame.url.is(it));
    let is_other = match &target.loader {
        Some(loader) => **loader != *frame.loader_id,
        None => new,
    };
    if !is_other || is_blank {
        target.loader = Some(frame.loader_id.to_string());
        return;
    }
    navigated(target, frame, false, "Page.getFrameTree", requests, out);
}

/// The document was parsed, or is loaded. If the browser has reported no navigation yet, it may be that of
/// a document whose navigation we have missed; then it waits until that is known.
pub(crate) fn reached(target: &mut Target, milestone: Milestone, out: &mut Outbox) {
    if target.nav_seq == 0 {
        target.held.push(milestone);
        if target.held.len() == 1 {
            let purpose = Purpose::Frames { new: target.is_new };
            let session = Some(&*target.session);
            let method = "Page.getFrameTree";
            out.call(Some(target.key), session, method, &json!({}), purpose);
        }
    } else {
        emit_milestone(target, milestone, out);
    }
}

/// It is known which document is there, or will not be known.
pub(crate) fn release(target: &mut Target, out: &mut Outbox) {
    for milestone in std::mem::take(&mut target.held) {
        emit_milestone(target, milestone, out);
    }
}

fn emit_milestone(target: &mut Target, milestone: Milestone, out: &mut Outbox) {
    match milestone {
        Milestone::Parsed(timestamp) => parsed(target, timestamp, out),
        Milestone::Loaded(timestamp) => {
            loaded(target, timestamp, out);
            target.loading.is_loaded = true;
            network::fetch_bodies(target, out);
            screenshot::take(target, out);
        }
    }
}

/// The document was opened to be written, which gives it the URL of the document that opened it. This is
/// not a navigation.
pub(crate) fn opened(target: &mut Target, frame: &Frame<'_>, out: &Outbox) {
    if target.has_main(frame) {
        target.url = out.frame_url(frame);
    }
}

/// The page has another URL without another document. This is not a navigation.
pub(crate) fn navigated_within(
    target: &mut Target,
    to: &NavigatedWithinDocument<'_>,
    out: &Outbox,
) {
    if target.is_main(&to.frame_id) {
        target.url = out.url(&to.url);
    }
}

fn parsed(target: &mut Target, cdp_timestamp: f64, out: &mut Outbox) {
    let data = PageDomContentLoaded {
        context: target.document(),
        cdp_timestamp,
    };
    let cause = Some("Page.domContentEventFired");
    out.emit(KnownType::PageDomContentLoaded, cause, &data);
    if !target.loading.is_parsed {
        target.loading.is_parsed = true;
        emit_if_settled(target, out);
    }
}

fn loaded(target: &Target, cdp_timestamp: f64, out: &mut Outbox) {
    let data = PageLoad {
        context: target.document(),
        cdp_timestamp,
    };
    out.emit(KnownType::PageLoad, Some("Page.loadEventFired"), &data);
    if out.captures(Category::Page) && !target.loading.is_settled {
        wait_for_layout(target, out);
    }
}

fn wait_for_layout(target: &Target, out: &mut Outbox) {
    let at = out.now.monotonic.saturating_add(SETTLED_AFTER);
    out.timers.set(target.key, Wait::Layout, at);
}

/// The wait for the layout is over.
pub(crate) fn layout_settled(target: &mut Target, out: &mut Outbox) {
    let context = target.document();
    let data = PageLayoutSettled { context };
    out.emit(KnownType::PageLayoutSettled, None, &data);
    target.loading.is_settled = true;
    emit_if_settled(target, out);
}

fn emit_if_settled(target: &Target, out: &mut Outbox) {
    if target.loading.is_parsed && target.loading.is_settled {
        let context = target.document();
        let data = PageNavigationSettled { context };
        out.emit(KnownType::PageNavigationSettled, None, &data);
    }
}

/// Whether the entry was not emitted before: a frame that comes back with its page repeats its timeline.
pub(crate) fn is_new_entry(event: &TimelineEvent<'_>, past: &mut Past, now: Time) -> bool {
    let kind = if event.layout_shift_details.is_some() {
        "layout-shift"
    } else {
        "paint"
    };
    past.is_new_entry(kind, &event.frame_id, event.time.0 * 1000.0, now)
}

/// A layout shift or a paint of this time.
pub(crate) fn timeline(target: &Target, event: &TimelineEvent<'_>, ts: u64, out: &mut Outbox) {
    let cause = Some("PerformanceTimeline.timelineEventAdded");
    let source_frame_id = event.frame_id.to_string();
    if let Some(shift) = &event.layout_shift_details {
        if out.timers.is_set(target.key, Wait::Layout) {
            wait_for_layout(target, out);
        }
        let data = PageLayoutShift {
            context: target.context(),
            source_frame_id,
            time: event.time.0,
            duration: event.duration.unwrap_or_default().0,
            layout_shift_details: LayoutShiftDetails {
                value: shift.value.0,
                had_recent_input: shift.had_recent_input,
            },
        };
        out.emit_at(ts, KnownType::PageLayoutShift, cause, &data);
    } else if let Some(paint) = &event.lcp_details {
        let element_id = paint.element_id.as_ref().filter(|id| !id.is_empty());
        let url = paint.url.as_ref().filter(|url| !url.is_empty());
        let data = PageLcp {
            context: target.context(),
            source_frame_id,
            time: event.time.0,
            lcp_details: LcpDetails {
                render_time: paint.render_time.0,
                load_time: paint.load_time.0,
                size: paint.size.0,
                element_id: element_id.map(|id| out.text_within(id, MAX_ELEMENT_ID)),
                url: url.map(|url| out.url(url)),
                node_id: paint.node_id,
            },
            duration: event.duration.map(|it| it.0),
        };
        out.emit_at(ts, KnownType::PageLcp, cause, &data);
    }
}

pub(crate) fn crashed(target: &Target, out: &mut Outbox) {
    let context = target.context();
    let cause = Some("Inspector.targetCrashed");
    out.emit(KnownType::PageCrashed, cause, &PageCrashed { context });
}
