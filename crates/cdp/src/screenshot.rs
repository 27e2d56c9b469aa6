//! A screenshot of each page that has loaded, at a limited rate and size.

use std::time::Duration;

use serde_json::json;
use tapline_oapi::data::{MonitorScreenshot, TargetType};
use tapline_oapi::{Category, KnownType};

use crate::outbox::{Outbox, Purpose, Shot};
use crate::protocol::{LayoutMetrics, Screenshot};
use crate::redact::cut;
use crate::targets::Target;
use crate::timers::Wait;

/// The shortest time between two screenshots of a page.
const PAUSE: Duration = Duration::from_secs(2);

/// A screenshot of more base64 than that is taken again, smaller. An envelope may have 1,000,000
/// bytes, and the longest URL is most of what else is in it.
const MAX_PICTURE: usize = 950_000;

/// The smallest size of a screenshot: a quarter of the page's width and height.
const MAX_SHRUNK: u8 = 4;

/// What is copied of a screenshot that is too large at its smallest size. It does not fit into an
/// envelope, which is then marked as truncated.
const MAX_COPIED: usize = 1 << 20;

/// The page has loaded, or a screenshot is allowed again: requests one, or waits until it may.
pub(crate) fn take(target: &mut Target, out: &mut Outbox) {
    if target.kind != TargetType::Page || !out.captures(Category::Screenshot) {
        return;
    }
    let now = out.now.monotonic;
    let allowed = target
        .last_screenshot
        .map(|last| last.saturating_add(PAUSE));
    if let Some(allowed) = allowed.filter(|allowed| now < *allowed) {
        out.timers.set(target.key, Wait::Screenshot, allowed);
    } else if !out.may_request_screenshot() {
        let later = now.saturating_add(PAUSE);
        out.timers.set(target.key, Wait::Screenshot, later);
    } else {
        target.last_screenshot = Some(now);
        let shot = Shot {
            nav_seq: target.nav_seq,
            shrunk: 1,
        };
        request(target, shot, &json!({"format": "png"}), out);
    }
}

/// The browser has answered with the screenshot.
pub(crate) fn taken(target: &Target, shot: Shot, picture: &Screenshot<'_>, out: &mut Outbox) {
    // After a navigation it is not known which of the two documents it shows.
    if shot.nav_seq != target.nav_seq || !out.captures(Category::Screenshot) {
        return;
    }
    if picture.data.len() > MAX_PICTURE && shot.shrunk < MAX_SHRUNK {
        let shot = Shot {
            shrunk: shot.shrunk * 2,
            ..shot
        };
        let session = Some(&*target.session);
        let purpose = Purpose::Metrics(shot);
        let method = "Page.getLayoutMetrics";
        out.call(Some(target.key), session, method, &json!({}), purpose);
        return;
    }
    let data = MonitorScreenshot {
        context: target.document(),
        png: cut(&picture.data, MAX_COPIED).to_owned(),
    };
    let cause = Some("Page.captureScreenshot");
    out.emit(KnownType::MonitorScreenshot, cause, &data);
}

/// The viewport is known, so the screenshot can be taken smaller.
pub(crate) fn measured(target: &Target, shot: Shot, metrics: &LayoutMetrics, out: &mut Outbox) {
    if !out.captures(Category::Screenshot) {
        return;
    }
    let view = &metrics.css_visual_viewport;
    let clip = json!({
        "x": view.page_x,
        "y": view.page_y,
        "width": view.client_width,
        "height": view.client_height,
        "scale": 1.0 / f64::from(shot.shrunk),
    });
    request(target, shot, &json!({"format": "png", "clip": clip}), out);
}

fn request(target: &Target, shot: Shot, params: &serde_json::Value, out: &mut Outbox) {
    let session = Some(&*target.session);
    let purpose = Purpose::Screenshot(shot);
    let method = "Page.captureScreenshot";
    out.call(Some(target.key), session, method, params, purpose);
}
