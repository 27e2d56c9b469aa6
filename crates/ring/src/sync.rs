//! The one door through which atomics, cells and threads come, so that models see all of them, and so
//! that a test can stop a thread between any two accesses.
//!
//! There are two kinds of models. Loom tries every schedule of a small scenario, and every value that
//! a load may see by its ordering. Shuttle tries some schedules of a large one, and takes every access
//! for `SeqCst`: it says nothing about orderings.

use std::time::Duration;

#[cfg(loom)]
use loom as model;
#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(shuttle)]
use shuttle as model;

#[cfg(any(loom, shuttle))]
pub(crate) use model::{
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence},
    thread, thread_local,
};
#[cfg(not(any(loom, shuttle, test)))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence,
};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{sync::Mutex, thread, thread_local};
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) use stepped::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};

/// Whether this is a model.
pub(crate) const MODEL: bool = cfg!(any(loom, shuttle));

/// Stands between a `SeqCst` write and the `SeqCst` read that must not run before it.
///
/// The accesses around it (see [W1], [W2], [E1] and [E3] in `docs/ring.md`) are all `SeqCst`, which
/// is enough by the language's memory model: this costs nothing. Loom treats `SeqCst` accesses as
/// `AcqRel` and would report what cannot happen, so its models get the fence that says the same to
/// it.
#[inline(always)]
pub(crate) fn store_load_barrier() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}

/// Sleeps until this thread is unparked, or as long as that. In loom's models no time passes: they
/// sleep until they are unparked.
pub(crate) fn park(at_most: Option<Duration>) {
    #[cfg(shuttle)]
    if let Some(at_most) = at_most {
        return shuttle_time::sleep(at_most);
    }
    #[cfg(not(any(loom, shuttle)))]
    if let Some(at_most) = at_most {
        return thread::park_timeout(at_most);
    }
    #[cfg(loom)]
    let _ = at_most;
    thread::park();
}

/// The time since some moment.
pub(crate) fn now() -> Duration {
    #[cfg(not(any(loom, shuttle)))]
    {
        static BEGIN: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        BEGIN.elapsed()
    }
    #[cfg(shuttle)]
    return shuttle_time::now();
    #[cfg(loom)]
    Duration::ZERO
}

/// In shuttle's models time passes when somebody sleeps for some of it, and while they do, others may
/// get on as far as the schedule says.
#[cfg(shuttle)]
mod shuttle_time {
    use std::cell::Cell;
    use std::time::Duration;

    std::thread_local! {
        /// Of the system's thread, on which all threads of one model run.
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(super) fn now() -> Duration {
        NOW.get()
    }

    pub(super) fn sleep(time: Duration) {
        NOW.set(NOW.get() + time);
        shuttle::thread::yield_now();
    }
}

/// As loom's: the way in is a closure, which loom holds against every other one.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, visit: impl FnOnce(*mut T) -> R) -> R {
        visit(self.0.get())
    }
}

/// The standard atomics, where each access is a step at which a thread can be made to stop.
#[cfg(all(test, not(any(loom, shuttle))))]
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
    stepped!(AtomicU32, u32,
        load(order: Ordering) -> u32;
        fetch_or(value: u32, order: Ordering) -> u32;
        fetch_and(value: u32, order: Ordering) -> u32;
    );
    stepped!(AtomicU64, u64,
        load(order: Ordering) -> u64;
        store(value: u64, order: Ordering) -> ();
        swap(value: u64, order: Ordering) -> u64;
        fetch_max(value: u64, order: Ordering) -> u64;
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
