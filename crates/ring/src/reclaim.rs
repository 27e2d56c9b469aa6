//! When memory that has left the ring may be freed (`docs/decisions/0002-reclamation.md`).
//!
//! Epoch-based reclamation, with the ring's own seqs as epochs. A thread that enters the ring writes
//! down which tail it saw: it is *pinned* there. What leaves a slot is stamped with a seq that is stored
//! only after that. So a thread that is pinned at the stamp or beyond entered when it was gone already,
//! and once that holds for all threads, it can be freed.
//!
//! What a thread has retired waits in the thread's own *retire list*, where it finds memory for its next
//! records, so that a steady flow of records allocates nothing. A thread that stops for good leaves its
//! list behind: the notifier takes what is in it ([`Domain::sweep`]).
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::foreign;
use crate::order::{LOOK_AT_CLOSED, PIN, SCAN_FENCE, SWEEP_FENCE};
use crate::per_thread::PerThread;
use crate::record::Spare;
use crate::slot::{View, Word};
use crate::stack::Stack;
use crate::sync::{AtomicBool, AtomicU64, Cell, MODEL, UnsafeCell, fence};

/// How many records a thread retires before it looks which of them no thread can reach any more: one
/// look at all threads for that many appends.
///
/// In models after each, so that what they are about happens in few steps.
const SCAN_EVERY: usize = if MODEL { 1 } else { 32 };

/// How many records a thread frees with each append, beyond the one whose memory it uses again, while
/// there are more than it will need.
const SURPLUS: usize = 2;

/// The reclamation of one ring.
pub(crate) struct Domain<T, S> {
    threads: PerThread<Member<T, S>>,
    /// Retired by threads whose list was closed at that moment.
    overflow: Stack<Retired<T, S>>,
}

/// What a thread is to one ring.
struct Member<T, S> {
    /// [`OUTSIDE`], or one more than the tail that the thread saw when it entered.
    pinned: AtomicU64,
    /// Whether the notifier wants the retire list: then its owner leaves it alone.
    closed: AtomicBool,
    /// How often the thread is pinned, one visit within another. Its owner's alone.
    depth: Cell<usize>,
    /// Whether the retire list was open when the thread entered. Its owner's alone.
    open: Cell<bool>,
    /// Belongs to its owner while that is pinned and found it open, and to the notifier while that has
    /// it closed and found its owner outside ([E3]).
    list: UnsafeCell<RetireList<T, S>>,
}

const OUTSIDE: u64 = 0;

/// What has left a slot, and the seq from which on a thread that enters cannot reach it.
struct Retired<T, S> {
    word: Word<T, S>,
    stamp: u64,
}

/// What a thread has retired, the oldest first.
struct RetireList<T, S> {
    retired: VecDeque<Retired<T, S>>,
    /// So many of the oldest can be reached by no thread.
    safe: usize,
    /// With so many that are not known to be safe, it is time to look again.
    scan_at: usize,
    /// Memory of a record that was refused in the end.
    spare: Option<Spare<T, S>>,
}

// SAFETY: `depth` and `open` are touched by the owning thread alone ([T1]: a member belongs to one
// thread at a time, and goes to the next by acquire and release), the list as its comment says; what
// is in it are references to `T` and `S` that may be dropped on any thread.
unsafe impl<T: Send + Sync, S: Send + Sync> Sync for Member<T, S> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for Member<T, S> {}
// SAFETY: a retired word is owned, and may be freed on any thread.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for Retired<T, S> {}

/// While it lives, nothing that could be reached when it was made is freed.
///
/// A guard that is held for long keeps alive all that is evicted meanwhile, so none crosses an
/// await or a caller's unbounded work.
pub(crate) struct Guard<'d, T, S> {
    domain: &'d Domain<T, S>,
    me: &'d Member<T, S>,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl<T: Send + Sync + 'static, S: Send + Sync + 'static> Domain<T, S> {
    /// Enters. `tail` is a seq that is stored, as new as is known without a search.
    #[inline]
    pub(crate) fn pin(&self, tail: u64) -> Guard<'_, T, S> {
        let me = self.threads.mine();
        let depth = me.depth.get();
        me.depth.set(depth + 1);
        if depth == 0 {
            // SeqCst [E1]: before every look into a slot; pairs with the fence in `horizon`. A swap,
            // since on x86 it is four times as fast as a store and a fence.
            // SeqCst [E3], [E5]: before the looks at `closed` and at the flags; pairs with the fence in
            // `sweep`.
            // Release [E2]: the visits before this one.
            me.pinned.swap(tail + 1, PIN);
            // SeqCst [E3]. Acquire [E4]: the list as the notifier left it; pairs with the opening.
            me.open.set(!me.closed.load(LOOK_AT_CLOSED));
        }
        Guard {
            domain: self,
            me,
            _not_send: PhantomData,
        }
    }

    /// Every thread that enters from now on, and each that is inside but `except`, is pinned there or
    /// beyond, as far as it matters for what has left the slots by now.
    fn horizon(&self, except: Option<&Member<T, S>>) -> u64 {
        // SeqCst [E1]: what was retired has left its slot; pairs with the swap in `pin`. If the swap
        // comes first, this sees the thread inside. If the fence comes first, the thread finds in the
        // slot what replaced the retired word.
        fence(SCAN_FENCE);
        self.threads
            .iter()
            .filter(|member| except.is_none_or(|except| !std::ptr::eq(*member, except)))
            // Acquire [E2]: what a thread did inside is over; pairs with its leaving.
            .map(|member| match member.pinned.load(Acquire) {
                OUTSIDE => u64::MAX,
                pinned => pinned - 1,
            })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Frees what threads have retired that are not inside now, and what is left in `held` from
    /// before; keeps there what can still be reached. Answers whether anything is left, or may be.
    ///
    /// One thread at a time: the notifier.
    pub(crate) fn sweep(&self, held: &mut Held<T, S>) -> bool {
        let mut left = false;
        held.0.extend(self.overflow.take_all());
        for member in self.threads.iter() {
            // Relaxed [E3]: the fence orders it.
            member.closed.store(true, Relaxed);
            // SeqCst [E3]: before the look whether it is pinned; pairs with `pin`. If this comes first,
            // the owner finds the list closed. If the owner's swap comes first, this sees it inside.
            // SeqCst [E5]: after the flag was cleared; pairs with `pin` and `notify`.
            fence(SWEEP_FENCE);
            // Acquire [E2]: the list as its owner left it; pairs with its leaving.
            if member.pinned.load(Acquire) == OUTSIDE {
                // SAFETY: [E3] it is closed, and its owner is not inside, where it could have found it
                // open.
                let list = member
                    .list
                    .with_mut(|list| mem::take(unsafe { &mut *list }));
                held.0.extend(list.retired);
                foreign::drop_caught(list.spare);
            } else {
                left = true;
            }
            // Release [E4]: the list as we leave it; pairs with `pin`.
            member.closed.store(false, Release);
        }
        let horizon = self.horizon(None);
        let reachable = |retired: &mut Retired<T, S>| retired.stamp > horizon;
        let safe: Vec<_> = held
            .0
            .extract_if(.., |retired| !reachable(retired))
            .collect();
        for retired in safe {
            // SAFETY: [E1] no thread can reach it.
            foreign::drop_caught(unsafe { retired.word.let_go() });
        }
        left || !held.0.is_empty()
    }
}

/// What the notifier has taken from retire lists and could not free yet.
pub(crate) struct Held<T, S>(Vec<Retired<T, S>>);

impl<T: Send + Sync + 'static, S: Send + Sync + 'static> Guard<'_, T, S> {
    /// Looks at what a word stands for.
    ///
    /// # Safety
    ///
    /// The word was loaded from a slot under this guard (or is owned), so that by [R1] what it points to
    /// lives as long as the guard.
    #[inline]
    pub(crate) unsafe fn view<'g>(&'g self, word: Word<T, S>) -> View<'g, T, S> {
        // SAFETY: the caller's promise.
        unsafe { word.view() }
    }

    /// Frees it in due course.
    ///
    /// # Safety
    ///
    /// [R1] An exchange took the word out of its slot, its caller has it to itself, and hands it over
    /// once. Every thread that is pinned at `stamp` or beyond entered after that.
    #[inline]
    pub(crate) unsafe fn retire(&self, word: Word<T, S>, stamp: u64) {
        if word.is_empty() {
            return;
        }
        word.prefetch();
        let retired = Retired { word, stamp };
        if self.me.open.get() {
            self.list(|list| list.retired.push_back(retired));
        } else {
            self.domain.overflow.push(retired);
        }
    }

    /// What was stamped with that seq or an earlier one can be reached by no thread.
    pub(crate) fn horizon(&self) -> u64 {
        self.domain.horizon(None)
    }

    /// Whether this thread has retired something that is not freed yet, as far as it can know.
    #[inline]
    pub(crate) fn has_retired(&self) -> bool {
        !self.me.open.get() || self.list(|list| !list.retired.is_empty())
    }

    /// Memory for a record, if there is some. The value that was in it is dropped.
    #[inline]
    pub(crate) fn spare(&self) -> Option<Spare<T, S>> {
        if !self.me.open.get() {
            return None;
        }
        loop {
            let record = match self.list(RetireList::next)? {
                Next::Spare(spare) => return Some(spare),
                // SAFETY: [E1] no thread can reach it.
                Next::Safe(word) => unsafe { word.let_go() },
            };
            if let Some(record) = record {
                // The value's `Drop` may use the ring: nothing is borrowed here.
                return Some(Spare::without_value(record));
            }
        }
    }

    /// Keeps the memory of a record that was not appended.
    #[inline]
    pub(crate) fn put_back(&self, spare: Spare<T, S>) {
        if self.me.open.get() {
            let before = self.list(|list| list.spare.replace(spare));
            foreign::drop_caught(before);
        }
    }

    /// To be called after appends, when nothing that was seen under this guard is used any more: looks now and then what
    /// can be freed; with `at_once`, now, and frees all of it.
    #[inline]
    pub(crate) fn appended(&mut self, at_once: bool) {
        if self.me.open.get() && (at_once || self.list(|list| list.wants_care())) {
            self.care(at_once);
        }
    }

    #[cold]
    fn care(&self, at_once: bool) {
        if at_once || self.list(|list| list.wants_scan()) {
            // Within another visit, what that one sees must stay.
            let except = (self.me.depth.get() == 1).then_some(self.me);
            let horizon = self.domain.horizon(except);
            self.list(|list| list.scanned(horizon));
        }
        let (surplus, most) = if at_once {
            (0, usize::MAX)
        } else {
            (SCAN_EVERY * 2, SURPLUS)
        };
        for _ in 0..most {
            let Some(word) = self.list(|list| list.beyond(surplus)) else {
                break;
            };
            // SAFETY: [E1] no thread can reach it.
            foreign::drop_caught(unsafe { word.let_go() });
        }
    }

    /// The retire list, for as long as `work` takes: that calls no foreign code, so that there is one
    /// borrow of the list at a time.
    #[inline]
    fn list<R>(&self, work: impl FnOnce(&mut RetireList<T, S>) -> R) -> R {
        debug_assert!(self.me.open.get());
        // SAFETY: [E3] we are pinned and found it open, and each use of it ends before the next.
        self.me.list.with_mut(|list| work(unsafe { &mut *list }))
    }
}

impl<T, S> Guard<'_, T, S> {
    /// Is pinned at a newer seq from here on, one that this thread has stored or seen: nothing that was seen under this
    /// guard is used any more.
    ///
    /// It never leaves, and so needs no `SeqCst`. A thread that does not see this yet takes it for pinned where it was.
    /// What this thread looks at from here on had not left its slot when `tail` was stored. And what it found of its
    /// retire list when it entered still holds: open, since the notifier finds it inside ([E3]); or closed, and then it leaves
    /// the list alone to the end.
    pub(crate) fn renew(&mut self, tail: u64) {
        if self.me.depth.get() == 1 {
            // Release [E2]: all that was looked at before; pairs with the loads of `pinned`.
            self.me.pinned.store(tail + 1, Release);
        }
    }
}

impl<T, S> Drop for Guard<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        let depth = self.me.depth.get() - 1;
        self.me.depth.set(depth);
        if depth == 0 {
            // Release [E2]: all that was looked at and retired; pairs with the loads of `pinned`.
            self.me.pinned.store(OUTSIDE, Release);
        }
    }
}

enum Next<T, S> {
    Spare(Spare<T, S>),
    Safe(Word<T, S>),
}

impl<T, S> RetireList<T, S> {
    #[inline]
    fn next(&mut self) -> Option<Next<T, S>> {
        if self.safe > 0 {
            self.safe -= 1;
            return self
                .retired
                .pop_front()
                .map(|retired| Next::Safe(retired.word));
        }
        self.spare.take().map(Next::Spare)
    }

    #[inline]
    fn wants_care(&self) -> bool {
        self.wants_scan() || self.safe > SCAN_EVERY * 2
    }

    fn wants_scan(&self) -> bool {
        self.retired.len() - self.safe >= self.scan_at
    }

    fn scanned(&mut self, horizon: u64) {
        self.safe = self
            .retired
            .partition_point(|retired| retired.stamp <= horizon);
        self.scan_at = self.retired.len() - self.safe + SCAN_EVERY;
    }

    /// The next that no thread can reach, while there are more of them than `most`.
    fn beyond(&mut self, most: usize) -> Option<Word<T, S>> {
        if self.safe <= most {
            return None;
        }
        self.safe -= 1;
        self.retired.pop_front().map(|retired| retired.word)
    }
}

impl<T, S> Default for RetireList<T, S> {
    fn default() -> Self {
        Self {
            retired: VecDeque::new(),
            safe: 0,
            scan_at: SCAN_EVERY,
            spare: None,
        }
    }
}

impl<T, S> Default for Member<T, S> {
    fn default() -> Self {
        Self {
            pinned: AtomicU64::new(OUTSIDE),
            closed: AtomicBool::new(false),
            depth: Cell::new(0),
            open: Cell::new(false),
            list: UnsafeCell::new(RetireList::default()),
        }
    }
}

impl<T, S> Default for Domain<T, S> {
    fn default() -> Self {
        Self {
            threads: PerThread::default(),
            overflow: Stack::default(),
        }
    }
}

impl<T, S> Default for Held<T, S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// With the ring, or after it: no thread can look any more.
impl<T, S> Drop for Domain<T, S> {
    fn drop(&mut self) {
        for member in self.threads.iter() {
            // SAFETY: no thread is pinned, and none will be.
            let list = member
                .list
                .with_mut(|list| mem::take(unsafe { &mut *list }));
            foreign::drop_caught(list.spare);
            for retired in list.retired {
                // SAFETY: as above.
                foreign::drop_caught(unsafe { retired.word.let_go() });
            }
        }
        for retired in self.overflow.take_all() {
            // SAFETY: as above.
            foreign::drop_caught(unsafe { retired.word.let_go() });
        }
    }
}
