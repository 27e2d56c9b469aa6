//! What is published of a command: its method, and approved arguments in snake_case.
//!
//! An argument is approved if [`approved`] lists it, and only in the form that is listed. No approved argument
//! can carry typed text, a script, a cookie or a header, whatever a client writes into it: a word is short and
//! plain, of a text only the length is published, and of a URL its scheme and host unless the relay is
//! configured otherwise.
//!
//! The commands that drive the browser are those of the published SDKs, and their events are `cdp_command`. All
//! other commands, by which a client library configures the browser and looks at pages, are
//! `cdp_command_other`: the SDKs' models of `cdp_command` know no such method.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tapline_api::Effect;
use tapline_oapi::data::CdpCommand;

use crate::{CommandUrls, RedactUrl};

/// Words of the protocol, names of methods and ids of the browser's are shorter, in bytes.
const MAX_WORD: usize = 128;

/// The longest URL that is published, in bytes: the same as in the browser source's events.
const MAX_URL: usize = 8 * 1024;

/// The form in which an argument is published. Values of another kind are left out.
#[derive(Clone, Copy)]
enum Form {
    Integer,
    Number,
    Flag,
    /// A word of the protocol, or an id of the browser's.
    Word,
    /// One of these words; any other one is `other`.
    OneOf(&'static [&'static str]),
    /// The scheme of a URL as `url_scheme`, and the URL itself, of which the configuration says how much.
    Url,
    /// How many characters a text has, as `…_length`.
    Length,
    /// Whether it is there and not empty, as `…_present`.
    Present,
    /// How many elements a list has.
    Count,
}
use Form::{Count, Flag, Integer, Length, Number, OneOf, Present, Url, Word};

/// An approved argument: where it is within `params`, its name in the event, its form.
type Argument = (&'static str, &'static str, Form);

/// The approved arguments of a method.
struct Approved {
    /// Whether the event is a `cdp_command`.
    drives: bool,
    /// Without these, the event would not be what its type promises.
    required: &'static [Argument],
    optional: &'static [Argument],
}

const MOUSE: &[&str] = &["mousePressed", "mouseReleased", "mouseMoved", "mouseWheel"];
const BUTTON: &[&str] = &["none", "left", "middle", "right", "back", "forward"];
const GESTURE: &[&str] = &["default", "touch", "mouse"];
const WINDOW: &[&str] = &["normal", "minimized", "maximized", "fullscreen"];
const NODE_ID: Argument = ("/nodeId", "node_id", Integer);
const BACKEND_NODE_ID: Argument = ("/backendNodeId", "backend_node_id", Integer);
const OBJECT_ID: Argument = ("/objectId", "object_id", Word);
const NODE: &[Argument] = &[NODE_ID, BACKEND_NODE_ID, OBJECT_ID];

/// What is published of a method's arguments.
fn approved(method: &str) -> Approved {
    let drives = |required, optional| Approved {
        drives: true,
        required,
        optional,
    };
    let other = |optional| Approved {
        drives: false,
        required: &[],
        optional,
    };
    match method {
        "Input.dispatchMouseEvent" => drives(
            &[("/type", "event_type", OneOf(MOUSE))],
            &[
                ("/x", "x", Number),
                ("/y", "y", Number),
                ("/button", "button", OneOf(BUTTON)),
                ("/buttons", "buttons", Integer),
                ("/clickCount", "click_count", Integer),
                ("/deltaX", "delta_x", Number),
                ("/deltaY", "delta_y", Number),
                ("/modifiers", "modifiers", Integer),
                ("/pointerType", "pointer_type", OneOf(&["mouse", "pen"])),
                ("/force", "force", Number),
                ("/tangentialPressure", "tangential_pressure", Number),
                ("/tiltX", "tilt_x", Number),
                ("/tiltY", "tilt_y", Number),
                ("/twist", "twist", Integer),
            ],
        ),
        // Never `key`, `code` or `text`: they are the typed text.
        "Input.dispatchKeyEvent" => drives(
            &[(
                "/type",
                "event_type",
                OneOf(&["keyDown", "keyUp", "rawKeyDown", "char"]),
            )],
            &[
                ("/text", "text_length", Length),
                ("/modifiers", "modifiers", Integer),
                ("/autoRepeat", "auto_repeat", Flag),
                ("/isKeypad", "is_keypad", Flag),
                ("/isSystemKey", "is_system_key", Flag),
                ("/location", "location", Integer),
                ("/commands", "command_count", Count),
            ],
        ),
        "Input.insertText" => drives(&[("/text", "text_length", Length)], &[]),
        "Input.imeSetComposition" => drives(
            &[("/text", "text_length", Length)],
            &[
                ("/selectionStart", "selection_start", Integer),
                ("/selectionEnd", "selection_end", Integer),
                ("/replacementStart", "replacement_start", Integer),
                ("/replacementEnd", "replacement_end", Integer),
            ],
        ),
        "Input.dispatchTouchEvent" => drives(
            &[
                (
                    "/type",
                    "event_type",
                    OneOf(&["touchStart", "touchEnd", "touchMove", "touchCancel"]),
                ),
                ("/touchPoints", "touch_point_count", Count),
            ],
            &[
                ("/modifiers", "modifiers", Integer),
                ("/touchPoints/0/x", "x", Number),
                ("/touchPoints/0/y", "y", Number),
                ("/touchPoints/0/radiusX", "radius_x", Number),
                ("/touchPoints/0/radiusY", "radius_y", Number),
                ("/touchPoints/0/rotationAngle", "rotation_angle", Number),
                ("/touchPoints/0/force", "force", Number),
            ],
        ),
        "Input.dispatchDragEvent" => drives(
            &[(
                "/type",
                "event_type",
                OneOf(&["dragEnter", "dragOver", "drop", "dragCancel"]),
            )],
            &[
                ("/x", "x", Number),
                ("/y", "y", Number),
                ("/modifiers", "modifiers", Integer),
                ("/data/items", "drag_item_count", Count),
                ("/data/files", "drag_file_count", Count),
                ("/data/dragOperationsMask", "drag_operations_mask", Integer),
            ],
        ),
        "Input.emulateTouchFromMouseEvent" => drives(
            &[("/type", "event_type", OneOf(MOUSE))],
            &[
                ("/x", "x", Number),
                ("/y", "y", Number),
                ("/button", "button", OneOf(BUTTON)),
                ("/clickCount", "click_count", Integer),
                ("/deltaX", "delta_x", Number),
                ("/deltaY", "delta_y", Number),
                ("/modifiers", "modifiers", Integer),
            ],
        ),
        "Input.synthesizePinchGesture" => drives(
            &[],
            &[
                ("/x", "x", Number),
                ("/y", "y", Number),
                ("/scaleFactor", "scale_factor", Number),
                ("/relativeSpeed", "relative_speed", Integer),
                ("/gestureSourceType", "gesture_source_type", OneOf(GESTURE)),
            ],
        ),
        "Input.synthesizeScrollGesture" => drives(
            &[],
            &[
                ("/x", "x", Number),
                ("/y", "y", Number),
                ("/xDistance", "x_distance", Number),
                ("/yDistance", "y_distance", Number),
                ("/xOverscroll", "x_overscroll", Number),
                ("/yOverscroll", "y_overscroll", Number),
                ("/preventFling", "prevent_fling", Flag),
                ("/speed", "speed", Integer),
                ("/repeatCount", "repeat_count", Integer),
                ("/repeatDelayMs", "repeat_delay_ms", Integer),
                ("/gestureSourceType", "gesture_source_type", OneOf(GESTURE)),
            ],
        ),
        "Input.synthesizeTapGesture" => drives(
            &[],
            &[
                ("/x", "x", Number),
                ("/y", "y", Number),
                ("/duration", "duration", Integer),
                ("/tapCount", "tap_count", Integer),
                ("/gestureSourceType", "gesture_source_type", OneOf(GESTURE)),
            ],
        ),
        "Input.cancelDragging"
        | "Page.bringToFront"
        | "Page.stopScreencast"
        | "Page.stopLoading"
        | "Page.close"
        | "Browser.close" => drives(&[], &[]),
        "DOM.setFileInputFiles" => drives(&[("/files", "file_count", Count)], NODE),
        "DOM.focus" => drives(&[], NODE),
        "DOM.scrollIntoViewIfNeeded" => drives(
            &[],
            &[
                NODE_ID,
                BACKEND_NODE_ID,
                OBJECT_ID,
                ("/rect/x", "rect_x", Number),
                ("/rect/y", "rect_y", Number),
                ("/rect/width", "rect_width", Number),
                ("/rect/height", "rect_height", Number),
            ],
        ),
        "Page.captureScreenshot" => drives(
            &[],
            &[
                ("/format", "format", OneOf(&["jpeg", "png", "webp"])),
                ("/quality", "quality", Integer),
                ("/captureBeyondViewport", "capture_beyond_viewport", Flag),
                ("/fromSurface", "from_surface", Flag),
                ("/optimizeForSpeed", "optimize_for_speed", Flag),
                ("/clip/x", "clip_x", Number),
                ("/clip/y", "clip_y", Number),
                ("/clip/width", "clip_width", Number),
                ("/clip/height", "clip_height", Number),
                ("/clip/scale", "clip_scale", Number),
            ],
        ),
        "Page.captureSnapshot" => drives(&[], &[("/format", "format", OneOf(&["mhtml"]))]),
        "Page.handleJavaScriptDialog" => drives(
            &[("/accept", "accept", Flag)],
            &[("/promptText", "prompt_text_length", Length)],
        ),
        "Page.navigate" => drives(
            &[],
            &[
                ("/url", "url", Url),
                ("/frameId", "frame_id", Word),
                (
                    "/transitionType",
                    "transition_type",
                    OneOf(&[
                        "link",
                        "typed",
                        "address_bar",
                        "auto_bookmark",
                        "auto_subframe",
                        "manual_subframe",
                        "generated",
                        "auto_toplevel",
                        "form_submit",
                        "reload",
                        "keyword",
                        "keyword_generated",
                    ]),
                ),
                ("/referrer", "referrer_present", Present),
                (
                    "/referrerPolicy",
                    "referrer_policy",
                    OneOf(&[
                        "noReferrer",
                        "noReferrerWhenDowngrade",
                        "origin",
                        "originWhenCrossOrigin",
                        "sameOrigin",
                        "strictOrigin",
                        "strictOriginWhenCrossOrigin",
                        "unsafeUrl",
                    ]),
                ),
            ],
        ),
        "Page.navigateToHistoryEntry" => drives(&[("/entryId", "entry_id", Integer)], &[]),
        "Page.reload" => drives(
            &[],
            &[
                ("/ignoreCache", "ignore_cache", Flag),
                ("/loaderId", "loader_id", Word),
                ("/scriptToEvaluateOnLoad", "script_length", Length),
            ],
        ),
        "Page.printToPDF" => drives(
            &[],
            &[
                ("/landscape", "landscape", Flag),
                ("/displayHeaderFooter", "display_header_footer", Flag),
                ("/printBackground", "print_background", Flag),
                ("/preferCSSPageSize", "prefer_css_page_size", Flag),
                ("/generateTaggedPDF", "generate_tagged_pdf", Flag),
                (
                    "/generateDocumentOutline",
                    "generate_document_outline",
                    Flag,
                ),
                ("/scale", "scale", Number),
                ("/paperWidth", "paper_width", Number),
                ("/paperHeight", "paper_height", Number),
                ("/marginTop", "margin_top", Number),
                ("/marginBottom", "margin_bottom", Number),
                ("/marginLeft", "margin_left", Number),
                ("/marginRight", "margin_right", Number),
                ("/pageRanges", "page_ranges_present", Present),
                ("/headerTemplate", "header_template_present", Present),
                ("/footerTemplate", "footer_template_present", Present),
                (
                    "/transferMode",
                    "transfer_mode",
                    OneOf(&["ReturnAsBase64", "ReturnAsStream"]),
                ),
            ],
        ),
        "Page.startScreencast" => drives(
            &[],
            &[
                ("/format", "format", OneOf(&["jpeg", "png"])),
                ("/quality", "quality", Integer),
                ("/maxWidth", "max_width", Integer),
                ("/maxHeight", "max_height", Integer),
                ("/everyNthFrame", "every_nth_frame", Integer),
            ],
        ),
        "Page.setWebLifecycleState" => {
            drives(&[("/state", "state", OneOf(&["frozen", "active"]))], &[])
        }
        "Target.activateTarget" | "Target.closeTarget" => {
            drives(&[("/targetId", "target_id", Word)], &[])
        }
        "Target.openDevTools" => drives(
            &[("/targetId", "target_id", Word)],
            &[("/panelId", "panel_id", Word)],
        ),
        "Target.createTarget" => drives(
            &[],
            &[
                ("/url", "url", Url),
                ("/left", "left", Integer),
                ("/top", "top", Integer),
                ("/width", "width", Integer),
                ("/height", "height", Integer),
                ("/windowState", "window_state", OneOf(WINDOW)),
                ("/newWindow", "new_window", Flag),
                ("/background", "background", Flag),
                ("/forTab", "for_tab", Flag),
                ("/hidden", "hidden", Flag),
                ("/focus", "focus", Flag),
                (
                    "/enableBeginFrameControl",
                    "enable_begin_frame_control",
                    Flag,
                ),
                ("/browserContextId", "browser_context_id", Word),
            ],
        ),
        "Target.createBrowserContext" => drives(
            &[],
            &[
                ("/disposeOnDetach", "dispose_on_detach", Flag),
                ("/proxyServer", "proxy_server_present", Present),
                ("/proxyBypassList", "proxy_bypass_list_present", Present),
                (
                    "/originsWithUniversalNetworkAccess",
                    "universal_network_access_origin_count",
                    Count,
                ),
            ],
        ),
        "Target.disposeBrowserContext" => {
            drives(&[("/browserContextId", "browser_context_id", Word)], &[])
        }
        "Browser.cancelDownload" => drives(
            &[("/guid", "download_guid", Word)],
            &[("/browserContextId", "browser_context_id", Word)],
        ),
        "Browser.setWindowBounds" => drives(
            &[("/windowId", "window_id", Integer)],
            &[
                ("/bounds/left", "left", Integer),
                ("/bounds/top", "top", Integer),
                ("/bounds/width", "width", Integer),
                ("/bounds/height", "height", Integer),
                ("/bounds/windowState", "window_state", OneOf(WINDOW)),
            ],
        ),
        "Browser.setContentsSize" => drives(
            &[("/windowId", "window_id", Integer)],
            &[("/width", "width", Integer), ("/height", "height", Integer)],
        ),
        "Autofill.trigger" => drives(
            &[("/fieldId", "field_id", Integer)],
            &[
                ("/frameId", "frame_id", Word),
                ("/address/fields", "address_field_count", Count),
            ],
        ),

        "Page.setInterceptFileChooserDialog" => other(&[("/enabled", "enabled", Flag)]),
        "Target.attachToTarget" => other(&[
            ("/targetId", "target_id", Word),
            ("/flatten", "flatten", Flag),
        ]),
        "Target.setAutoAttach" => other(&[
            ("/autoAttach", "auto_attach", Flag),
            (
                "/waitForDebuggerOnStart",
                "wait_for_debugger_on_start",
                Flag,
            ),
            ("/flatten", "flatten", Flag),
        ]),
        "Emulation.setDeviceMetricsOverride" => other(&[
            ("/width", "width", Integer),
            ("/height", "height", Integer),
            ("/deviceScaleFactor", "device_scale_factor", Number),
            ("/mobile", "mobile", Flag),
        ]),
        "Emulation.setVisibleSize" => {
            other(&[("/width", "width", Integer), ("/height", "height", Integer)])
        }
        "Emulation.setPageScaleFactor" => {
            other(&[("/pageScaleFactor", "page_scale_factor", Number)])
        }
        "Emulation.setTouchEmulationEnabled" => other(&[
            ("/enabled", "enabled", Flag),
            ("/maxTouchPoints", "max_touch_points", Integer),
        ]),
        "Emulation.setCPUThrottlingRate" => other(&[("/rate", "rate", Number)]),
        "Emulation.setEmulatedMedia" => other(&[("/media", "media", Word)]),
        "Emulation.setScriptExecutionDisabled" => other(&[("/value", "value", Flag)]),
        "Browser.setDownloadBehavior" | "Page.setDownloadBehavior" => {
            other(&[("/behavior", "behavior", Word)])
        }
        "Network.emulateNetworkConditions" => other(&[
            ("/offline", "offline", Flag),
            ("/latency", "latency", Number),
            ("/downloadThroughput", "download_throughput", Number),
            ("/uploadThroughput", "upload_throughput", Number),
        ]),
        "Network.setCacheDisabled" => other(&[("/cacheDisabled", "cache_disabled", Flag)]),
        "Security.setIgnoreCertificateErrors" => other(&[("/ignore", "ignore", Flag)]),
        _ => other(&[]),
    }
}

/// A command as it is published, and what may follow from it.
#[derive(Debug)]
pub(crate) struct Command {
    /// Whether its event is a `cdp_command`; otherwise it is a `cdp_command_other`.
    pub(crate) drives: bool,
    /// Without the connection and the target.
    pub(crate) data: CdpCommand,
    /// What may follow from it in the target of its session.
    pub(crate) effect: Option<ExpectedEffect>,
}

/// An [`Effect`] without its target.
#[derive(Debug, PartialEq)]
pub(crate) enum ExpectedEffect {
    Navigation {
        frame: Option<String>,
        url: Option<String>,
    },
    Tab {
        url: String,
    },
    Click {
        x: f64,
        y: f64,
    },
    Key {
        key: String,
    },
    Scroll,
}

impl ExpectedEffect {
    /// In that target; `None` where it happens in a target, and the target is not known.
    pub(crate) fn within(self, target: Option<&str>) -> Option<Effect> {
        let own = || target.map(str::to_owned);
        Some(match self {
            Self::Navigation { frame, url } => Effect::Navigation {
                target: own()?,
                frame,
                url,
            },
            Self::Tab { url } => Effect::Tab { url },
            Self::Click { x, y } => Effect::Click {
                target: own()?,
                x,
                y,
            },
            Self::Key { key } => Effect::Key {
                target: own()?,
                key,
            },
            Self::Scroll => Effect::Scroll { target: own()? },
        })
    }
}

/// What is published of a message, of which `message` is at least the beginning. `None` where it is no
/// command.
pub(crate) fn read(message: &[u8], redact_url: &RedactUrl, urls: CommandUrls) -> Option<Command> {
    let mut found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(message);
    // An error is expected: the message may be cut.
    let _ = found.deserialize(&mut json);
    let method = found.method.filter(|method| is_word(method))?;
    let approved = approved(&method);
    let params = match found.params {
        Some(params) if approved.drives || !approved.optional.is_empty() => {
            serde_json::from_str(params.get()).unwrap_or_default()
        }
        _ => Value::Null,
    };
    let mut arguments = Map::new();
    for (at, name, form) in approved.required.iter().chain(approved.optional) {
        if let Some(value) = params.pointer(at) {
            form.write(value, name, &mut arguments, redact_url, urls);
        }
    }
    let has = |argument: &Argument| arguments.contains_key(argument.1);
    let drives = approved.drives && approved.required.iter().all(has);
    let effect = effect(&method, &params, redact_url).filter(|_| drives);
    let target_id = match arguments.remove("target_id") {
        Some(Value::String(id)) => Some(id),
        _ => None,
    };
    Some(Command {
        drives,
        effect,
        data: CdpCommand {
            method: method.into_owned(),
            session_id: found.session.filter(|id| is_word(id)).map(Cow::into_owned),
            target_id,
            command_id: found.id,
            arguments,
            ..CdpCommand::default()
        },
    })
}

/// What may follow from a command.
fn effect(method: &str, params: &Value, redact_url: &RedactUrl) -> Option<ExpectedEffect> {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let number = |name: &str| params.get(name).and_then(Value::as_f64);
    let click = || {
        Some(ExpectedEffect::Click {
            x: number("x")?,
            y: number("y")?,
        })
    };
    match (method, text("type")) {
        ("Page.navigate", _) => Some(ExpectedEffect::Navigation {
            frame: text("frameId").map(str::to_owned),
            url: Some(as_in_events(text("url")?, redact_url)),
        }),
        ("Page.reload", _) => Some(ExpectedEffect::Navigation {
            frame: None,
            url: None,
        }),
        ("Target.createTarget", _) => Some(ExpectedEffect::Tab {
            url: as_in_events(text("url")?, redact_url),
        }),
        ("Input.dispatchMouseEvent", Some("mouseReleased")) => click(),
        ("Input.synthesizeTapGesture", _) => click(),
        ("Input.dispatchMouseEvent", Some("mouseWheel")) => Some(ExpectedEffect::Scroll),
        ("Input.dispatchKeyEvent", Some("keyDown" | "rawKeyDown")) => Some(ExpectedEffect::Key {
            key: text("key")?.to_owned(),
        }),
        _ => None,
    }
}

/// A URL as the events of the browser show it: without a fragment, with a path, redacted.
fn as_in_events(url: &str, redact_url: &RedactUrl) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let without_path = |rest: &str| !rest.contains('/');
    let mut url = match url.split_once("://") {
        Some((_, rest)) if without_path(rest) && !rest.contains('?') => format!("{url}/"),
        Some((scheme, rest)) if without_path(rest) => {
            format!("{scheme}://{}", rest.replacen('?', "/?", 1))
        }
        _ => url.to_owned(),
    };
    url = redact_url(&url);
    cut(&mut url);
    url
}

/// The parts of a command that were found before the text ended.
#[derive(Default)]
struct Found<'a> {
    id: Option<i64>,
    method: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
}

impl<'de> DeserializeSeed<'de> for &mut Found<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Found<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "id" => self.id = map.next_value::<Value>()?.as_i64(),
                "method" => self.method = Some(map.next_value::<Text<'de>>()?.0),
                "sessionId" => self.session = Some(map.next_value::<Text<'de>>()?.0),
                "params" => self.params = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl Form {
    /// Writes the argument, where the value is of the right kind.
    fn write(
        self,
        value: &Value,
        name: &str,
        arguments: &mut Map<String, Value>,
        redact_url: &RedactUrl,
        urls: CommandUrls,
    ) {
        let published = match self {
            // Chromium takes `1.0` where it expects an integer, and the SDKs' models do not.
            Self::Integer => value.as_f64().filter(|it| it.fract() == 0.0).map(integer),
            Self::Number => value.as_f64().map(|_| value.clone()),
            Self::Flag => value.as_bool().map(Value::Bool),
            Self::Word => value.as_str().filter(|word| is_word(word)).map(Value::from),
            Self::OneOf(words) => value.as_str().map(|word| match words.contains(&word) {
                true => Value::from(word),
                false => Value::from("other"),
            }),
            Self::Length => value.as_str().map(|text| text.chars().count().into()),
            Self::Present => value.as_str().map(|text| (!text.is_empty()).into()),
            Self::Count => value.as_array().map(|list| list.len().into()),
            Self::Url => {
                if let Some((scheme, url)) = value
                    .as_str()
                    .and_then(|it| publishable(it, redact_url, urls))
                {
                    arguments.insert("url_scheme".to_owned(), scheme.into());
                    arguments.insert(name.to_owned(), url.into());
                }
                None
            }
        };
        if let Some(published) = published {
            arguments.insert(name.to_owned(), published);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn integer(number: f64) -> Value {
    Value::from(number as i64)
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether it is a word or a name of the protocol, or an id.
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(plain)
}

/// The scheme of a URL, and the part of it that may be published: of one that is, or may be, more than an
/// address, only the scheme; of one without a scheme, nothing.
fn publishable(url: &str, redact_url: &RedactUrl, urls: CommandUrls) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once(':')?;
    let of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || scheme.len() > 32 || !scheme.bytes().all(of_a_scheme) {
        return None;
    }
    let lower = scheme.to_ascii_lowercase();
    let authority = rest
        .strip_prefix("//")
        .map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default())
        .filter(|authority| is_plain(authority));
    let has_host = matches!(&*lower, "http" | "https" | "ws" | "wss" | "ftp");
    let is_of_the_browser =
        ["about", "chrome", "chrome-extension", "devtools", "file"].contains(&&*lower);
    let shown = match (urls, authority) {
        (CommandUrls::Full, Some(_)) if has_host => redact_url(url),
        (CommandUrls::Full, _) if is_of_the_browser => redact_url(url),
        (CommandUrls::Host, Some(authority)) if has_host => {
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}")
        }
        // `javascript:` is a script, `data:` a document, and others are unknown.
        _ => format!("{scheme}:"),
    };
    let mut shown = shown;
    cut(&mut shown);
    Some((lower, shown))
}

fn cut(url: &mut String) {
    let mut end = url.len().min(MAX_URL);
    while !url.is_char_boundary(end) {
        end -= 1;
    }
    url.truncate(end);
}

/// Whether a user and a password are where redaction expects them. Browsers accept more.
fn is_plain(authority: &str) -> bool {
    let odd = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'"' || byte == b'\\';
    !authority.is_empty() && !authority.bytes().any(odd)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::RelayOptions;

    fn published(message: &str, urls: CommandUrls) -> Option<Command> {
        let redact: RedactUrl = Arc::new(|url| url.replace("s3", "*redacted*"));
        read(message.as_bytes(), &redact, urls)
    }

    #[track_caller]
    fn check(message: &str, expected: Option<&str>) {
        let command = published(message, CommandUrls::Host);
        let command = command.map(|it| serde_json::to_string(&it.data).unwrap());
        assert_eq!(command.as_deref(), expected, "{message}");
    }

    #[test]
    fn approved_arguments_are_published_with_the_method() {
        check(
            r#"{"id":1,"method":"Page.navigate","params":{"url":"http://h:8080/a?token=s3","referrer":"http://r/"}}"#,
            Some(
                r#"{"method":"Page.navigate","command_id":1,"referrer_present":true,"url":"http://h:8080","url_scheme":"http"}"#,
            ),
        );
        check(
            r#"{"params":{"type":"mousePressed","x":1.5,"y":-2,"button":"left","modifiers":1.0,"clickCount":1.5},"sessionId":"A","method":"Input.dispatchMouseEvent","id":9}"#,
            Some(
                r#"{"method":"Input.dispatchMouseEvent","session_id":"A","command_id":9,"button":"left","event_type":"mousePressed","modifiers":1,"x":1.5,"y":-2}"#,
            ),
        );
        check(
            r#"{"id":2,"method":"Target.closeTarget","params":{"targetId":"T"}}"#,
            Some(r#"{"method":"Target.closeTarget","target_id":"T","command_id":2}"#),
        );
        check(
            r#"{"id":2,"method":"Input.insertText","params":{"text":"héllo"}}"#,
            Some(r#"{"method":"Input.insertText","command_id":2,"text_length":5}"#),
        );
        check(
            r#"{"id":2,"method":"Page.captureScreenshot","params":{"format":"gif","clip":{"x":1,"scale":0.5}}}"#,
            Some(
                r#"{"method":"Page.captureScreenshot","command_id":2,"clip_scale":0.5,"clip_x":1,"format":"other"}"#,
            ),
        );
        check(
            r#"{"method":"Browser.getVersion"}"#,
            Some(r#"{"method":"Browser.getVersion"}"#),
        );
        check(
            r#"{"id":3,"method":"Emulation.setDeviceMetricsOverride","params":{"width":800,"height":600,"mobile":false,"deviceScaleFactor":1}}"#,
            Some(
                r#"{"method":"Emulation.setDeviceMetricsOverride","command_id":3,"device_scale_factor":1,"height":600,"mobile":false,"width":800}"#,
            ),
        );
    }

    #[test]
    fn a_command_without_a_required_argument_does_not_count_as_one_that_drives() {
        for (message, expected) in [
            (
                r#"{"method":"Input.insertText","params":{"text":"a"}}"#,
                true,
            ),
            (
                r#"{"method":"Input.insertText","params":{"text":1}}"#,
                false,
            ),
            (r#"{"method":"Input.insertText"}"#, false),
            (
                r#"{"method":"Input.insertText","params":{"text":"cut"#,
                false,
            ),
            (r#"{"method":"Page.reload"}"#, true),
            (r#"{"method":"Runtime.evaluate"}"#, false),
        ] {
            let command = published(message, CommandUrls::Host).unwrap();
            assert_eq!(command.drives, expected, "{message}");
        }
    }

    #[test]
    fn text_scripts_cookies_and_headers_are_never_published() {
        for (method, params) in [
            ("Input.insertText", r#"{"text":"s3cret"}"#),
            ("Input.imeSetComposition", r#"{"text":"s3cret"}"#),
            (
                "Input.dispatchKeyEvent",
                r#"{"type":"char","key":"s3cret","text":"s3cret","code":"s3cret","unmodifiedText":"s3cret","commands":["s3cret"]}"#,
            ),
            (
                "Input.dispatchDragEvent",
                r#"{"type":"drop","data":{"items":[{"data":"s3cret"}],"files":["s3cret"]}}"#,
            ),
            ("Runtime.evaluate", r#"{"expression":"s3cret"}"#),
            (
                "Runtime.callFunctionOn",
                r#"{"functionDeclaration":"s3cret","arguments":[{"value":"s3cret"}]}"#,
            ),
            (
                "Page.addScriptToEvaluateOnNewDocument",
                r#"{"source":"s3cret"}"#,
            ),
            ("Page.reload", r#"{"scriptToEvaluateOnLoad":"s3cret"}"#),
            ("Page.setDocumentContent", r#"{"html":"s3cret"}"#),
            (
                "Page.handleJavaScriptDialog",
                r#"{"accept":true,"promptText":"s3cret"}"#,
            ),
            ("Network.setCookies", r#"{"cookies":[{"value":"s3cret"}]}"#),
            (
                "Network.setExtraHTTPHeaders",
                r#"{"headers":{"x":"s3cret"}}"#,
            ),
            (
                "Fetch.continueRequest",
                r#"{"url":"s3cret","headers":[],"postData":"s3cret"}"#,
            ),
            (
                "Fetch.continueWithAuth",
                r#"{"authChallengeResponse":{"password":"s3cret"}}"#,
            ),
            (
                "Target.createBrowserContext",
                r#"{"proxyServer":"http://u:s3cret@h"}"#,
            ),
            ("DOM.setFileInputFiles", r#"{"files":["s3cret"]}"#),
            (
                "Page.printToPDF",
                r#"{"headerTemplate":"s3cret","scale":"s3cret"}"#,
            ),
            (
                "Autofill.trigger",
                r#"{"fieldId":1,"card":{"number":"s3cret"},"address":{"fields":[{"value":"s3cret"}]}}"#,
            ),
            // A value of another kind than the protocol's.
            (
                "Input.dispatchMouseEvent",
                r#"{"type":"s3cret typed","x":"s3cret","button":{"a":"s3cret"}}"#,
            ),
            (
                "Page.captureScreenshot",
                r#"{"format":"s3cret!","fromSurface":"s3cret"}"#,
            ),
            ("Page.navigate", r#"{"url":["s3cret"]}"#),
            (
                "Page.navigate",
                r#"{"url":"https://u:s3cret@h/s3cret?s3cret#s3cret"}"#,
            ),
            ("Target.createTarget", r#"{"url":"data:text/html,s3cret"}"#),
        ] {
            let message = format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#);
            let command = published(&message, CommandUrls::Host).unwrap();
            assert_eq!(command.data.method, method);
            let json = serde_json::to_string(&command.data).unwrap();
            assert!(!json.contains("s3"), "{json}");
        }
    }

    #[test]
    fn as_much_of_a_url_is_published_as_the_configuration_allows() {
        for (url, host, full) in [
            ("https://u:s3@h/a?b=c#d", "https://h", "https://h/a"),
            ("HTTP://h:80", "HTTP://h:80", "HTTP://h:80"),
            ("about:blank", "about:", "about:blank"),
            ("file:///home/a.html", "file:", "file:///home/a.html"),
            ("javascript:alert('s3')", "javascript:", "javascript:"),
            ("JavaScript:alert('s3')", "JavaScript:", "JavaScript:"),
            ("data:text/html,<b>s3</b>", "data:", "data:"),
            ("view-source:http://h/", "view-source:", "view-source:"),
            ("blob:http://u:s3@h/", "blob:", "blob:"),
            ("http:u:s3@h", "http:", "http:"),
            (r"http:\\u:s3@h", "http:", "http:"),
            (r"http://\u:s3@h", "http:", "http:"),
            ("http:///u:s3@h", "http:", "http:"),
            ("http://u:s 3@h", "http:", "http:"),
            ("http://u:s\"3@h", "http:", "http:"),
        ] {
            let redact = RelayOptions::new("h").redact_url;
            let scheme = url.split(':').next().unwrap().to_ascii_lowercase();
            for (urls, expected) in [(CommandUrls::Host, host), (CommandUrls::Full, full)] {
                let shown = publishable(url, &redact, urls);
                let expected = (scheme.clone(), expected.to_owned());
                assert_eq!(shown, Some(expected), "{url:?}");
            }
        }
        for url in [" javascript:s3", "java\nscript:s3", "s3", ""] {
            let redact = RelayOptions::new("h").redact_url;
            assert_eq!(
                publishable(url, &redact, CommandUrls::Full),
                None,
                "{url:?}"
            );
        }
        let long = format!("http://h/{}", "é".repeat(MAX_URL));
        let redact = RelayOptions::new("h").redact_url;
        let (_, published) = publishable(&long, &redact, CommandUrls::Full).unwrap();
        assert!(published.len() <= MAX_URL && long.starts_with(&published));
    }

    #[test]
    fn what_may_follow_is_known_where_the_protocol_says_it() {
        let navigation = |frame: Option<&str>, url: &str| {
            Some(ExpectedEffect::Navigation {
                frame: frame.map(str::to_owned),
                url: Some(url.to_owned()),
            })
        };
        for (message, expected) in [
            (
                r#"{"method":"Page.navigate","params":{"url":"http://h#a","frameId":"F"}}"#,
                navigation(Some("F"), "http://h/"),
            ),
            (
                r#"{"method":"Page.navigate","params":{"url":"http://h?k=s3"}}"#,
                navigation(None, "http://h/?k=*redacted*"),
            ),
            (
                r#"{"method":"Input.dispatchMouseEvent","params":{"type":"mouseReleased","x":1,"y":2}}"#,
                Some(ExpectedEffect::Click { x: 1.0, y: 2.0 }),
            ),
            (
                r#"{"method":"Input.dispatchMouseEvent","params":{"type":"mouseMoved","x":1,"y":2}}"#,
                None,
            ),
            (
                r#"{"method":"Input.dispatchKeyEvent","params":{"type":"keyUp","key":"Enter"}}"#,
                None,
            ),
            (
                r#"{"method":"Runtime.evaluate","params":{"expression":"location='/'"}}"#,
                None,
            ),
        ] {
            let command = published(message, CommandUrls::Host).unwrap();
            assert_eq!(command.effect, expected, "{message}");
        }
    }

    #[test]
    fn a_cut_message_yields_its_method() {
        check(
            r#"{"id":1,"method":"Page.navigate","params":{"url":"http://h/a"#,
            Some(r#"{"method":"Page.navigate","command_id":1}"#),
        );
        check(
            r#"{"id":1,"method":"Runtime.evaluate","params":{"expression":"#,
            Some(r#"{"method":"Runtime.evaluate","command_id":1}"#),
        );
        // Only the outermost counts.
        check(r#"{"id":1,"params":{"method":"Page.navigate","#, None);
    }

    #[test]
    fn what_is_not_a_command_is_not_published() {
        for message in [
            "",
            "{}",
            "[]",
            "null",
            "{",
            r#"{"id":1}"#,
            r#"{"method":7}"#,
            r#"{"method":""}"#,
            r#"{"method":"my s3cret"}"#,
            r#"{"meth"#,
            "\u{0}",
        ] {
            check(message, None);
        }
        let long = format!(r#"{{"method":"{}"}}"#, "a".repeat(MAX_WORD + 1));
        check(&long, None);
    }
}
