//! The one door through which atomics come, so that loom sees all of them, and so that a test can
//! stop a thread between any two of them.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
#[cfg(all(not(loom), not(test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
#[cfg(all(not(loom), test))]
pub(crate) use stepped::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};

/// Stands between a `SeqCst` write and the `SeqCst` read that must not run before it.
///
/// The four accesses around the two calls (see [W1] and [W2] in `docs/ring.md`) are all `SeqCst`,
/// which is enough by the language's memory model: this costs nothing. Loom treats `SeqCst`
/// accesses as `AcqRel` and would report a lost wake-up that cannot happen, so its models get the
/// fence that says the same to it.
#[inline(always)]
pub(crate) fn store_load_barrier() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}

/// The standard atomics, where each access is a step at which a thread can be made to stop.
#[cfg(all(not(loom), test))]
pub(crate) mod stepped {
    use std::cell::RefCell;
    use std::sync::atomic::{self, Ordering};

    thread_local! {
        /// Called before each access of this thread.
        static BEFORE: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    }

    /// Has `before` called ahead of each access that this thread makes from now on.
    pub(crate) fn each_step(before: impl FnMut() + 'static) {
        BEFORE.set(Some(Box::new(before)));
    }

    fn step() {
        // Also reached when the thread's own variables are gone, by what is freed after them.
        let _ = BEFORE.try_with(|before| {
            if let Some(before) = &mut *before.borrow_mut() {
                before();
            }
        });
    }

    pub(crate) fn fence(order: Ordering) {
        step();
        atomic::fence(order);
    }

    macro_rules! stepped {
        ($name:ident $(<$param:ident>)?, $value:ty, $($method:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
            pub(crate) struct $name $(<$param>)? (atomic::$name $(<$param>)?);

            impl $(<$param>)? $name $(<$param>)? {
                pub(crate) const fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }

                $(pub(crate) fn $method(&self, $($arg: $type),*) -> $result {
                    step();
                    self.0.$method($($arg),*)
                })*
            }

            impl $(<$param>)? Default for $name $(<$param>)? {
                fn default() -> Self {
                    Self(Default::default())
                }
            }
        };
    }

    stepped!(AtomicBool, bool,
        load(order: Ordering) -> bool;
        store(value: bool, order: Ordering) -> ();
        swap(value: bool, order: Ordering) -> bool;
    );
    stepped!(AtomicU64, u64,
        load(order: Ordering) -> u64;
        store(value: u64, order: Ordering) -> ();
        fetch_max(value: u64, order: Ordering) -> u64;
        compare_exchange(old: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64>;
    );
    stepped!(AtomicUsize, usize,
        load(order: Ordering) -> usize;
        fetch_add(value: usize, order: Ordering) -> usize;
        fetch_sub(value: usize, order: Ordering) -> usize;
    );
    stepped!(AtomicPtr<T>, *mut T,
        load(order: Ordering) -> *mut T;
        store(value: *mut T, order: Ordering) -> ();
        swap(value: *mut T, order: Ordering) -> *mut T;
        compare_exchange(old: *mut T, new: *mut T, done: Ordering, failed: Ordering) -> Result<*mut T, *mut T>;
    );

    impl<T> AtomicPtr<T> {
        pub(crate) fn get_mut(&mut self) -> &mut *mut T {
            self.0.get_mut()
        }
    }
}
