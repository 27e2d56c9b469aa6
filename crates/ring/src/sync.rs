//! The one door through which atomics, cells and threads come, so that loom sees all of them, and so
//! that a test can stop a thread between any two accesses.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence},
    thread::Thread,
};
#[cfg(all(not(loom), not(test)))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence,
};
use std::time::Duration;
#[cfg(not(loom))]
pub(crate) use std::{sync::Mutex, thread::Thread};
#[cfg(all(not(loom), test))]
pub(crate) use stepped::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};

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

/// Sleeps until this thread is unparked, or as long as that. Models have no time: they sleep until
/// they are unparked.
pub(crate) fn park(at_most: Option<Duration>) {
    #[cfg(not(loom))]
    match at_most {
        Some(at_most) => std::thread::park_timeout(at_most),
        None => std::thread::park(),
    }
    #[cfg(loom)]
    {
        let _ = at_most;
        loom::thread::park();
    }
}

/// The time since some moment. Models have none.
pub(crate) fn now() -> Duration {
    static BEGIN: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    if cfg!(loom) {
        return Duration::ZERO;
    }
    BEGIN.elapsed()
}

/// Whether what waits for its time need not wait: in models that ask for it.
pub(crate) fn time_has_passed() -> bool {
    #[cfg(loom)]
    {
        PASSED.get()
    }
    #[cfg(not(loom))]
    false
}

#[cfg(loom)]
thread_local! {
    /// Of one model: its threads share one thread of the system.
    static PASSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// In this model, whatever waits for its time need not wait: the keeper tidies as soon as there is
/// something. Without it, it does not, and a model has far fewer schedules.
#[cfg(loom)]
pub fn let_time_pass() {
    PASSED.set(true);
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
        swap(value: *mut T, order: Ordering) -> *mut T;
        compare_exchange(old: *mut T, new: *mut T, done: Ordering, failed: Ordering) -> Result<*mut T, *mut T>;
    );

    impl<T> AtomicPtr<T> {
        pub(crate) fn get_mut(&mut self) -> &mut *mut T {
            self.0.get_mut()
        }
    }
}
