//! Many backends under one server: [`Fleet`], and one stream of many: [`FleetReader`].

mod list;

use std::future::Future;
use std::sync::Arc;

use crate::backend::{Backend, NotReady};
use crate::error::ApiError;
use crate::history::SharedEnvelope;
use crate::query::{self, QueryError};
use crate::source::BoxFuture;
use crate::subscribe::Replay;
pub use list::{InstanceOffset, InstanceOrder, InstancePart, InstanceQuery, InstanceSummary};
use tapline_events::{Epoch, Filter, Lost, TypePattern};

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

    /// The instances that are known now, as far as `query` asks for them.
    fn instances(&self, query: &InstanceQuery) -> InstancePart;

    /// One stream of the events of many instances, those that come later included.
    ///
    /// # Errors
    ///
    /// [`ApiError::Query`] if the cursor cannot be read, and [`ApiError::Broker`].
    fn read(
        &self,
        query: &FleetQuery,
    ) -> impl Future<Output = Result<Box<dyn FleetReader>, ApiError>> + Send;

    /// Whether requests should be sent here: what `/readyz` answers.
    ///
    /// # Errors
    ///
    /// [`NotReady`] with the reason, for operators.
    fn readiness(&self) -> Result<(), NotReady>;
}

/// What a stream of many instances asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetQuery {
    /// The names of the instances, in which `*` stands for any characters. All, if there is none.
    pub instances: Vec<TypePattern>,
    /// Of these only such that each of these lists has a name for: what the caller may read.
    pub permitted: Vec<Vec<TypePattern>>,
    /// Only such events.
    pub filter: Filter,
    /// The cursor to resume after, as it was sent.
    pub after: Option<String>,
    /// Where to begin without a cursor; after the newest event by default.
    pub replay: Option<Replay>,
    /// Whether the stream also sends notices about itself.
    pub notices: bool,
}

impl FleetQuery {
    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 7] = [
            "instances",
            "after",
            "lastEventId",
            "replay",
            "category",
            "type",
            "notices",
        ];
        let mut asked = Self::default();
        let mut notices = None;
        let mut last_event_id = None;
        for (name, text) in pairs {
            match name {
                "instances" => add_names(&mut asked.instances, name, text)?,
                "lastEventId" => last_event_id = Some(text).filter(|text| !text.is_empty()),
                "after" => query::once(&mut asked.after, name, text.to_owned())?,
                "replay" => {
                    let choices = [("all", Replay::All), ("live", Replay::Live)];
                    let choice = query::choice(name, text, &choices)?;
                    query::once(&mut asked.replay, name, choice)?;
                }
                "category" | "type" => query::add_to_filter(&mut asked.filter, name, text)?,
                "notices" => {
                    let choices = [("true", true), ("false", false)];
                    query::once(&mut notices, name, query::choice(name, text, &choices)?)?;
                }
                _ => return Err(QueryError::unknown(name, &KNOWN)),
            }
        }
        if let Some(id) = last_event_id {
            asked.after = Some(id.to_owned());
        }
        asked.notices = notices.unwrap_or(false);
        Ok(asked)
    }

    /// Whether it asks for this instance.
    pub fn has(&self, instance: &str) -> bool {
        has_name(&self.instances, &self.permitted, instance)
    }
}

/// Adds the names of the parameter `parameter`, joined by commas.
fn add_names(names: &mut Vec<TypePattern>, parameter: &str, text: &str) -> Result<(), QueryError> {
    const MOST: usize = 100;
    let added = text.split(',').filter(|name| !name.is_empty());
    names.extend(added.map(TypePattern::new));
    match names.len() <= MOST {
        true => Ok(()),
        false => Err(QueryError::new(
            parameter,
            format!("more than {MOST} names"),
        )),
    }
}

/// Whether the instance is among those that are asked for, if there are any, and among those of each list of permitted ones.
fn has_name(asked: &[TypePattern], permitted: &[Vec<TypePattern>], instance: &str) -> bool {
    let is_in = |names: &[TypePattern]| names.iter().any(|it| it.matches(instance));
    (asked.is_empty() || is_in(asked)) && permitted.iter().all(|names| is_in(names))
}

/// Reads the events of many instances. Those of one come in the order of their seqs; between instances there is no order.
pub trait FleetReader: Send + 'static {
    /// What comes next: at least one, and of one instance. `None` once it cannot continue: a client resumes with the
    /// last cursor.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was read.
    fn next(&mut self) -> BoxFuture<'_, Option<Vec<FleetItem>>>;

    /// Where it is now.
    fn cursor(&self) -> String;

    /// Whether what the cursor of the query asked for was not all there any more. How many events are missing is not known
    /// then.
    fn is_evicted(&self) -> bool;
}

/// Something of one instance.
#[derive(Debug, Clone)]
pub struct FleetItem {
    /// The name of the instance.
    pub instance: Arc<str>,
    /// The epoch of its seqs.
    pub epoch: Epoch,
    /// What it is.
    pub what: FleetEvent,
    /// The position behind it, of all instances of the stream.
    pub cursor: String,
}

/// What comes of an instance.
#[derive(Debug, Clone)]
pub enum FleetEvent {
    /// An event.
    Event(SharedEnvelope),
    /// Events that cannot be read.
    Lost(Lost),
    /// What follows is of this epoch, and no longer of that one.
    Epoch {
        /// The one before.
        from: Epoch,
    },
}
