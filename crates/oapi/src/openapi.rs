//! The OpenAPI 3.1 document of the HTTP interface, made from the types that are served.
//!
//! The operations are declared in `operations`, as functions that are never called: this floor
//! cannot see those that are. `openapi.json`, beside this crate's manifest, is the committed copy,
//! so that a change of the interface shows up as a change of that file.
//!
//! What every operation has in common, the answers to any request above all, is added here to all of
//! them.

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

/// The document, for those who want to add to it or look into it.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    tell_known_from_custom(components);
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
        ];
        for operation in operations.into_iter().flatten() {
            // utoipa takes `Option<T>` for "or null", and `null` is not taken for a body.
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

/// The document as JSON, pretty, with a line break at the end: the content of `openapi.json`.
#[must_use]
pub fn document_json() -> String {
    let mut json = document()
        .to_pretty_json()
        .expect("the document is maps of strings, all of it JSON");
    json.push('\n');
    json
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tapline",
        description = "The telemetry line out of a browser or agent sandbox: switch it on, publish \
            events, read them back page by page or follow them live, and be told exactly what you \
            missed.\n\n\
            Every error is a JSON object with a stable `code` and a `message` for people, also \
            for paths and methods that are not listed here (404, 405). Unknown fields in a body \
            are an error, and so are unknown parameters where a query is taken.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "The server that this document comes from")),
    tags(
        (name = "telemetry", description = "The session: what is captured"),
        (name = "events", description = "Publishing and reading"),
        (name = "service", description = "The server itself"),
    ),
    // Where the server has no token, nothing is asked for.
    security((), ("bearer" = [])),
    paths(
        operations::get_telemetry,
        operations::put_telemetry,
        operations::patch_telemetry,
        operations::publish_events,
        operations::read_events,
        operations::stream_events,
        operations::wait_for_event,
        operations::list_readers,
        operations::patch_reader,
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
        crate::Beat,
        crate::Bye,
    )),
)]
struct Document;

/// An answer that any request may get, whatever it asks for.
struct Common {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    code: ErrorCode,
    example: &'static str,
    /// Later it may do, and the answer says when.
    retry_after: bool,
}

const COMMON: [Common; 6] = [
    Common {
        status: "401",
        name: "Unauthorized",
        description: "The token, ticket or JWT is missing, wrong, or has run out.",
        code: ErrorCode::Unauthorized,
        example: "send `Authorization: Bearer` with the server's token",
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
        description: "The request, or what it waits for, did not come within the time that it has.",
        code: ErrorCode::Timeout,
        example: "the body did not arrive within 30 s",
        retry_after: false,
    },
    Common {
        status: "429",
        name: "TooManyRequests",
        description: "The caller asks too often, or has too many streams open.",
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
        description: "The server is full, not ready yet, or stops.",
        code: ErrorCode::Unavailable,
        example: "the server stops",
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

/// The parameter and the answers that every operation has, unless it has an answer of its own for that
/// status. Who asks for no token refuses none.
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
            "A name for this request, told back in the answer and in the server's log. The server makes one \
             where none is given that it can use.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(request_id.build().into());
}

fn request_id_header() -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(
            "The name of this request: its own, or one that the server made",
        ))
        .build()
}

fn add_security_schemes(components: &mut Components) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The server's token, where it has one."));
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
        in_query("jwt", "A signed JWT, where the server has a key for them."),
    );
}

/// Splits the request into one of a known type and one of any type with its category, because one
/// struct cannot say that `category` must be given unless `type` is known.
fn tell_known_from_custom(components: &mut Components) {
    const REQUEST: &str = "PublishRequest";
    const KNOWN: &str = "PublishKnown";
    const CUSTOM: &str = "PublishCustom";

    let Some(RefOr::T(Schema::Object(request))) = components.schemas.remove(REQUEST) else {
        unreachable!("derived from a struct, and used by an operation");
    };

    let mut known = request.clone();
    known.description =
        Some("An event of a known type, which brings its category along.".to_owned());
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
    either.description = Some(
        "An event to publish. A field that is null counts as absent, but for `data`.".to_owned(),
    );
    either.items = [KNOWN, CUSTOM]
        .map(|name| Ref::from_schema_name(name).into())
        .into();

    components.schemas.insert(KNOWN.to_owned(), known.into());
    components.schemas.insert(CUSTOM.to_owned(), custom.into());
    components
        .schemas
        .insert(REQUEST.to_owned(), Schema::AnyOf(either).into());
}

/// Tells which types are known, from the table that knows them.
fn events_description() -> String {
    let mut text = "Publishing and reading.\n\nAny `type` is carried. These are known: each has a \
        category of its own, which wins over the publisher's.\n\n\
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
