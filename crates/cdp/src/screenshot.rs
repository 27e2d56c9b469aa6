//! A picture of each page that has loaded, and not too many.

use serde_json::json;
use tapline_oapi::data::{MonitorScreenshot, TargetType};
use tapline_oapi::{Category, KnownType};

use crate::outbox::{Outbox, SECOND, What};
use crate::protocol::Screenshot;
use crate::targets::Target;
use crate::timers::Wait;

/// A page is pictured at most once in that time.
const PAUSE: u64 = 2 * SECOND;

/// When the page was pictured.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    last: Option<u64>,
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
        let nav_seq = target.nav_seq;
        out.ask(
            Some(target.key),
            Some(&target.session),
            "Page.captureScreenshot",
            &json!({"format": "png"}),
            What::Screenshot { nav_seq },
        );
    }
}

/// The picture is here.
pub(crate) fn taken(target: &Target, nav_seq: u64, picture: &Screenshot<'_>, out: &mut Outbox) {
    // Nobody knows of which of two documents it is.
    if nav_seq != target.nav_seq {
        return;
    }
    let told = MonitorScreenshot {
        context: target.document(),
        png: picture.data.to_string(),
    };
    let cause = Some("Page.captureScreenshot");
    out.tell(KnownType::MonitorScreenshot, cause, &told);
}
