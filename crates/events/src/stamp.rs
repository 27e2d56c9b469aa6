//! What is stamped on every event of a stream: [`Stamp`].

/// A value that a writer puts in force for all events from some seq on, until
/// [`EventStream::transition`](crate::EventStream::transition) puts another in its place.
pub trait Stamp: Clone + Default + Send + Sync + 'static {
    /// A key and a value for `source.metadata` of the events under this stamp.
    fn metadata(&self) -> Option<(&str, &str)>;
}

impl Stamp for () {
    fn metadata(&self) -> Option<(&str, &str)> {
        None
    }
}
