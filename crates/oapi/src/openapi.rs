//! The OpenAPI 3.1 document of the HTTP interface, made from the types that are served.
//!
//! The operations are declared in `operations`, as functions that are never called: the real handlers are
//! in a higher layer. `openapi.json`, beside this crate's manifest, is the committed copy, so that a
//! change of the interface is visible as a change of that file.
//!
//! This module adds the parts that all operations share, such as the answers that any request may get.

mod operations;

use utoipa::OpenApi as _;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AnyOf, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Header, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
};

use crate::error::{ErrorBody, ErrorCode};
use crate::event_type::KnownType;

/// The document as a value.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    split_publish_request(components);
    for tag in document
        .tags
        .iter_mut()
        .flatten()
        .filter(|tag| tag.name == "events")
    {
        tag.description = Some(events_description());
    }
    add_security_schemes(components);
    for answer in &COMMON {
        let response = answer.response().into();
        components
            .responses
            .insert(answer.name.to_owned(), response);
    }
    for (path, item) in &mut document.paths.paths {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            // utoipa writes `Option<T>` as "or null", but a body of `null` is not accepted.
            let may_be_left_out = ["/telemetry", "/telemetry/tickets"].contains(&path.as_str());
            if let Some(RefOr::T(body)) = &mut operation.request_body
                && may_be_left_out
            {
                body.required = Some(Required::False);
            }
            add_common(operation);
        }
    }
    document
}

/// The document of a gateway: the operations of an instance behind its name, and those of the gateway itself.
#[must_use]
pub fn gateway_document() -> OpenApi {
    let mut document = document();
    let name = ParameterBuilder::new()
        .name("instance")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The name of the instance"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    for (path, mut item) in std::mem::take(&mut document.paths.paths) {
        let path = if path.starts_with("/telemetry") {
            let parameters = item.parameters.get_or_insert_default();
            parameters.push(name.clone().into());
            format!("/instances/{{instance}}{path}")
        } else {
            path
        };
        document.paths.paths.insert(path, item);
    }
    let own = GatewayDocument::openapi();
    for (path, mut item) in own.paths.paths {
        let operations = item.get.iter_mut().chain(&mut item.post);
        operations.for_each(add_common);
        document.paths.paths.insert(path, item);
    }
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .extend(own.components.unwrap_or_default().schemas);
    document
        .tags
        .get_or_insert_default()
        .extend(own.tags.unwrap_or_default());
    document
}

/// The document as JSON, pretty, with a line break at the end: the content of `openapi.json`.
#[must_use]
pub fn document_json() -> String {
    pretty(&document())
}

/// As [`document_json`], of a gateway.
#[must_use]
pub fn gateway_document_json() -> String {
    pretty(&gateway_document())
}

fn pretty(document: &OpenApi) -> String {
    let mut json = document
        .to_pretty_json()
        .expect("the document is maps of strings, all of it JSON");
    json.push('\n');
    json
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tapline",
        description = "The telemetry line out of a browser or agent sandbox: start a session, publish \
            events, read them page by page or follow them live, with an exact account of what \
            was missed.\n\n\
            Every error is a JSON object with a stable `code`, a `message` for people and the \
            `request_id`, also for paths and methods that are not listed here (404, 405). Unknown \
            fields in a body are an error, and so are unknown query parameters where a query is accepted.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "The server that this document comes from")),
    tags(
        (name = "telemetry", description = "The session: what is captured"),
        (name = "events", description = "Publishing and reading"),
        (name = "service", description = "The server itself"),
    ),
    // A server without a token needs no credentials.
    security((), ("bearer" = [])),
    paths(
        operations::get_telemetry,
        operations::put_telemetry,
        operations::patch_telemetry,
        operations::delete_telemetry,
        operations::publish_events,
        operations::read_events,
        operations::stream_events,
        operations::wait_for_event,
        operations::list_readers,
        operations::patch_reader,
        operations::list_sinks,
        operations::export_events,
        operations::count_events,
        operations::list_requests,
        operations::get_request,
        operations::list_navigations,
        operations::list_problems,
        operations::view_file,
        operations::create_ticket,
        operations::get_health,
        operations::get_readiness,
        operations::get_metrics,
        operations::get_openapi,
        operations::get_page,
    ),
    components(schemas(
        crate::Hello,
        crate::Gap,
        crate::SessionNotice,
        crate::FilterNotice,
        crate::EpochNotice,
        crate::Beat,
        crate::Bye,
    )),
)]
struct Document;

/// What a gateway has of its own.
#[derive(utoipa::OpenApi)]
#[openapi(
    tags((name = "fleet", description = "The instances of a gateway")),
    paths(operations::list_instances, operations::stream_fleet, operations::create_fleet_ticket),
)]
struct GatewayDocument;

/// An answer that any request may get.
struct Common {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    code: ErrorCode,
    example: &'static str,
    /// Whether the answer says when to try again.
    retry_after: bool,
}

const COMMON: [Common; 6] = [
    Common {
        status: "401",
        name: "Unauthorized",
        description: "The token, ticket or JWT is missing, wrong, or has expired.",
        code: ErrorCode::Unauthorized,
        example: "this server needs a token: send `Authorization: Bearer TOKEN`",
        retry_after: false,
    },
    Common {
        status: "403",
        name: "Forbidden",
        description: "The `Host` or `Origin` of the request is not allowed.",
        code: ErrorCode::Forbidden,
        example: "the origin `https://example.com` is not allowed",
        retry_after: false,
    },
    Common {
        status: "408",
        name: "Timeout",
        description: "The request, or the answer of the reader that it addresses, did not arrive in time.",
        code: ErrorCode::Timeout,
        example: "the body did not arrive within 30 s",
        retry_after: false,
    },
    Common {
        status: "429",
        name: "TooManyRequests",
        description: "The client sends too many requests, or has too many streams open.",
        code: ErrorCode::TooManyRequests,
        example: "16 streams are open from this address",
        retry_after: true,
    },
    Common {
        status: "431",
        name: "HeaderTooLarge",
        description: "The head of the request is too large.",
        code: ErrorCode::HeaderTooLarge,
        example: "the head of the request is over 16384 bytes",
        retry_after: false,
    },
    Common {
        status: "503",
        name: "Unavailable",
        description: "The server is full, not ready yet, or stopping.",
        code: ErrorCode::Unavailable,
        example: "the server is stopping",
        retry_after: true,
    },
];

impl Common {
    fn response(&self) -> Response {
        let body = serde_json::to_value(ErrorBody::new(self.code, self.example));
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ErrorBody")))
            .example(body.ok())
            .build();
        let mut response = ResponseBuilder::new()
            .description(self.description)
            .content("application/json", content)
            .header("X-Request-Id", request_id_header());
        if self.retry_after {
            let seconds = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(0));
            let header = HeaderBuilder::new()
                .schema(Some(seconds))
                .description(Some("After how many seconds to try again"));
            response = response.header("Retry-After", header.build());
        }
        response.build()
    }
}

/// Adds the parameter and the answers that every operation has, unless it declares its own answer for that
/// status. An operation that needs no token has no 401.
fn add_common(operation: &mut Operation) {
    let is_open = operation
        .security
        .as_ref()
        .is_some_and(|accepted| accepted.len() == 1);
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = request_id_header();
            response
                .headers
                .insert("X-Request-Id".to_owned(), header.into());
        }
    }
    for answer in COMMON {
        if !(is_open && answer.code == ErrorCode::Unauthorized) {
            let responses = &mut operation.responses.responses;
            responses
                .entry(answer.status.to_owned())
                .or_insert_with(|| Ref::from_response_name(answer.name).into());
        }
    }
    let request_id = ParameterBuilder::new()
        .name("X-Request-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "An id for this request: up to 128 printable characters. The answer and the server's log repeat it. \
             If it is absent or not usable, the server makes one.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(request_id.build().into());
}

fn request_id_header() -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(
            "The id of this request: the client's own, or one that the server made",
        ))
        .build()
}

fn add_security_schemes(components: &mut Components) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The server's token, if it has one."));
    let in_query = |name: &str, description: &str| {
        let key = ApiKeyValue::with_description(name, description);
        SecurityScheme::ApiKey(ApiKey::Query(key))
    };
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    components.add_security_scheme(
        "ticket",
        in_query("ticket", "A ticket, made by `POST /telemetry/tickets`."),
    );
    components.add_security_scheme(
        "jwt",
        in_query("jwt", "A signed JWT, if the server has a key for them."),
    );
}

/// Splits the request into one for known types and one for any type with its category, because one schema
/// cannot say that `category` is required unless `type` is known.
fn split_publish_request(components: &mut Components) {
    const REQUEST: &str = "PublishRequest";
    const KNOWN: &str = "PublishKnown";
    const CUSTOM: &str = "PublishCustom";

    let Some(RefOr::T(Schema::Object(request))) = components.schemas.remove(REQUEST) else {
        unreachable!("derived from a struct, and used by an operation");
    };

    let mut known = request.clone();
    known.description = Some("An event of a known type, which has its own category.".to_owned());
    let names = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("A known type."))
        .enum_values(Some(KnownType::ALL.iter().map(|known| known.as_str())));
    known.properties.insert("type".to_owned(), names.into());

    let mut custom = request;
    custom.description = Some("An event of any type, with its category.".to_owned());
    custom.required.push("category".to_owned());
    custom.properties.insert(
        "category".to_owned(),
        Ref::from_schema_name("Category").into(),
    );

    let mut either = AnyOf::new();
    either.description =
        Some("An event to publish. A null field counts as absent, except `data`.".to_owned());
    either.items = [KNOWN, CUSTOM]
        .map(|name| Ref::from_schema_name(name).into())
        .into();

    components.schemas.insert(KNOWN.to_owned(), known.into());
    components.schemas.insert(CUSTOM.to_owned(), custom.into());
    components
        .schemas
        .insert(REQUEST.to_owned(), Schema::AnyOf(either).into());
}

/// Lists the known types.
fn events_description() -> String {
    let mut text =
        "Publishing and reading.\n\nAny `type` is accepted. These are known: each has its \
        own category, which replaces the publisher's.\n\n\
        | type | category | |\n|---|---|---|\n"
            .to_owned();
    for known in KnownType::ALL {
        text.push_str(&format!(
            "| `{known}` | `{}` | {} |\n",
            known.category(),
            known.summary()
        ));
    }
    text
}
