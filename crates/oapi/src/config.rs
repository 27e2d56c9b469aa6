//! The configuration that a caller sends, and the state that a server returns.

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
        description = "What to capture. If `browser` is absent, PUT captures all user-facing categories, and PATCH changes nothing."
    )
)]
pub struct ConfigRequest {
    /// What to capture, category by category. If absent, PUT captures all user-facing categories, and
    /// PATCH changes nothing.
    #[serde(
        default,
        deserialize_with = "json::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub browser: Option<BrowserConfig>,
    /// Whether events are stored. Kept, and shown in the state; it takes effect where an archive is configured.
    /// If absent, PUT forgets it, and PATCH leaves it as it is.
    #[serde(
        default,
        deserialize_with = "json::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub storage: Option<StorageConfig>,
    /// Where events are exported. Kept, and shown in the state; it takes effect where an exporter is configured.
    /// If absent, PUT forgets it, and PATCH leaves it as it is.
    #[serde(
        default,
        deserialize_with = "json::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub export: Option<ExportConfig>,
}

/// Whether the events of a session are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Whether events are stored. If absent, the server's own setting holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Where the events of a session are exported, by protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Export over OTLP.
    #[serde(
        default,
        deserialize_with = "json::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub otlp: Option<OtlpExportConfig>,
}

/// Export of a session's events over OTLP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OtlpExportConfig {
    /// Whether events are exported. If absent, the server's own setting holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The destination, as the caller names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<OtlpDestination>,
}

/// A destination of an export: its id, or an object with its id or its name. SDKs send the object, and read the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(
    untagged,
    expecting = "expected a destination: its id, or an object with `id` or `name`"
)]
pub enum OtlpDestination {
    /// Its id.
    Id(String),
    /// Its id or its name.
    #[serde(deserialize_with = "json::object")]
    Named(NamedDestination),
}

/// A destination by its id or its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NamedDestination {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

macro_rules! browser_config {
    ($($field:ident $category:ident $config:ident $doc:literal;)*) => {
        /// The categories to capture, one optional field for each.
        ///
        /// `system` and `monitor` are accepted here, but are captured in any case.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(deny_unknown_fields)]
        pub struct BrowserConfig {
            $(
                #[doc = $doc]
                #[serde(default, deserialize_with = "json::optional_object", skip_serializing_if = "Option::is_none")]
                pub $field: Option<$config>,
            )*
        }

        impl BrowserConfig {
            /// The field of `category`, if it is present.
            #[must_use]
            pub fn get(&self, category: Category) -> Option<CategoryConfig> {
                match category {
                    $(Category::$category => self.$field.as_ref().map(CategoryConfig::from),)*
                }
            }

            fn set(&mut self, category: Category, config: CategoryConfig) {
                match category { $(Category::$category => self.$field = Some(config.into()),)* }
            }
        }
    };
}

browser_config! {
    console Console CategoryConfig "Console messages and uncaught exceptions.";
    network Network CategoryConfig "Requests, responses and failures.";
    page Page CategoryConfig "Navigation, loading, layout, tabs.";
    interaction Interaction CategoryConfig "Clicks, keys, scrolling.";
    control Control ControlConfig "API calls and commands that drive the browser.";
    platform Platform CategoryConfig "API calls that manage the machine or the telemetry.";
    connection Connection CategoryConfig "Clients and viewers that connect and disconnect.";
    screenshot Screenshot CategoryConfig "Pictures of the page.";
    captcha Captcha CategoryConfig "Captchas that were found and solved.";
    system System CategoryConfig "Health of the machine. Always captured.";
    monitor Monitor CategoryConfig "Health of the collector of browser events. Always captured.";
}

impl BrowserConfig {
    /// The configuration that captures exactly `categories`: each user-facing category is enabled or
    /// disabled, and the others are absent.
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

    /// The DevTools methods without events, if the request names them.
    #[must_use]
    pub fn excluded_methods(&self) -> Option<&[String]> {
        let cdp = self.control.as_ref()?.cdp.as_ref()?;
        cdp.excluded_methods.as_deref()
    }

    /// The categories with `enabled: true`.
    #[must_use]
    pub fn enabled(&self) -> CategorySet {
        self.explicit()
            .filter(|(_, enabled)| *enabled)
            .map(|(category, _)| category)
            .collect()
    }

    /// The categories with an `enabled`, and its value, in the order of [`Category::ALL`].
    pub fn explicit(&self) -> impl Iterator<Item = (Category, bool)> + '_ {
        Category::ALL
            .into_iter()
            .filter_map(|category| Some((category, self.get(category)?.enabled?)))
    }
}

/// The configuration of one category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CategoryConfig {
    /// Whether the category is captured. If absent, PUT does not capture it, and PATCH leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// The configuration of the category `control`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Whether the category is captured. If absent, PUT does not capture it, and PATCH leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Commands of DevTools clients.
    #[serde(
        default,
        deserialize_with = "json::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub cdp: Option<CdpControlConfig>,
}

/// Which commands of DevTools clients become events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CdpControlConfig {
    /// Methods without events, such as `Input.dispatchMouseEvent`. Their commands are passed on all the same, and
    /// counted in `telemetry_excluded` of `cdp_disconnect`. If absent, PUT excludes none, and PATCH leaves the list
    /// as it is; an empty list excludes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded_methods: Option<Vec<String>>,
}

impl From<&CategoryConfig> for CategoryConfig {
    fn from(config: &CategoryConfig) -> Self {
        *config
    }
}

impl From<&ControlConfig> for CategoryConfig {
    fn from(config: &ControlConfig) -> Self {
        Self {
            enabled: config.enabled,
        }
    }
}

impl From<CategoryConfig> for ControlConfig {
    fn from(config: CategoryConfig) -> Self {
        Self {
            enabled: config.enabled,
            cdp: None,
        }
    }
}

/// The state of the telemetry: the answer of `GET`, `PUT` and `PATCH /telemetry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct State {
    /// What is captured.
    pub config: StateConfig,
    /// The head: the newest seq published, 0 before the first event.
    pub seq: u64,
    /// When the configuration was applied, RFC 3339. Absent if there is no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<String>, format = DateTime))]
    pub applied_at: Option<jiff::Timestamp>,
    /// The id of the running session. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_id: Option<String>,
    /// The head when the session started: its events come after this seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_start_seq: Option<u64>,
    /// The random id of this run of the stream, 16 hexadecimal digits. A restart has another one, and seqs of
    /// one epoch are not valid in another.
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
    /// Whether events are stored, as the session's configuration has it. Absent where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub storage: Option<StorageConfig>,
    /// Where events are exported, as the session's configuration has it. Absent where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub export: Option<ExportConfig>,
}
