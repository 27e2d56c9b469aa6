//! Navigation, loading and layout, and what is computed from them: when a page has settled.

use tapline_oapi::data::{
    LayoutShiftDetails, LcpDetails, PageCrashed, PageDomContentLoaded, PageLayoutSettled,
    PageLayoutShift, PageLcp, PageLoad, PageNavigation, PageNavigationSettled,
};
use tapline_oapi::{Category, KnownType};

use crate::network::Requests;
use crate::outbox::{Outbox, SECOND};
use crate::protocol::{Fired, Frame, NavigatedWithinDocument, TimelineEvent};
use crate::targets::Target;
use crate::timers::Wait;

/// No layout shift for that long after load is told as a settled layout (the taxonomy's).
const STILL: u64 = SECOND;

/// Ids that a page gave its elements are cut here, in bytes.
const MAX_ELEMENT_ID: usize = 512;

/// How far the present navigation has come.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    parsed: bool,
    still: bool,
}

/// A frame went to another document: the browser tells, with the event `cause`.
pub(crate) fn navigated(
    target: &mut Target,
    frame: &Frame<'_>,
    cause: &'static str,
    requests: &mut Requests,
    out: &mut Outbox,
) {
    let url = match &frame.url_fragment {
        Some(fragment) => out.url(&format!("{}{}", &*frame.url, &**fragment)),
        None => out.url(&frame.url),
    };
    // A frame with a process of its own has a parent, and is its target's main frame all the same.
    if target.is_main(&frame.id) || frame.parent_id.is_none() {
        target.nav_seq += 1;
        target.url.clone_from(&url);
        target.loader = Some(frame.loader_id.to_string());
        target.loading = Loading::default();
        out.timers.cancel_all(target.key);
        requests.navigated(target, out);
    }
    let told = PageNavigation {
        url,
        frame_id: frame.id.to_string(),
        loader_id: frame.loader_id.to_string(),
        parent_frame_id: frame.parent_id.as_deref().map(str::to_owned),
        session_id: Some(target.session.to_string()),
        target_id: Some(target.id.to_string()),
        target_type: Some(target.kind),
        nav_seq: None,
    };
    out.tell(KnownType::PageNavigation, Some(cause), &told);
}

/// The document that was there before we looked.
///
/// A tab that is opened with an address waits for us only once it has its first document. So the
/// browser tells of no navigation there, but it is one all the same. In a tab that was there before,
/// it is not.
pub(crate) fn found(
    target: &mut Target,
    frame: &Frame<'_>,
    new: bool,
    requests: &mut Requests,
    out: &mut Outbox,
) {
    // A navigation came between the question and its answer: that one is told already.
    if target.loader.is_some() {
        return;
    }
    if new && !matches!(&*frame.url, "" | ":" | "about:blank") {
        navigated(target, frame, "Page.getFrameTree", requests, out);
    } else {
        target.loader = Some(frame.loader_id.to_string());
    }
}

/// The page went elsewhere without another document: no navigation, but another address.
pub(crate) fn navigated_within(
    target: &mut Target,
    to: &NavigatedWithinDocument<'_>,
    out: &Outbox,
) {
    if target.is_main(&to.frame_id) {
        target.url = out.url(&to.url);
    }
}

pub(crate) fn parsed(target: &mut Target, fired: &Fired, out: &mut Outbox) {
    let told = PageDomContentLoaded {
        context: target.document(),
        cdp_timestamp: fired.timestamp.0,
    };
    let cause = Some("Page.domContentEventFired");
    out.tell(KnownType::PageDomContentLoaded, cause, &told);
    if !target.loading.parsed {
        target.loading.parsed = true;
        tell_settled(target, out);
    }
}

pub(crate) fn loaded(target: &Target, fired: &Fired, out: &mut Outbox) {
    let told = PageLoad {
        context: target.document(),
        cdp_timestamp: fired.timestamp.0,
    };
    out.tell(KnownType::PageLoad, Some("Page.loadEventFired"), &told);
    if out.captures(Category::Page) && !target.loading.still {
        out.timers.set(target.key, Wait::Layout, out.now + STILL);
    }
}

/// The second after load went by.
pub(crate) fn still(target: &mut Target, out: &mut Outbox) {
    let context = target.document();
    out.tell(
        KnownType::PageLayoutSettled,
        None,
        &PageLayoutSettled { context },
    );
    target.loading.still = true;
    tell_settled(target, out);
}

fn tell_settled(target: &Target, out: &mut Outbox) {
    if target.loading.parsed && target.loading.still {
        let context = target.document();
        let told = PageNavigationSettled { context };
        out.tell(KnownType::PageNavigationSettled, None, &told);
    }
}

pub(crate) fn timeline(target: &Target, event: &TimelineEvent<'_>, out: &mut Outbox) {
    let cause = Some("PerformanceTimeline.timelineEventAdded");
    let source_frame_id = event.frame_id.to_string();
    if let Some(shift) = &event.layout_shift_details {
        if out.timers.is_set(target.key, Wait::Layout) {
            out.timers.set(target.key, Wait::Layout, out.now + STILL);
        }
        let told = PageLayoutShift {
            context: target.context(),
            source_frame_id,
            time: event.time.0,
            duration: event.duration.unwrap_or_default().0,
            layout_shift_details: LayoutShiftDetails {
                value: shift.value.0,
                had_recent_input: shift.had_recent_input,
            },
        };
        out.tell(KnownType::PageLayoutShift, cause, &told);
    } else if let Some(paint) = &event.lcp_details {
        let element_id = paint.element_id.as_deref().filter(|id| !id.is_empty());
        let url = paint.url.as_deref().filter(|url| !url.is_empty());
        let told = PageLcp {
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
        out.tell(KnownType::PageLcp, cause, &told);
    }
}

pub(crate) fn crashed(target: &Target, out: &mut Outbox) {
    let context = target.context();
    let cause = Some("Inspector.targetCrashed");
    out.tell(KnownType::PageCrashed, cause, &PageCrashed { context });
}
