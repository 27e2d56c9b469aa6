//! What a caller asks to be captured, and the state that a server tells.

use serde::{Deserialize, Serialize};

use crate::category::{Category, CategorySet};
use crate::cursor::Epoch;
use crate::json;

/// The body of `PUT /telemetry` and `PATCH /telemetry`. Strict: an unknown field is an error.
///
/// ```
/// use tapline_oapi::{Category, CategorySet, ConfigRequest, from_json};
///
/// let request: ConfigRequest = from_json(br#"{"browser":{"page":{"enabled":true},"network":{}}}"#)?;
/// let browser = request.browser.unwrap_or_default();
/// assert_eq!(browser.enabled(), CategorySet::of(&[Category::Page]));
/// # Ok::<(), tapline_oapi::JsonError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "What to capture. Absent `browser`: with PUT all user-facing categories, with PATCH no change."
    )
)]
pub struct ConfigRequest {
    /// What to capture, category by category. Absent: with PUT the default (all user-facing
    /// categories), with PATCH no change.
    #[serde(
        default,
        deserialize_with = "json::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub browser: Option<BrowserConfig>,
}

macro_rules! browser_config {
    ($($field:ident $category:ident $doc:literal;)*) => {
        /// Which categories are captured, one optional field for each.
        ///
        /// `system` and `monitor` may be named, but are captured whatever is said about them.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(deny_unknown_fields)]
        pub struct BrowserConfig {
            $(
                #[doc = $doc]
                #[serde(default, deserialize_with = "json::optional_object", skip_serializing_if = "Option::is_none")]
                pub $field: Option<CategoryConfig>,
            )*
        }

        impl BrowserConfig {
            /// What is said about `category`, if anything.
            #[must_use]
            pub const fn get(&self, category: Category) -> Option<CategoryConfig> {
                match category { $(Category::$category => self.$field,)* }
            }

            fn set(&mut self, category: Category, config: CategoryConfig) {
                match category { $(Category::$category => self.$field = Some(config),)* }
            }
        }
    };
}

browser_config! {
    console Console "Console messages and uncaught exceptions.";
    network Network "Requests, responses and failures.";
    page Page "Navigation, loading, layout, tabs.";
    interaction Interaction "Clicks, keys, scrolling.";
    control Control "API calls and commands that drive the browser.";
    platform Platform "API calls that manage the machine or the telemetry.";
    connection Connection "Clients and viewers that come and go.";
    screenshot Screenshot "Pictures of the page.";
    captcha Captcha "Captchas met and solved.";
    system System "Health of the machine. Always captured.";
    monitor Monitor "Health of the collector. Always captured.";
}

impl BrowserConfig {
    /// The configuration that captures exactly `categories`: each user-facing category switched
    /// on or off, the others not named.
    #[must_use]
    pub fn of(categories: CategorySet) -> Self {
        let mut config = Self::default();
        for category in Category::USER_FACING {
            config.set(
                category,
                CategoryConfig {
                    enabled: Some(categories.contains(category)),
                },
            );
        }
        config
    }

    /// The categories with `enabled: true`.
    #[must_use]
    pub fn enabled(&self) -> CategorySet {
        self.explicit()
            .filter(|(_, enabled)| *enabled)
            .map(|(category, _)| category)
            .collect()
    }

    /// The categories with an `enabled`, and what it says, in the order of [`Category::ALL`].
    pub fn explicit(&self) -> impl Iterator<Item = (Category, bool)> + '_ {
        Category::ALL
            .into_iter()
            .filter_map(|category| Some((category, self.get(category)?.enabled?)))
    }
}

/// What is said about one category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CategoryConfig {
    /// Whether it is captured. Absent: with PUT it is not, with PATCH it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// The state of the telemetry, as `GET`, `PUT` and `PATCH /telemetry` tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct State {
    /// What is captured.
    pub config: StateConfig,
    /// The head: the newest seq published, 0 before the first event.
    pub seq: u64,
    /// When the configuration was applied, RFC 3339. Absent where there is no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<String>, format = DateTime))]
    pub applied_at: Option<jiff::Timestamp>,
    /// The id of the session that is running, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_id: Option<String>,
    /// The head at the moment the session started: its events come after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_start_seq: Option<u64>,
    /// The random id of this incarnation of the stream; seqs of another epoch mean nothing here.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
}

/// The configuration within a [`State`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(description = "The configuration within a state.")
)]
pub struct StateConfig {
    /// Each user-facing category with its `enabled`.
    pub browser: BrowserConfig,
}
