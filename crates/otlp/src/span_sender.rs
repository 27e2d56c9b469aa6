//! Sends the spans: apart from the logs, so that neither waits for the other.

use std::sync::Arc;

use tapline_api::{Backoff, Settled, StopSignal};

use crate::answer::Verdict;
use crate::batch::Frame;
use crate::send::{Sender, Signal};
use crate::sink::{Report, body, wait};
use crate::spans::Waiting;

/// The task of one run.
pub(crate) struct SpanSender {
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) frame: Arc<Frame>,
    pub(crate) sender: Sender,
    pub(crate) backoff: Backoff,
    pub(crate) report: Report,
    pub(crate) compress: bool,
    /// The most spans of a request. Gets smaller where the endpoint says that a request is too large.
    pub(crate) max_spans: usize,
    pub(crate) max_bytes: usize,
    pub(crate) stop: StopSignal,
}

impl SpanSender {
    /// Until nothing follows and nothing waits.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.waiting.first(self.max_spans, self.max_bytes).await {
            let (number, count) = (first.number, first.count);
            let (body, is_gzip) = body(self.frame.request(&first.bytes), self.compress).await;
            if let Err(error) = self.sender.reload_headers().await {
                self.report.error(&error);
            }
            let pause = match self.sender.post(Signal::Traces, body, is_gzip).await {
                Err(fault) => {
                    self.report.error(&fault);
                    self.backoff.next()
                }
                Ok(answer) => match answer.verdict(count) {
                    Verdict::Accepted { rejected, warning } => {
                        let rejected = usize::try_from(rejected).unwrap_or(count);
                        self.waiting.settle(number, rejected, Settled::Rejected);
                        let exported = (number + rejected as u64, count - rejected);
                        self.waiting
                            .settle(exported.0, exported.1, Settled::Exported);
                        self.backoff.reset();
                        match warning {
                            Some(warning) => self.report.error(&warning),
                            None => self.report.success(),
                        }
                        continue;
                    }
                    Verdict::TooLarge(refusal) if 1 < count => {
                        self.report.error(&refusal);
                        self.max_spans = count / 2;
                        continue;
                    }
                    Verdict::Retry { after, refusal } => {
                        self.report.error(&refusal);
                        after.unwrap_or_default() + self.backoff.next()
                    }
                    Verdict::Unauthorized(refusal) => {
                        self.report.error(&refusal);
                        // The token was replaced while the request was on its way.
                        if !self.sender.reload_headers().await.unwrap_or(false) {
                            self.waiting.settle(number, count, Settled::Rejected);
                        }
                        continue;
                    }
                    Verdict::TooLarge(refusal) | Verdict::Rejected(refusal) => {
                        self.report.error(&refusal);
                        self.waiting.settle(number, count, Settled::Rejected);
                        continue;
                    }
                },
            };
            wait(pause, &self.stop).await;
        }
    }
}
