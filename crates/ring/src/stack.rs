//! A lock-free stack to which anybody adds and from which somebody takes all.
//!
//! Taking all at once is what keeps it simple: no address is compared that could have been used
//! again in between.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::sync::AtomicPtr;

pub(crate) struct Stack<T> {
    top: AtomicPtr<Node<T>>,
}

struct Node<T> {
    item: T,
    below: *mut Node<T>,
}

// SAFETY: items go in on one thread and come out on another, once each.
unsafe impl<T: Send> Send for Stack<T> {}
// SAFETY: as above; nobody looks at an item while it is in here.
unsafe impl<T: Send> Sync for Stack<T> {}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl<T> Stack<T> {
    pub(crate) fn push(&self, item: T) {
        let mut below = self.top.load(Relaxed);
        let node = Box::into_raw(Box::new(Node { item, below }));
        loop {
            // Release [K1]: the node; pairs with the swap in `take_all`. SeqCst [W6]: see there.
            match self.top.compare_exchange(below, node, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => {
                    below = now;
                    // SAFETY: not stored yet, so it is ours alone.
                    unsafe { (*node).below = below };
                }
            }
        }
    }

    /// All that is in it now, the newest first. What is not iterated over is dropped.
    pub(crate) fn take_all(&self) -> TakeAll<T> {
        // Acquire [K1]: the nodes; pairs with the exchange in `push`.
        // SeqCst [W6]: after the mark of whoever takes was cleared; pairs with `push` and the look
        // at the mark that follows it.
        TakeAll(self.top.swap(ptr::null_mut(), SeqCst))
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

pub(crate) struct TakeAll<T>(*mut Node<T>);

impl<T> Iterator for TakeAll<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: it came from a box in `push`, and the swap made the whole list ours.
        let Node { item, below } = *unsafe { Box::from_raw(self.0) };
        self.0 = below;
        Some(item)
    }
}

impl<T> Drop for TakeAll<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
