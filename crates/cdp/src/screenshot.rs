//! A picture of each page that has loaded, not too many, and none too large.

use serde_json::json;
use tapline_oapi::data::{MonitorScreenshot, TargetType};
use tapline_oapi::{Category, KnownType};

use crate::outbox::{Outbox, SECOND, What};
use crate::protocol::{LayoutMetrics, Screenshot};
use crate::targets::Target;
use crate::timers::Wait;

/// A page is pictured at most once in that time.
const PAUSE: u64 = 2 * SECOND;

/// A picture of more base64 than that is taken again, smaller. An envelope may have 1,000,000 bytes, and
/// the longest address is the most of what else is in it.
const MAX_PICTURE: usize = 950_000;

/// The smallest that a picture is taken: a quarter of its width and height.
const MAX_SHRUNK: u8 = 4;

/// When the page was pictured.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    last: Option<u64>,
}

/// What a picture is of, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shot {
    nav_seq: u64,
    /// By how much its width and height are divided.
    shrunk: u8,
}

/// The page has loaded, or may be pictured again: asks for a picture, or waits until it may.
pub(crate) fn take(target: &mut Target, out: &mut Outbox) {
    if target.kind != TargetType::Page || !out.captures(Category::Screenshot) {
        return;
    }
    let allowed = target.pictures.last.map_or(0, |last| last + PAUSE);
    if out.now < allowed {
        out.timers.set(target.key, Wait::Screenshot, allowed);
    } else if !out.may_ask_for_a_screenshot() {
        out.timers
            .set(target.key, Wait::Screenshot, out.now + PAUSE);
    } else {
        target.pictures.last = Some(out.now);
        let shot = Shot {
            nav_seq: target.nav_seq,
            shrunk: 1,
        };
        ask(target, shot, &json!({"format": "png"}), out);
    }
}

/// The picture is here.
pub(crate) fn taken(target: &Target, shot: Shot, picture: &Screenshot<'_>, out: &mut Outbox) {
    // Nobody knows of which of two documents it is.
    if shot.nav_seq != target.nav_seq || !out.captures(Category::Screenshot) {
        return;
    }
    if picture.data.len() > MAX_PICTURE && shot.shrunk < MAX_SHRUNK {
        let shot = Shot {
            shrunk: shot.shrunk * 2,
            ..shot
        };
        let session = Some(&*target.session);
        let what = What::Metrics(shot);
        let method = "Page.getLayoutMetrics";
        out.ask(Some(target.key), session, method, &json!({}), what);
        return;
    }
    let told = MonitorScreenshot {
        context: target.document(),
        png: picture.data.to_string(),
    };
    let cause = Some("Page.captureScreenshot");
    out.tell(KnownType::MonitorScreenshot, cause, &told);
}

/// What is visible is known, and can be pictured smaller.
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
    ask(target, shot, &json!({"format": "png", "clip": clip}), out);
}

fn ask(target: &Target, shot: Shot, params: &serde_json::Value, out: &mut Outbox) {
    let session = Some(&*target.session);
    let what = What::Screenshot(shot);
    let method = "Page.captureScreenshot";
    out.ask(Some(target.key), session, method, params, what);
}
