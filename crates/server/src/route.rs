//! Which operation a request is for: [`Route`].

use http::Method;

/// What is answered, and under which name it is counted.
///
/// `HEAD` is no route of its own: it is the `GET` without a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    GetTelemetry,
    PutTelemetry,
    PatchTelemetry,
    PublishEvents,
    ReadEvents,
    StreamEvents,
    WaitForEvent,
    ListReaders,
    PatchReader,
    IssueTicket,
    GetHealth,
    GetReadiness,
    GetMetrics,
    GetOpenapi,
    ShowPage,
    PageScript,
    PageStyle,
    /// Everything else, whether the path is unknown or only the method.
    NotFound,
}

/// Why a request is for no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrouted {
    /// There is nothing at the path.
    NotFound,
    /// There is something, but not with this method.
    MethodNotAllowed {
        /// The methods that there are: the value of the header `allow`.
        allow: &'static str,
    },
}

impl Route {
    pub(crate) const COUNT: usize = 18;

    /// Every route, in the order of [`index`](Self::index).
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::GetTelemetry,
        Self::PutTelemetry,
        Self::PatchTelemetry,
        Self::PublishEvents,
        Self::ReadEvents,
        Self::StreamEvents,
        Self::WaitForEvent,
        Self::ListReaders,
        Self::PatchReader,
        Self::IssueTicket,
        Self::GetHealth,
        Self::GetReadiness,
        Self::GetMetrics,
        Self::GetOpenapi,
        Self::ShowPage,
        Self::PageScript,
        Self::PageStyle,
        Self::NotFound,
    ];

    /// The route for a request, and the reader's id where the path names one, as it stands there.
    ///
    /// # Errors
    ///
    /// [`Unrouted`], to be counted as [`Route::NotFound`].
    pub(crate) fn find<'a>(
        method: &Method,
        path: &'a str,
    ) -> Result<(Self, Option<&'a str>), Unrouted> {
        let mut reader = None;
        let (routes, allow): (&[Self], _) = match path {
            "/telemetry/events" => (&[Self::PublishEvents, Self::ReadEvents], "GET, HEAD, POST"),
            "/telemetry/stream" => (&[Self::StreamEvents], "GET, HEAD"),
            "/telemetry/wait" => (&[Self::WaitForEvent], "GET, HEAD"),
            "/telemetry" => (
                &[Self::GetTelemetry, Self::PutTelemetry, Self::PatchTelemetry],
                "GET, HEAD, PUT, PATCH",
            ),
            "/telemetry/readers" => (&[Self::ListReaders], "GET, HEAD"),
            "/telemetry/tickets" => (&[Self::IssueTicket], "POST"),
            "/healthz" => (&[Self::GetHealth], "GET, HEAD"),
            "/readyz" => (&[Self::GetReadiness], "GET, HEAD"),
            "/metrics" => (&[Self::GetMetrics], "GET, HEAD"),
            "/openapi.json" => (&[Self::GetOpenapi], "GET, HEAD"),
            "/" => (&[Self::ShowPage], "GET, HEAD"),
            "/page.js" => (&[Self::PageScript], "GET, HEAD"),
            "/page.css" => (&[Self::PageStyle], "GET, HEAD"),
            _ => match path.strip_prefix("/telemetry/readers/") {
                Some(id) if !id.is_empty() && !id.contains('/') => {
                    reader = Some(id);
                    (&[Self::PatchReader], "PATCH")
                }
                _ => return Err(Unrouted::NotFound),
            },
        };
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        routes
            .iter()
            .find(|route| route.method() == Some(method))
            .map(|route| (*route, reader))
            .ok_or(Unrouted::MethodNotAllowed { allow })
    }

    /// The place of this route in an array with one entry for each: `0..COUNT`.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The method; none for what is not there.
    pub(crate) const fn method(self) -> Option<&'static Method> {
        Some(match self {
            Self::PutTelemetry => &Method::PUT,
            Self::PatchTelemetry | Self::PatchReader => &Method::PATCH,
            Self::PublishEvents | Self::IssueTicket => &Method::POST,
            Self::GetTelemetry
            | Self::ReadEvents
            | Self::StreamEvents
            | Self::WaitForEvent
            | Self::ListReaders
            | Self::GetHealth
            | Self::GetReadiness
            | Self::GetMetrics
            | Self::GetOpenapi
            | Self::ShowPage
            | Self::PageScript
            | Self::PageStyle => &Method::GET,
            Self::NotFound => return None,
        })
    }

    /// The path, as a template: a name that does not grow with what callers ask for.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::GetTelemetry | Self::PutTelemetry | Self::PatchTelemetry => "/telemetry",
            Self::PublishEvents | Self::ReadEvents => "/telemetry/events",
            Self::StreamEvents => "/telemetry/stream",
            Self::WaitForEvent => "/telemetry/wait",
            Self::ListReaders => "/telemetry/readers",
            Self::PatchReader => "/telemetry/readers/{id}",
            Self::IssueTicket => "/telemetry/tickets",
            Self::GetHealth => "/healthz",
            Self::GetReadiness => "/readyz",
            Self::GetMetrics => "/metrics",
            Self::GetOpenapi => "/openapi.json",
            Self::ShowPage => "/",
            Self::PageScript => "/page.js",
            Self::PageStyle => "/page.css",
            Self::NotFound => "not_found",
        }
    }

    /// The name of the operation in the OpenAPI document, or one of its kind for what is not in it.
    pub(crate) const fn operation_id(self) -> &'static str {
        match self {
            Self::GetTelemetry => "get_telemetry",
            Self::PutTelemetry => "put_telemetry",
            Self::PatchTelemetry => "patch_telemetry",
            Self::PublishEvents => "publish_events",
            Self::ReadEvents => "read_events",
            Self::StreamEvents => "stream_events",
            Self::WaitForEvent => "wait_for_event",
            Self::ListReaders => "list_readers",
            Self::PatchReader => "patch_reader",
            Self::IssueTicket => "create_ticket",
            Self::GetHealth => "get_health",
            Self::GetReadiness => "get_readiness",
            Self::GetMetrics => "get_metrics",
            Self::GetOpenapi => "get_openapi",
            Self::ShowPage => "get_page",
            Self::PageScript => "page_script",
            Self::PageStyle => "page_style",
            Self::NotFound => "not_found",
        }
    }

    /// Whether a call of it is told as an event: those that change something are. Those that only look, or
    /// publish, are not: somebody who asks for the state every second would fill the stream with it.
    pub(crate) const fn is_platform_call(self) -> bool {
        matches!(
            self,
            Self::PutTelemetry | Self::PatchTelemetry | Self::PatchReader | Self::IssueTicket
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tapline_oapi::openapi;

    use super::*;

    /// A path that the route answers.
    fn path(route: Route) -> String {
        route.as_str().replace("{id}", "r-1")
    }

    #[test]
    fn every_route_is_found_by_its_method_and_path_and_stands_at_its_index() {
        for (n, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route.index(), n);
            let Some(method) = route.method() else {
                assert_eq!(route, Route::NotFound);
                continue;
            };
            let path = path(route);
            let reader = (route == Route::PatchReader).then_some("r-1");
            assert_eq!(Route::find(method, &path), Ok((route, reader)));
            if *method == Method::GET {
                assert_eq!(Route::find(&Method::HEAD, &path), Ok((route, reader)));
            }
        }
    }

    #[test]
    fn another_method_is_told_which_there_are() {
        for route in Route::ALL.into_iter().filter(|r| r.method().is_some()) {
            let path = path(route);
            let Err(Unrouted::MethodNotAllowed { allow }) = Route::find(&Method::DELETE, &path)
            else {
                panic!("{path} takes DELETE");
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
    fn what_is_not_there_is_not_found() {
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
    fn two_routes_differ_in_what_they_are_counted_under() {
        let labels: BTreeSet<_> = Route::ALL
            .iter()
            .map(|route| (route.method().map(Method::as_str), route.as_str()))
            .collect();
        assert_eq!(labels.len(), Route::COUNT);
        let names: BTreeSet<_> = Route::ALL.iter().map(|r| r.operation_id()).collect();
        assert_eq!(names.len(), Route::COUNT);
    }

    #[test]
    fn an_operation_is_called_as_in_the_document() {
        let document = serde_json::to_value(openapi::document()).unwrap();
        let mut described = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let Some(id) = operation["operationId"].as_str() else {
                    continue; // not an operation: parameters or a description of the path
                };
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let (route, _) = Route::find(&method, path).expect(path);
                assert_eq!(route.operation_id(), id);
                described += 1;
            }
        }
        assert!(described >= 8, "{described}");
    }
}
