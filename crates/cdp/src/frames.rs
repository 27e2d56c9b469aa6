//! The frames of a target, the documents in them, and the script contexts in these: where a console line
//! or an interaction happened.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::outbox::Outbox;
use crate::protocol::{ExecutionContext, Frame, FrameTree, PageText};
use crate::repeats::{Document, Past, Writer, Written};

/// Frames that are remembered for each target. Chromium allows a page no more.
const MAX_FRAMES: usize = 1000;

/// Script contexts that are remembered for each target.
const MAX_CONTEXTS: usize = 1000;

#[derive(Debug)]
struct ScriptContext {
    /// Unique in the browser, also for a page that is restored.
    id: Box<str>,
    /// None in a worker.
    frame: Option<Box<str>>,
    /// Whether our script runs in it.
    is_ours: bool,
    written: Written,
}

/// Each number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    documents: HashMap<Box<str>, Arc<Document>>,
    /// By the number that the target gives it.
    contexts: BTreeMap<i64, ScriptContext>,
    /// What contexts that are not remembered wrote.
    others: Written,
    /// The page whose log entries come, by the loader of its main document.
    page: Box<str>,
    log: Written,
}

/// Where something happened.
pub(crate) struct Place<'f> {
    pub(crate) frame: &'f str,
    pub(crate) document: Option<&'f Document>,
}

impl Frames {
    /// A target that may have been there before, in another session.
    pub(crate) fn of_target(id: &str, past: &mut Past) -> Self {
        Self {
            others: past.take(id).unwrap_or_default().written,
            ..Self::default()
        }
    }

    /// The document of this frame, if it is known.
    pub(crate) fn document(&self, frame: &str) -> Option<&Document> {
        self.documents.get(frame).map(Arc::as_ref)
    }

    /// The frame and the document of a script context; none in a worker.
    pub(crate) fn place(&self, context: Option<i64>) -> Option<Place<'_>> {
        let frame = self.contexts.get(&context?)?.frame.as_deref()?;
        let document = self.document(frame);
        Some(Place { frame, document })
    }

    /// What a script context wrote.
    pub(crate) fn written(&mut self, context: Option<i64>) -> &mut Written {
        let context = context.and_then(|context| self.contexts.get_mut(&context));
        context.map_or(&mut self.others, |context| &mut context.written)
    }

    /// What the browser wrote into the log of the page.
    pub(crate) fn logged(&mut self) -> &mut Written {
        &mut self.log
    }

    /// The contexts in which our script runs.
    pub(crate) fn worlds(&self) -> impl Iterator<Item = i64> {
        let ours = self.contexts.iter().filter(|(_, context)| context.is_ours);
        ours.map(|(number, _)| *number)
    }

    // Documents.

    /// A frame has another document. `is_restored` says that it comes from the back/forward cache.
    pub(crate) fn navigated(
        &mut self,
        frame: &Frame<'_>,
        is_main: bool,
        is_restored: bool,
        past: &mut Past,
        out: &Outbox,
    ) {
        if is_main {
            let contexts = &self.contexts;
            self.documents.retain(|id, _| {
                let is_there = |it: &ScriptContext| it.frame.as_deref() == Some(id);
                is_restored && contexts.values().any(is_there)
            });
            self.show(&frame.loader_id, past);
            // The browser reports a restored page after everything that it repeats.
            self.log.repeats = false;
            self.others.repeats = false;
            for context in self.contexts.values_mut() {
                context.written.repeats = false;
            }
        }
        self.opened(frame, out);
    }

    /// A frame has another document, or the same one at another address.
    pub(crate) fn opened(&mut self, frame: &Frame<'_>, out: &Outbox) {
        let document = Document {
            loader: (&*frame.loader_id).into(),
            url: out.frame_url(frame),
        };
        self.put(&frame.id, Arc::new(document));
    }

    /// The frames that were there before we attached.
    pub(crate) fn found(&mut self, tree: &FrameTree<'_>, past: &mut Past, out: &Outbox) {
        self.show(&tree.frame.loader_id, past);
        let mut trees = vec![tree];
        while let Some(tree) = trees.pop() {
            self.opened(&tree.frame, out);
            trees.extend(&tree.child_frames.items);
        }
    }

    /// A frame was inserted. If it is not written into, it has another document soon.
    pub(crate) fn attached(&mut self, frame: &str) {
        if !self.documents.contains_key(frame) {
            let document = Document {
                loader: Box::default(),
                url: "about:blank".to_owned(),
            };
            self.put(frame, Arc::new(document));
        }
    }

    pub(crate) fn detached(&mut self, frame: &str) {
        self.documents.remove(frame);
    }

    /// The document of a frame has another address.
    pub(crate) fn moved(&mut self, frame: &str, url: &PageText<'_>, out: &Outbox) {
        if let Some(document) = self.documents.get_mut(frame) {
            let loader = document.loader.clone();
            let url = out.url(url);
            *document = Arc::new(Document { loader, url });
        }
    }

    fn put(&mut self, frame: &str, document: Arc<Document>) {
        if let Some(before) = self.documents.get_mut(frame) {
            *before = document;
        } else if self.documents.len() < MAX_FRAMES {
            self.documents.insert(frame.into(), document);
        }
    }

    /// From now on the log is that of the page whose main document has this loader.
    fn show(&mut self, loader: &str, past: &mut Past) {
        if *self.page == *loader {
            return;
        }
        let written = self.log;
        let writer = Writer {
            written,
            document: None,
        };
        past.remember(&self.page, writer);
        self.page = loader.into();
        self.log = past.take(loader).unwrap_or_default().written;
    }

    // Script contexts.

    /// A script context was created, or is there again. Returns whether it is that of another main document than
    /// the present one: then the page was restored, and its navigation is reported later.
    pub(crate) fn created(
        &mut self,
        context: &ExecutionContext<'_>,
        is_ours: bool,
        main: &str,
        past: &mut Past,
    ) -> bool {
        // If it is reported twice, it is there again.
        self.destroyed(context.id, past);
        let frame = context.aux_data.frame_id.as_deref();
        let before = past.take(&context.unique_id).unwrap_or_default();
        let mut is_restored = false;
        if let (Some(frame), Some(document)) = (frame, before.document) {
            let present = self.documents.get(frame);
            if present.is_none_or(|present| present.loader != document.loader) {
                is_restored = frame == main && present.is_some();
                if frame == main {
                    self.show(&document.loader, past);
                }
                self.put(frame, document);
            }
        }
        if self.contexts.len() < MAX_CONTEXTS {
            let context_of = ScriptContext {
                id: (&*context.unique_id).into(),
                frame: frame.map(Into::into),
                is_ours,
                written: before.written,
            };
            self.contexts.insert(context.id, context_of);
        }
        is_restored
    }

    pub(crate) fn destroyed(&mut self, number: i64, past: &mut Past) {
        if let Some(context) = self.contexts.remove(&number) {
            self.remember(&context, past);
        }
    }

    /// All contexts are gone.
    pub(crate) fn cleared(&mut self, past: &mut Past) {
        for (_, context) in std::mem::take(&mut self.contexts) {
            self.remember(&context, past);
        }
    }

    /// The target is gone.
    pub(crate) fn gone(&mut self, id: &str, past: &mut Past) {
        self.cleared(past);
        self.show("", past);
        let written = std::mem::take(&mut self.others);
        let document = None;
        past.remember(id, Writer { written, document });
        self.documents.clear();
    }

    fn remember(&self, context: &ScriptContext, past: &mut Past) {
        let frame = context.frame.as_deref();
        let document = frame.and_then(|frame| self.documents.get(frame)).cloned();
        let written = context.written;
        past.remember(&context.id, Writer { written, document });
    }
}
