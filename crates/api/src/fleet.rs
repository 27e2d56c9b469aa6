//! Many backends under one server: [`Fleet`].

use std::future::Future;
use std::sync::Arc;

use tapline_oapi::InstanceInfo;

use crate::backend::{Backend, NotReady};
use crate::error::ApiError;

/// What a gateway serves: instances, each a [`Backend`], by their names.
///
/// # Lifetimes
///
/// A server holds what it has opened while clients read from it, and for a while after the last one. Of an
/// instance that no server holds, a fleet keeps only what lists it.
pub trait Fleet: Send + Sync + 'static {
    /// An instance.
    type Backend: Backend;

    /// The instance of that name. Asked for every request: if it is open already, that should cost a look into a map.
    ///
    /// # Errors
    ///
    /// [`ApiError::UnknownInstance`], and [`ApiError::Broker`] if it cannot be read now.
    fn open(&self, name: &str)
    -> impl Future<Output = Result<Arc<Self::Backend>, ApiError>> + Send;

    /// Ready once nothing more will be added to this backend: its instance has another epoch, or events of it are
    /// missing. Its streams then end behind its last event, and their clients resume with what
    /// [`open`](Self::open) gives from then on.
    fn ended(&self, backend: &Self::Backend) -> impl Future<Output = ()> + Send + 'static;

    /// The instances that are known now, in the order of their names.
    fn instances(&self) -> Vec<InstanceInfo>;

    /// Whether requests should be sent here: what `/readyz` answers.
    ///
    /// # Errors
    ///
    /// [`NotReady`] with the reason, for operators.
    fn readiness(&self) -> Result<(), NotReady>;
}
