//! What is there already: the last events, or those since a time.

use std::collections::VecDeque;

use tapline_client::{Client, Cursor, Error, PageOptions, PageOrder};
use tapline_oapi::{Envelope, Epoch};

use super::Selection;

/// How many events are looked at for those that only we can choose.
const MOST_LOOKED_AT: u64 = 100_000;

/// Events that were read, oldest first, and where the stream continues.
pub(super) struct Recent {
    pub(super) events: VecDeque<(Epoch, Envelope)>,
    /// After everything that was looked at.
    pub(super) end: Cursor,
    /// How many events in between could not be read.
    pub(super) lost: u64,
}

/// The last `count` events of the selection.
pub(super) async fn last(
    client: &Client,
    selection: &Selection,
    count: u64,
) -> Result<Recent, Error> {
    let (mut recent, mut options) = begin(client, selection).await?;
    options.order = PageOrder::NewestFirst;
    // A page has no more than is wanted, where the server can choose. It finds a text in names of fields, too.
    if !selection.problems && selection.grep.is_none() {
        options.limit = count.clamp(1, 1000);
    }
    let mut looked_at = 0;
    while (recent.events.len() as u64) < count && looked_at < MOST_LOOKED_AT {
        let page = client.page(&options).await?;
        looked_at += page.envelopes.len() as u64;
        for envelope in page.envelopes {
            let is_later = page.epoch == recent.epoch() && recent.end.seq < envelope.seq;
            if !is_later && selection.has(&envelope) && (recent.events.len() as u64) < count {
                recent.events.push_front((page.epoch, envelope));
            }
        }
        let Some(next) = page.next else { break };
        options.offset = Some(next);
    }
    Ok(recent)
}

/// The events of the selection since a time.
pub(super) async fn since(
    client: &Client,
    selection: &Selection,
    since: &str,
) -> Result<Recent, Error> {
    let (mut recent, mut options) = begin(client, selection).await?;
    options.since = Some(since.to_owned());
    loop {
        let page = client.page(&options).await?;
        recent.lost += page.lost;
        for envelope in page.envelopes {
            let is_later = page.epoch == recent.epoch() && recent.end.seq < envelope.seq;
            if is_later {
                return Ok(recent);
            }
            if selection.has(&envelope) {
                recent.events.push_back((page.epoch, envelope));
            }
        }
        match page.next {
            // Of the present run there may always be more.
            Some(next) if next.epoch.is_some() || next.seq < recent.end.seq => {
                options.offset = Some(next);
            }
            _ => return Ok(recent),
        }
    }
}

/// Nothing yet, up to the head of this moment.
async fn begin(client: &Client, selection: &Selection) -> Result<(Recent, PageOptions), Error> {
    let now = client.sinks().await?;
    let recent = Recent {
        events: VecDeque::new(),
        end: Cursor {
            seq: now.head,
            epoch: Some(now.epoch),
        },
        lost: 0,
    };
    let options = PageOptions {
        categories: selection.categories,
        types: selection.types.clone(),
        contains: selection.grep.as_ref().map(|grep| grep.text.clone()),
        ..PageOptions::default()
    };
    Ok((recent, options))
}

impl Recent {
    fn epoch(&self) -> Epoch {
        self.end.epoch.expect("it was created with an epoch")
    }
}
