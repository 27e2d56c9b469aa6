//! A lock-free stack: any thread pushes, and one thread takes everything at once.
//!
//! Taking everything at once keeps it simple: no address is compared that could have been used again
//! in between.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::order::{DEQUEUE, PUSH_NODE, QUEUE, TAKE_NODES};
use crate::sync::{AtomicBool, AtomicPtr, UnsafeCell};

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

/// As [`Stack`], of nodes that have their link in themselves and are used again: to push one allocates nothing.
pub(crate) struct NodeStack<T> {
    top: AtomicPtr<Linked<T>>,
    _owns: PhantomData<Arc<Linked<T>>>,
}

/// A node of a [`NodeStack`]. It is on a stack at most once.
#[derive(Default)]
pub(crate) struct Linked<T> {
    pub(crate) item: T,
    /// Whether it is on a stack, or is about to be pushed. While it is not, `below` belongs to the thread that sets
    /// this.
    queued: AtomicBool,
    below: Below<T>,
}

struct Below<T>(UnsafeCell<*mut Linked<T>>);

// SAFETY: the pointer is written by the thread that pushes, before the exchange, and read by the one that has taken the
// stack. What it points to is shared as an `Arc`.
unsafe impl<T: Send + Sync> Send for Below<T> {}
// SAFETY: as above: one thread at a time.
unsafe impl<T: Send + Sync> Sync for Below<T> {}

impl<T> Default for Below<T> {
    fn default() -> Self {
        Self(UnsafeCell::new(ptr::null_mut()))
    }
}

impl<T> Default for NodeStack<T> {
    fn default() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }
}

impl<T> NodeStack<T> {
    /// Pushes it, unless it is on a stack. Then the thread that takes that has everything that was done with the
    /// item before this call.
    pub(crate) fn push(&self, node: &Arc<Linked<T>>) {
        // Release [W5]: the item; Acquire [K2]: its link is not needed any more. Both pair with `next`.
        if node.queued.swap(true, QUEUE) {
            return;
        }
        let node = Arc::into_raw(node.clone()).cast_mut();
        let mut below = self.top.load(Relaxed);
        loop {
            // SAFETY: it lives as long as our reference. It was not queued, so [K2] the link is ours until it is stored.
            unsafe { (*node).below.0.with_mut(|link| *link = below) };
            // Release [K1]: the node; pairs with the exchange in `take_all`.
            match self.top.compare_exchange(below, node, PUSH_NODE, Relaxed) {
                Ok(_) => return,
                Err(now) => below = now,
            }
        }
    }

    /// Every node that is on it now, the newest first. What is not iterated over is dropped.
    pub(crate) fn take_all(&self) -> TakeNodes<T> {
        // Acquire [K1]: the nodes; pairs with the exchange in `push`.
        TakeNodes(self.top.swap(ptr::null_mut(), TAKE_NODES))
    }
}

impl<T> Drop for NodeStack<T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

pub(crate) struct TakeNodes<T>(*mut Linked<T>);

impl<T> Iterator for TakeNodes<T> {
    type Item = Arc<Linked<T>>;

    /// It can be pushed again from here on.
    fn next(&mut self) -> Option<Arc<Linked<T>>> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: it came from an `Arc` in `push`, and the exchange made the whole list ours.
        let node = unsafe { Arc::from_raw(self.0.cast_const()) };
        // SAFETY: the link is ours with the list.
        self.0 = node.below.0.with_mut(|link| unsafe { *link });
        // Acquire [W5]: the item as it was when its owner found it queued; Release [K2]: the link was read. Both pair with
        // `push`.
        node.queued.swap(false, DEQUEUE);
        Some(node)
    }
}

impl<T> Drop for TakeNodes<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
