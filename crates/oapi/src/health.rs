//! The answer of `GET /healthz`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// That the server is alive. A server that is not does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    pub status: String,
}

impl Health {
    /// What a server that is alive answers.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            status: "ok".to_owned(),
        }
    }
}
