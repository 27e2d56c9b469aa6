//! A lock-free stack: any thread pushes, and one thread takes everything at once.
//!
//! Taking everything at once keeps it simple: no address is compared that could have been used again
//! in between.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{AtomicPtr, UnsafeCell};

pub(crate) struct Stack<T> {
    top: AtomicPtr<Node<T>>,
}

struct Node<T> {
    /// In an [`UnsafeCell`] so that models see which thread reads it. `None` once it was taken.
    item: UnsafeCell<Option<T>>,
    below: *mut Node<T>,
}

// SAFETY: items go in on one thread and come out on another, once each.
unsafe impl<T: Send> Send for Stack<T> {}
// SAFETY: as above; an item in here is borrowed by no thread.
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
        let item = UnsafeCell::new(Some(item));
        let node = Box::into_raw(Box::new(Node { item, below }));
        loop {
            // Release [K1]: the node; pairs with the exchange in `take_all`.
            match self.top.compare_exchange(below, node, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => {
                    below = now;
                    // SAFETY: not stored yet, so it is ours alone.
                    unsafe { (*node).below = below };
                }
            }
        }
    }

    /// Everything that is in it now, the newest first. What is not iterated over is dropped.
    pub(crate) fn take_all(&self) -> TakeAll<T> {
        // Acquire [K1]: the nodes; pairs with the exchange in `push`.
        TakeAll(self.top.swap(ptr::null_mut(), Acquire))
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
        // SAFETY: it came from a box in `push`, and the exchange made the whole list ours.
        let node = unsafe { Box::from_raw(self.0) };
        self.0 = node.below;
        // SAFETY: the node is ours alone.
        node.item.with_mut(|item| unsafe { (*item).take() })
    }
}

impl<T> Drop for TakeAll<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
