//! When memory that left the ring may be freed: epochs (`docs/decisions/0002-reclamation.md`).
//!
//! Everything here rests on one rule, [R1]: whoever loads a pointer out of the ring does so under a
//! [`Guard`] and uses it no longer than that guard lives; whoever takes a pointer out of the ring
//! hands it to [`Guard::retire`] after it has become unreachable from there.

/// The reclamation of one ring. A type of its own so that a model can stand in for it.
#[derive(Default)]
pub(crate) struct Domain {
    #[cfg(loom)]
    retired: std::sync::Mutex<Vec<Box<dyn FnOnce()>>>,
}

/// While it lives, nothing that was reachable when it was made is freed.
///
/// A guard that is held for long keeps alive all that is evicted meanwhile, so none crosses an
/// await or a caller's unbounded work.
pub(crate) struct Guard<'d> {
    #[cfg(not(loom))]
    epoch: crossbeam_epoch::Guard,
    #[cfg(loom)]
    domain: &'d Domain,
    #[cfg(not(loom))]
    _domain: std::marker::PhantomData<&'d Domain>,
}

impl Domain {
    #[inline]
    pub(crate) fn pin(&self) -> Guard<'_> {
        Guard {
            #[cfg(not(loom))]
            epoch: crossbeam_epoch::pin(),
            #[cfg(loom)]
            domain: self,
            #[cfg(not(loom))]
            _domain: std::marker::PhantomData,
        }
    }
}

impl Guard<'_> {
    /// Frees what can be freed now, and lets other threads free what this one has retired. Without it
    /// that waits until this thread has retired some dozens more.
    pub(crate) fn flush(&self) {
        #[cfg(not(loom))]
        self.epoch.flush();
    }

    /// Runs `free` once every guard that exists now is gone.
    ///
    /// # Safety
    ///
    /// What `free` frees must be unreachable for guards made from now on, `free` must be fit to
    /// run on any thread, and what it captures must live as long as the program ([R1]).
    #[allow(unsafe_code)]
    #[inline]
    pub(crate) unsafe fn retire(&self, free: impl FnOnce() + 'static) {
        // SAFETY: the caller's promise is what `defer_unchecked` asks for.
        #[cfg(not(loom))]
        unsafe {
            self.epoch.defer_unchecked(free);
        }
        // The model frees nothing before the ring goes: it is about what readers may see, and the
        // epochs have their own models where they are made.
        #[cfg(loom)]
        self.domain
            .retired
            .lock()
            .expect("no panic while it is held")
            .push(Box::new(free));
    }
}

#[cfg(loom)]
impl Drop for Domain {
    fn drop(&mut self) {
        let retired = std::mem::take(self.retired.get_mut().expect("no panic while it is held"));
        retired.into_iter().for_each(|free| free());
    }
}
