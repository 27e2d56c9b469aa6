//! Where events go: [`Output`], [`Gate`], and how the layer does not publish what it causes itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tapline_oapi::Event;

/// Takes events. Never waits.
pub(crate) trait Output: Send + Sync {
    fn offer(&self, event: Event);
}

/// Whether anything is to be published: a session captures the layer's category.
pub(crate) struct Gate(AtomicBool);

impl Gate {
    pub(crate) const fn new(is_open: bool) -> Self {
        Self(AtomicBool::new(is_open))
    }

    pub(crate) fn is_open(&self) -> bool {
        // Only a hint: publishing decides again.
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, is_open: bool) {
        self.0.store(is_open, Relaxed);
    }
}

thread_local! {
    static MUTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is publishing, so that what it logs is of our own making. True also while the thread is being torn down.
pub(crate) fn is_muted() -> bool {
    MUTED.try_with(Cell::get).unwrap_or(true)
}

/// What this thread logs is not published until the value is dropped.
pub(crate) struct Muted(bool);

impl Muted {
    pub(crate) fn new() -> Self {
        Self(MUTED.try_with(|muted| muted.replace(true)).unwrap_or(true))
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        // It fails only where the thread is being torn down, and then nothing is published any more.
        let _ = MUTED.try_with(|muted| muted.set(self.0));
    }
}
