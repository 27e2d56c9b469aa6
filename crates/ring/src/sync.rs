//! All atomics, cells and threads come from this module, so that models see them, and so that a test can
//! stop a thread between any two accesses.
//!
//! There are two kinds of models. Loom tries every schedule of a small scenario, and every value that
//! a load may see by its ordering. Shuttle tries some schedules of a large one, and takes every access
//! for `SeqCst`: it says nothing about orderings.

#[cfg(not(shuttle))]
use std::{io, time::Duration};

#[cfg(loom)]
use loom as model;
#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(shuttle)]
use shuttle as model;

#[cfg(loom)]
pub(crate) use loom::cell::Cell;
#[cfg(any(loom, shuttle))]
pub(crate) use model::{sync::Mutex, thread, thread_local};
#[cfg(loom)]
pub(crate) use sequential::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, fence};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, fence,
};
#[cfg(not(loom))]
pub(crate) use std::cell::Cell;
#[cfg(not(any(loom, shuttle, test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, fence};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{sync::Mutex, thread, thread_local};
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) use stepped::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, fence};

#[cfg(shuttle)]
pub(crate) use parking::{Thread, now, park, start};
#[cfg(not(shuttle))]
pub(crate) use thread::Thread;

/// Whether this is a model.
pub(crate) const MODEL: bool = cfg!(any(loom, shuttle));

/// Loom's atomics, with what `SeqCst` says of a write and a later load of the same thread.
///
/// Loom treats a `SeqCst` access as `AcqRel`, and would report as possible that two threads each write
/// one location, load the other's, and both miss the other's write. It does model `fence(SeqCst)`. So
/// there is one right before a `SeqCst` load if this thread has made a `SeqCst` write since its last
/// fence. Each fence follows from the two orderings that the code has: without either, it is missing.
/// It also orders accesses that lie between the two, which the language does not promise; `litmus.rs`
/// models the language.
#[cfg(loom)]
mod sequential {
    use std::cell::Cell;
    use std::sync::atomic::Ordering::{self, SeqCst};

    use loom::sync::atomic;

    loom::thread_local! {
        static HAS_WRITTEN: Cell<bool> = Cell::new(false);
    }

    pub(crate) fn fence(order: Ordering) {
        if order == SeqCst {
            set_written(false);
        }
        atomic::fence(order);
    }

    fn before_load(order: Ordering) {
        // At the very end of a thread it cannot be known.
        let has_written = || HAS_WRITTEN.try_with(Cell::get).unwrap_or(true);
        if order == SeqCst && has_written() {
            fence(SeqCst);
        }
    }

    fn after_write(order: Ordering) {
        if order == SeqCst {
            set_written(true);
        }
    }

    fn set_written(has_written: bool) {
        let _ = HAS_WRITTEN.try_with(|cell| cell.set(has_written));
    }

    macro_rules! sequential {
        ($name:ident $(<$param:ident>)?, $value:ty, $($write:ident -> $result:ty),*) => {
            #[derive(Default)]
            pub(crate) struct $name $(<$param>)? (atomic::$name $(<$param>)?);

            impl $(<$param>)? $name $(<$param>)? {
                #[allow(dead_code, reason = "not all of them are made with a value")]
                #[track_caller]
                pub(crate) fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }

                #[track_caller]
                pub(crate) fn load(&self, order: Ordering) -> $value {
                    before_load(order);
                    self.0.load(order)
                }

                $(#[track_caller]
                pub(crate) fn $write(&self, value: $value, order: Ordering) -> $result {
                    let result = self.0.$write(value, order);
                    after_write(order);
                    result
                })*
            }
        };
    }

    sequential!(AtomicBool, bool, store -> (), swap -> bool);
    sequential!(AtomicU8, u8, store -> ());
    sequential!(AtomicU32, u32, fetch_or -> u32, fetch_and -> u32, fetch_add -> u32, fetch_sub -> u32);
    sequential!(AtomicU64, u64, store -> (), swap -> u64, fetch_max -> u64);
    sequential!(AtomicPtr<T>, *mut T, swap -> *mut T);

    impl<T> AtomicPtr<T> {
        #[track_caller]
        pub(crate) fn compare_exchange(
            &self,
            old: *mut T,
            new: *mut T,
            done: Ordering,
            failed: Ordering,
        ) -> Result<*mut T, *mut T> {
            let result = self.0.compare_exchange(old, new, done, failed);
            if result.is_ok() {
                after_write(done);
            }
            result
        }

        pub(crate) fn with_mut<R>(&mut self, work: impl FnOnce(&mut *mut T) -> R) -> R {
            self.0.with_mut(work)
        }
    }
}

/// Starts a thread that can be woken with what is returned.
#[cfg(not(shuttle))]
pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(thread.thread().clone())
}

/// Sleeps until this thread is unparked, or as long as that. In loom's models no time passes: they
/// sleep until they are unparked.
#[cfg(not(shuttle))]
pub(crate) fn park(at_most: Option<Duration>) {
    #[cfg(not(loom))]
    if let Some(at_most) = at_most {
        return thread::park_timeout(at_most);
    }
    #[cfg(loom)]
    let _ = at_most;
    thread::park();
}

/// The time since some moment.
#[cfg(not(shuttle))]
pub(crate) fn now() -> Duration {
    static BEGIN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    if cfg!(loom) {
        return Duration::ZERO;
    }
    BEGIN.elapsed()
}

/// Whether a timer is due at once: in models that ask for it.
pub(crate) fn time_has_passed() -> bool {
    #[cfg(loom)]
    {
        PASSED.get()
    }
    #[cfg(not(loom))]
    false
}

#[cfg(loom)]
std::thread_local! {
    /// Belongs to one model: its threads share one thread of the system.
    static PASSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// In this model every timer is due at once: the notifier frees garbage as soon as there is some. Without
/// this it does not, and a model has far fewer schedules.
#[cfg(loom)]
pub fn let_time_pass() {
    PASSED.set(true);
}

/// Sleeping and waking under shuttle. Its own `park` sometimes returns without a reason, which is allowed
/// and would hide that a wake-up is missing. Here it does not, and shuttle reports a sleeper that is never
/// woken as a deadlock.
#[cfg(shuttle)]
mod parking {
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::sync::{Arc, PoisonError};
    use std::time::Duration;

    use shuttle::sync::{Condvar, Mutex};
    use shuttle::thread::{Builder, yield_now};

    #[derive(Clone, Default)]
    pub(crate) struct Thread(Arc<Token>);

    #[derive(Default)]
    struct Token {
        given: Mutex<bool>,
        changed: Condvar,
    }

    shuttle::thread_local! {
        static CURRENT: RefCell<Thread> = RefCell::default();
    }

    std::thread_local! {
        /// Of the system's thread, on which all threads of one model run.
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            *self.0.given.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.0.changed.notify_one();
        }
    }

    pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        let thread = Thread::default();
        let of_thread = thread.clone();
        Builder::new().name(name.to_owned()).spawn(move || {
            CURRENT.with(|current| current.replace(of_thread));
            work();
        })?;
        Ok(thread)
    }

    /// Where a time is given, it passes, and other threads run meanwhile as the schedule says.
    pub(crate) fn park(at_most: Option<Duration>) {
        if let Some(time) = at_most {
            NOW.set(NOW.get() + time);
            return yield_now();
        }
        let Thread(token) = CURRENT.with(|current| current.borrow().clone());
        let given = token.given.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = token.changed.wait_while(given, |given| !*given);
        *wait.unwrap_or_else(PoisonError::into_inner) = false;
    }

    pub(crate) fn now() -> Duration {
        NOW.get()
    }
}

/// As loom's: the value is reached in a closure, which loom checks against every other one.
#[cfg(not(any(loom, shuttle)))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(any(loom, shuttle)))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, visit: impl FnOnce(*mut T) -> R) -> R {
        visit(self.0.get())
    }
}

/// As loom's, under shuttle: entering and leaving are two steps, between which another thread may run.
#[cfg(shuttle)]
pub(crate) struct UnsafeCell<T> {
    value: std::cell::UnsafeCell<T>,
    taken: AtomicBool,
}

#[cfg(shuttle)]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: std::cell::UnsafeCell::new(value),
            taken: AtomicBool::new(false),
        }
    }

    pub(crate) fn with_mut<R>(&self, visit: impl FnOnce(*mut T) -> R) -> R {
        use std::sync::atomic::Ordering::SeqCst;
        assert!(!self.taken.swap(true, SeqCst), "two threads use it at once");
        let result = visit(self.value.get());
        self.taken.store(false, SeqCst);
        result
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
        // Also reached when the thread-local variables are gone, by what is freed after them.
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
                #[allow(dead_code, reason = "not all of them are made with a value")]
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
    stepped!(AtomicU8, u8,
        load(order: Ordering) -> u8;
        store(value: u8, order: Ordering) -> ();
    );
    stepped!(AtomicU32, u32,
        load(order: Ordering) -> u32;
        fetch_or(value: u32, order: Ordering) -> u32;
        fetch_and(value: u32, order: Ordering) -> u32;
        fetch_add(value: u32, order: Ordering) -> u32;
        fetch_sub(value: u32, order: Ordering) -> u32;
    );
    stepped!(AtomicU64, u64,
        load(order: Ordering) -> u64;
        store(value: u64, order: Ordering) -> ();
        swap(value: u64, order: Ordering) -> u64;
        fetch_max(value: u64, order: Ordering) -> u64;
    );
    stepped!(AtomicPtr<T>, *mut T,
        load(order: Ordering) -> *mut T;
        swap(value: *mut T, order: Ordering) -> *mut T;
        compare_exchange(old: *mut T, new: *mut T, done: Ordering, failed: Ordering) -> Result<*mut T, *mut T>;
    );

    impl<T> AtomicPtr<T> {
        pub(crate) fn get_mut(&mut self) -> &mut *mut T {
            self.0.get_mut()
        }
    }
}
