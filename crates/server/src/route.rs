//! The table of routes: [`Route`].
//!
//! A route is one line of the table and an arm of the dispatch in [`routes`](crate::routes). Everything
//! else derives from the line: which path and method it answers, the header `allow`, who may call it, the
//! labels of its metrics, and whether a call of it becomes an event. The types of its request and its
//! answers are those of its operation in the OpenAPI document; a test compares the two.

use http::Method;
use tapline_access::Requirement;

/// Whether a route is an operation of the OpenAPI document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Document {
    Described,
    /// A route of a gateway alone.
    Gateway,
    /// A file of the live page.
    File,
}

/// Whether a call becomes a `platform_api_call` event. Calls that change something do. Calls that read or
/// publish do not: a client that asks for the state every second would fill the stream with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Event,
    Silent,
}

/// What the table has of a route.
struct Entry {
    method: Method,
    path: &'static str,
    operation: &'static str,
    requirement: Requirement,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test compares the document with it")
    )]
    document: Document,
    call: Call,
}

macro_rules! routes {
    ($($route:ident $method:ident $path:literal $operation:literal $requirement:ident $document:ident $call:ident;)*) => {
        /// What is answered, and under which name it is counted.
        ///
        /// `HEAD` is no route of its own: it is the `GET` without a body.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Route {
            $($route,)*
            /// Every request that is for no route, whether the path is unknown or only the method.
            NotFound,
        }

        /// In the order of [`Route::index`].
        static TABLE: &[Entry] = &[$(Entry {
            method: Method::$method,
            path: $path,
            operation: $operation,
            requirement: Requirement::$requirement,
            document: Document::$document,
            call: Call::$call,
        },)*];

        impl Route {
            /// Every route, in the order of [`index`](Self::index).
            pub(crate) const ALL: &'static [Self] = &[$(Self::$route,)* Self::NotFound];
        }
    };
}

// The most frequent first: a path is looked for from the top. A path may end with one `{id}`.
routes! {
    // route       method path                      operation            who may call   document   as an event
    PublishEvents   POST   "/telemetry/events"       "publish_events"     Token          Described  Silent;
    ReadEvents      GET    "/telemetry/events"       "read_events"        Token          Described  Silent;
    StreamEvents    GET    "/telemetry/stream"       "stream_events"      TokenOrTicket  Described  Silent;
    WaitForEvent    GET    "/telemetry/wait"         "wait_for_event"     Token          Described  Silent;
    GetTelemetry    GET    "/telemetry"              "get_telemetry"      Token          Described  Silent;
    PutTelemetry    PUT    "/telemetry"              "put_telemetry"      Token          Described  Event;
    PatchTelemetry  PATCH  "/telemetry"              "patch_telemetry"    Token          Described  Event;
    DeleteTelemetry DELETE "/telemetry"              "delete_telemetry"   Token          Described  Event;
    ListReaders     GET    "/telemetry/readers"      "list_readers"       Token          Described  Silent;
    PatchReader     PATCH  "/telemetry/readers/{id}" "patch_reader"       Token          Described  Event;
    ListSinks       GET    "/telemetry/sinks"        "list_sinks"         Token          Described  Silent;
    ExportEvents    GET    "/telemetry/export"       "export_events"      Token          Described  Silent;
    CountEvents     GET    "/telemetry/counts"       "count_events"       Token          Described  Silent;
    ListRequests    GET    "/telemetry/requests"     "list_requests"      Token          Described  Silent;
    GetRequest      GET    "/telemetry/requests/{id}" "get_request"       Token          Described  Silent;
    ListNavigations GET    "/telemetry/navigations"  "list_navigations"   Token          Described  Silent;
    ListProblems    GET    "/telemetry/problems"     "list_problems"      Token          Described  Silent;
    ViewFile        POST   "/telemetry/view"         "view_file"          Token          Described  Silent;
    IssueTicket     POST   "/telemetry/tickets"      "create_ticket"      Token          Described  Event;
    ListInstances   GET    "/instances"              "list_instances"     Token          Gateway    Silent;
    StreamFleet     GET    "/fleet/stream"           "stream_fleet"       TokenOrTicket  Gateway    Silent;
    IssueForFleet   POST   "/fleet/tickets"          "create_fleet_ticket" Token         Gateway    Silent;
    GetHealth       GET    "/healthz"                "get_health"         Open           Described  Silent;
    GetReadiness    GET    "/readyz"                 "get_readiness"      Open           Described  Silent;
    GetMetrics      GET    "/metrics"                "get_metrics"        Token          Described  Silent;
    GetOpenapi      GET    "/openapi.json"           "get_openapi"        Open           Described  Silent;
    ShowPage        GET    "/"                       "get_page"           Open           Described  Silent;
    PageFile        GET    "/page/{id}"              "page_file"          Open           File       Silent;
}

/// Why a request is for no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unrouted {
    /// The path does not exist.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed {
        /// The methods that it has: the value of the header `allow`.
        allow: String,
    },
}

impl Route {
    /// How many routes there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// The route of a request, and the `{id}` in its path, as it is written there, where it has one.
    ///
    /// # Errors
    ///
    /// [`Unrouted`], to be counted as [`Route::NotFound`].
    pub(crate) fn find<'a>(
        method: &Method,
        path: &'a str,
    ) -> Result<(Self, Option<&'a str>), Unrouted> {
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        let mut allow = String::new();
        for (entry, route) in TABLE.iter().zip(Self::ALL) {
            let Some(id) = entry.matches(path) else {
                continue;
            };
            if entry.method == *method {
                return Ok((*route, id));
            }
            if !allow.is_empty() {
                allow.push_str(", ");
            }
            allow.push_str(match entry.method {
                Method::GET => "GET, HEAD",
                ref other => other.as_str(),
            });
        }
        Err(if allow.is_empty() {
            Unrouted::NotFound
        } else {
            Unrouted::MethodNotAllowed { allow }
        })
    }

    /// The position of this route in an array with one element for each: `0..COUNT`.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// `None` for [`NotFound`](Self::NotFound).
    fn entry(self) -> Option<&'static Entry> {
        TABLE.get(self.index())
    }

    pub(crate) fn method(self) -> Option<&'static Method> {
        self.entry().map(|entry| &entry.method)
    }

    /// The path with `{id}` in place of an id: a label that does not grow with what clients ask for.
    pub(crate) fn path(self) -> &'static str {
        self.entry().map_or("not_found", |entry| entry.path)
    }

    /// The name of the operation in the OpenAPI document, or one of the same form.
    pub(crate) fn operation_id(self) -> &'static str {
        self.entry().map_or("not_found", |entry| entry.operation)
    }

    /// What the route requires of its callers.
    pub(crate) fn requirement(self) -> Requirement {
        self.entry()
            .map_or(Requirement::Open, |entry| entry.requirement)
    }

    /// Whether a call becomes a `platform_api_call` event.
    pub(crate) fn is_platform_call(self) -> bool {
        self.entry().is_some_and(|entry| entry.call == Call::Event)
    }
}

impl Entry {
    /// Whether the path is this one, and its id, where this one has an `{id}`.
    fn matches<'a>(&self, path: &'a str) -> Option<Option<&'a str>> {
        let Some(start) = self.path.strip_suffix("{id}") else {
            return (self.path == path).then_some(None);
        };
        let id = path.strip_prefix(start)?;
        (!id.is_empty() && !id.contains('/')).then_some(Some(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tapline_oapi::openapi;

    use super::*;

    /// A path that the route answers.
    fn path(route: Route) -> String {
        route.path().replace("{id}", "r-1")
    }

    #[test]
    fn every_route_is_found_by_its_method_and_path() {
        for (n, &route) in Route::ALL.iter().enumerate() {
            assert_eq!(route.index(), n);
            let Some(method) = route.method() else {
                assert_eq!(route, Route::NotFound);
                continue;
            };
            let path = path(route);
            let id = route.path().contains("{id}").then_some("r-1");
            assert_eq!(Route::find(method, &path), Ok((route, id)));
            if *method == Method::GET {
                assert_eq!(Route::find(&Method::HEAD, &path), Ok((route, id)));
            }
        }
    }

    #[test]
    fn a_method_that_a_path_does_not_have_is_answered_with_those_that_it_has() {
        for route in Route::ALL.iter().filter(|route| route.method().is_some()) {
            let path = path(*route);
            let Err(Unrouted::MethodNotAllowed { allow }) = Route::find(&Method::TRACE, &path)
            else {
                panic!("{path} takes TRACE");
            };
            let all = [
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
                Method::OPTIONS,
            ];
            let taken: BTreeSet<_> = all
                .iter()
                .filter(|method| Route::find(method, &path).is_ok())
                .map(Method::as_str)
                .collect();
            assert_eq!(allow.split(", ").collect::<BTreeSet<_>>(), taken, "{path}");
        }
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        for path in [
            "",
            "/telemetry/",
            "/telemetry/readers/",
            "/telemetry/readers/a/b",
            "/Telemetry",
            "/healthz/",
            "//",
            "*",
        ] {
            let found = Route::find(&Method::GET, path);
            assert_eq!(found, Err(Unrouted::NotFound), "{path}");
        }
    }

    #[test]
    fn every_route_has_metric_labels_of_its_own() {
        let labels: BTreeSet<_> = Route::ALL
            .iter()
            .map(|route| (route.method().map(Method::as_str), route.path()))
            .collect();
        assert_eq!(labels.len(), Route::COUNT);
        let names: BTreeSet<_> = Route::ALL.iter().map(|r| r.operation_id()).collect();
        assert_eq!(names.len(), Route::COUNT);
    }

    /// The OpenAPI documents and the table have the same operations, with the same names.
    #[test]
    fn the_table_and_the_documents_agree() {
        agree(&openapi::document(), &[Document::Described]);
        let of_gateway = [Document::Described, Document::Gateway];
        agree(&openapi::gateway_document(), &of_gateway);
    }

    fn agree(document: &impl serde::Serialize, kinds: &[Document]) {
        let document = serde_json::to_value(document).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let Some(id) = operation["operationId"].as_str() else {
                    continue; // not an operation: parameters or a description of the path
                };
                let path = path.replace("/instances/{instance}", "");
                described.insert((method.to_uppercase(), path, id.to_owned()));
            }
        }
        let table: BTreeSet<_> = TABLE
            .iter()
            .filter(|entry| kinds.contains(&entry.document))
            .map(|entry| {
                let method = entry.method.as_str().to_owned();
                (method, entry.path.to_owned(), entry.operation.to_owned())
            })
            .collect();
        assert_eq!(table, described);
    }
}
