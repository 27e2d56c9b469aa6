//! The OpenAPI 3.1 document of the HTTP interface, made from the types that are served.
//!
//! The operations are declared in `operations`, as functions that are never called: this floor
//! cannot see those that are. `openapi.json`, beside this crate's manifest, is the committed copy,
//! so that a change of the interface shows up as a change of that file.

mod operations;

use utoipa::OpenApi as _;
use utoipa::openapi::schema::{AnyOf, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Components, OpenApi, Ref, RefOr, Required};

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
    // utoipa takes `Option<T>` for "or null", and `null` is not taken for a body.
    if let Some(telemetry) = document.paths.paths.get_mut("/telemetry") {
        for operation in [&mut telemetry.put, &mut telemetry.patch]
            .into_iter()
            .flatten()
        {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.required = Some(Required::False);
            }
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
    // Said in so many words: nothing here asks for a token.
    security(()),
    paths(
        operations::get_telemetry,
        operations::put_telemetry,
        operations::patch_telemetry,
        operations::publish_events,
        operations::read_events,
        operations::stream_events,
        operations::get_health,
        operations::get_openapi,
    ),
    components(schemas(
        crate::Hello,
        crate::Gap,
        crate::SessionNotice,
        crate::Beat,
        crate::Bye,
    )),
)]
struct Document;

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
