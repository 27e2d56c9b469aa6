//! Many instances on one listener: what a gateway answers.
//!
//! `/instances/{id}/telemetry/…` is what an instance has under `/telemetry/…`: the same routes, over the backend of that
//! name. An instance is opened by the first request for it, and forgotten some time after the last.

mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use hyper::body::Incoming;
use tapline_access::{AccessError, Claims, Requirement, is_ticket};
use tapline_api::{Fleet, FleetQuery, InstanceQuery};
use tapline_oapi::{ErrorCode, FleetTicketRequest};
use tokio::time::sleep;

use crate::answer::{Failure, Whole, empty, json};
use crate::app::{App, Site};
use crate::host::Host;
use crate::metrics;
use crate::page;
use crate::route::Route;
use crate::routes::{self, Answer, Asked, Client};
use crate::scope;

/// How long an instance stays open that no client reads from.
const IDLE: Duration = Duration::from_secs(30);

/// Under which paths the instances are. The second is that of the control API whose SDKs also work here.
const PREFIXES: [&str; 2] = ["/instances/", "/browsers/"];

/// Answers for a fleet.
pub(crate) struct Gateway<F: Fleet> {
    host: Arc<Host>,
    fleet: Arc<F>,
    open: Mutex<HashMap<String, Open<F>>>,
}

/// An instance that is open.
struct Open<F: Fleet> {
    app: Arc<App<F::Backend>>,
    /// When it was asked for last.
    used: Instant,
}

impl<F: Fleet> Gateway<F> {
    pub(crate) fn new(host: Arc<Host>, fleet: Arc<F>) -> Arc<Self> {
        let gateway = Arc::new(Self {
            host,
            fleet,
            open: Mutex::default(),
        });
        let sweeper = Arc::downgrade(&gateway);
        gateway.host.spawn(sweep(sweeper));
        gateway
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Open<F>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance of that name, as it is now.
    async fn instance(&self, name: &str) -> Result<Arc<App<F::Backend>>, Failure> {
        let backend = self.fleet.open(name).await?;
        let mut open = self.open();
        if let Some(there) = open.get_mut(name)
            && Arc::ptr_eq(&there.app.backend, &backend)
        {
            there.used = Instant::now();
            return Ok(there.app.clone());
        }
        let ended = self.fleet.ended(&backend);
        let app = Arc::new(App::new(self.host.clone(), backend, Some(name.to_owned())));
        let watched = Arc::downgrade(&app);
        let stopping = app.stopping.clone();
        self.host.spawn(async move {
            tokio::select! {
                () = ended => {}
                () = stopping.cancelled() => {}
            }
            if let Some(app) = watched.upgrade() {
                app.end();
            }
        });
        let used = Instant::now();
        let app_of = app.clone();
        open.insert(name.to_owned(), Open { app, used });
        Ok(app_of)
    }

    /// What is for no instance.
    async fn own(&self, asked: Asked<'_>) -> Result<Whole, Failure> {
        let Asked {
            route,
            head,
            grant,
            body,
            ..
        } = asked;
        let (grant, path) = (&grant, head.uri.path());
        let pairs = routes::pairs(&head.uri);
        let pairs = pairs.iter().map(|(name, text)| (&**name, &**text));
        match route {
            Route::ListInstances => {
                let mut query = InstanceQuery::from_pairs(pairs)?;
                query.permitted.extend(scope::instances(grant));
                // The names of all instances are compared.
                let _turn = self.host.turns.take_for_search().await;
                let part = self.fleet.instances(&query);
                let mut answer = json(StatusCode::OK, &part.list);
                routes::say_what_follows(answer.headers_mut(), part.next_offset);
                Ok(answer)
            }
            Route::StreamFleet => {
                let pairs = pairs.filter(|(name, _)| !is_ticket(name));
                let mut query = FleetQuery::from_pairs(pairs)?;
                let id = head.headers.get("last-event-id");
                if let Some(id) = id.filter(|id| !id.is_empty()) {
                    query.after = Some(String::from_utf8_lossy(id.as_bytes()).into_owned());
                }
                scope::narrow_fleet(&mut query, grant).map_err(AccessError::from)?;
                let expires = grant.ticket.as_ref().map(Claims::time_left);
                let reader = self.fleet.read(&query).await?;
                stream::begin(&self.host, reader, &query, expires)
            }
            Route::IssueForFleet => {
                let request: FleetTicketRequest = body.json().await?;
                scope::check_names(grant, &request.instances)?;
                let access = &self.host.options.access;
                let names = request.instances.join(",");
                let ticket = access.issue(&request.of_each(), "", Some(&names))?;
                Ok(routes::ticket(&ticket))
            }
            Route::GetReadiness => {
                routes::readiness(self.host.is_stopping(), || self.fleet.readiness())
            }
            Route::GetMetrics => {
                scope::check_instance(grant, None)?;
                let totals = self.fleet.instances(&InstanceQuery {
                    limit: 0,
                    ..InstanceQuery::default()
                });
                let open = self.open().len();
                let text = self.host.metrics.render_fleet(&totals.list, open);
                Ok(routes::typed(metrics::CONTENT_TYPE, text))
            }
            Route::ShowPage => Ok(routes::page_file(&page::FLEET)),
            Route::GetOpenapi => Ok(routes::gateway_document()),
            route => routes::open(route, path).unwrap_or_else(|| {
                Err(Failure::new(
                    ErrorCode::NotFound,
                    format!(
                        "this is a gateway: `{path}` is a path of each instance, such as `/instances/NAME{path}`; \
                         `GET /instances` lists them"
                    ),
                ))
            }),
        }
    }
}

impl<F: Fleet> Site for Gateway<F> {
    type Backend = F::Backend;

    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    async fn answer(
        self: &Arc<Self>,
        client: Client<'_>,
        mut request: Request<Incoming>,
    ) -> Answer<F::Backend> {
        let Some((name, rest)) = place(request.uri().path()) else {
            let handle = async |asked: Asked<'_>| self.own(asked).await;
            return routes::answer_without(&self.host, client, request, handle).await;
        };
        let Some(rest) = rest else {
            let to = format!("{name}/");
            *request.uri_mut() = Uri::from_static("/");
            return routes::answer_without(&self.host, client, request, async |_| {
                let mut answer = empty(StatusCode::PERMANENT_REDIRECT);
                let to = HeaderValue::try_from(to).map_err(|_| unknown())?;
                answer.headers_mut().insert(header::LOCATION, to);
                Ok(answer)
            })
            .await;
        };
        let (name, asked) = (name.to_owned(), rest.to_owned());
        let Some(uri) = with_path(request.uri(), rest) else {
            return routes::answer_without(&self.host, client, request, async |_| Err(unknown()))
                .await;
        };
        let route = Route::find(request.method(), rest).map(|(route, _)| route);
        *request.uri_mut() = uri;
        match route {
            Ok(
                Route::GetHealth
                | Route::GetReadiness
                | Route::GetMetrics
                | Route::ListInstances
                | Route::StreamFleet
                | Route::IssueForFleet,
            ) => {
                routes::answer_without(&self.host, client, request, async |_| {
                    Err(Failure::new(
                        ErrorCode::NotFound,
                        format!("`{asked}` is of the gateway itself, not of an instance"),
                    ))
                })
                .await
            }
            Ok(route) if route.requirement() != Requirement::Open => {
                let find = async || self.instance(&name).await;
                routes::answer(&self.host, Some(&name), client, request, find).await
            }
            // The page is the same for every instance, and every caller is admitted.
            _ => {
                routes::answer_without(&self.host, client, request, async |it| {
                    routes::open(it.route, &asked).unwrap_or_else(|| Err(unknown()))
                })
                .await
            }
        }
    }
}

fn unknown() -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        "no such path; `GET /instances` lists the instances",
    )
}

/// Closes what no client has read from for a while.
async fn sweep<F: Fleet>(gateway: Weak<Gateway<F>>) {
    loop {
        let Some(host) = gateway.upgrade().map(|it| it.host.clone()) else {
            return;
        };
        tokio::select! {
            () = sleep(IDLE / 4) => {}
            () = host.stopping.cancelled() => return,
        }
        let Some(gateway) = gateway.upgrade() else {
            return;
        };
        // Each stream and each call holds its app.
        gateway
            .open()
            .retain(|_, open| 1 < Arc::strong_count(&open.app) || open.used.elapsed() < IDLE);
    }
}

/// The instance that a path is for, and its path there. `None` for the second where that has not even a `/`.
fn place(path: &str) -> Option<(&str, Option<&str>)> {
    let rest = PREFIXES
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))?;
    let (name, at) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    (!name.is_empty()).then_some((name, at))
}

/// The same with another path.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_found_in_the_path() {
        for (path, expected) in [
            ("/instances", None),
            ("/instances/", None),
            ("/instances//telemetry", None),
            ("/telemetry", None),
            ("/instances/a", Some(("a", None))),
            ("/instances/a/", Some(("a", Some("/")))),
            (
                "/browsers/a-1/telemetry/stream",
                Some(("a-1", Some("/telemetry/stream"))),
            ),
            ("/instances/a//x", Some(("a", Some("//x")))),
        ] {
            assert_eq!(place(path), expected, "{path}");
        }
    }

    #[test]
    fn only_the_path_is_replaced() {
        let uri = "http://host/instances/a/telemetry?after=3".parse().unwrap();
        let replaced = with_path(&uri, "/telemetry").unwrap();
        assert_eq!(replaced.to_string(), "http://host/telemetry?after=3");
        let uri = "/instances/a/".parse().unwrap();
        assert_eq!(with_path(&uri, "/").unwrap().to_string(), "/");
    }
}
