//! The Lambda API: functions made, changed and called by unmodified clients of AWS, on a port of its own.
//!
//! ```text
//!   boto3, aws, SDKs ──SigV4──▶ sigv4 ─▶ operation ─┬─▶ functions, versions ─▶ Record ─▶ Deployer (an app a function), Store
//!                                                   └─▶ invoke ─▶ Plane, or Events for calls without an answer
//! ```
//!
//! A function is an app by itself, with a function for each of its versions, none of which has a replica until it is called; an
//! alias is a name that is looked up for each call. What is not supported is answered in AWS's shape too.

mod fault;
mod frames;
mod functions;
mod invoke;
mod keys;
mod names;
mod package;
mod record;
mod sigv4;
mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::fault::Fault;
pub use self::keys::{KeyInfo, Keys, KeysError};
pub use self::package::{PackageError, unzip};
pub(crate) use self::record::Record;
use crate::connections;
use crate::deploy::Deployer;
use crate::events::Events;
use crate::limits;
use crate::plane::Plane;
use crate::store::StoreError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// In what bodies are counted.
const PERMIT_BYTES: usize = 64 << 10;

/// Everything that the Lambda API needs.
pub struct Api {
    plane: Arc<dyn Plane>,
    deployer: Arc<Deployer>,
    events: Arc<Events>,
    keys: Keys,
    records: Mutex<BTreeMap<String, Record>>,
    /// Held for the whole of a change.
    change: tokio::sync::Mutex<()>,
    /// Counts calls, so that the weights of aliases are met.
    turns: AtomicU64,
    /// Room for bodies.
    room: Semaphore,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("lambda::Api").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Api {
    /// The API over what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        plane: Arc<dyn Plane>,
        deployer: Arc<Deployer>,
        events: Arc<Events>,
        keys: Keys,
    ) -> Result<Self, StoreError> {
        let stored = deployer.lambdas()?;
        let records = stored.into_iter().map(|record| (record.name.clone(), record)).collect();
        let room = Semaphore::new(limits::LAMBDA_ROOM_BYTES / PERMIT_BYTES);
        let (change, turns) = Default::default();
        Ok(Self { plane, deployer, events, keys, records: Mutex::new(records), change, turns, room })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, name: &str) -> Option<Record> {
        self.known().get(name).cloned()
    }

    fn records(&self) -> Vec<Record> {
        self.known().values().cloned().collect()
    }

    fn existing(&self, name: &str) -> Result<Record, Fault> {
        self.record(name).ok_or_else(|| Fault::not_found(format!("Function not found: {name}")))
    }

    fn next_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Has a function run as it is recorded, and keeps the record.
    async fn deploy(&self, record: &Record) -> Result<(), Fault> {
        let (submission, deployer) = (record.submission()?, Arc::clone(&self.deployer));
        // On a task of its own: a client that leaves must not stop a change half way.
        let work = tokio::spawn(async move { deployer.deploy(submission).await });
        work.await.map_err(|_| Fault::service("the change broke off; see the node's output"))??;
        self.keep(record).await
    }

    async fn keep(&self, record: &Record) -> Result<(), Fault> {
        self.deployer.keep_lambda(record.clone()).await?;
        self.known().insert(record.name.clone(), record.clone());
        Ok(())
    }

    async fn remove(&self, record: &Record) -> Result<(), Fault> {
        self.deployer.remove(&names::app_of(&record.name)).await?;
        self.deployer.forget_lambda(record.name.clone()).await?;
        self.known().remove(&record.name);
        Ok(())
    }

    /// The whole body, if there is room for it.
    async fn body(&self, head: &Parts, body: Body) -> Result<(Vec<u8>, SemaphorePermit<'_>), Fault> {
        let too_large = || {
            Fault::too_large(format!("Request must be smaller than {} bytes", limits::LAMBDA_BODY_BYTES_MAX))
        };
        let announced =
            head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let announced: usize = announced.unwrap_or(limits::LAMBDA_BODY_BYTES_MAX);
        if announced > limits::LAMBDA_BODY_BYTES_MAX {
            return Err(too_large());
        }
        let permits = u32::try_from(announced.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let permit = self.room.try_acquire_many(permits);
        let permit = permit.map_err(|_| Fault::too_many("too many requests with large bodies at once"))?;
        let mut body = http_body_util::Limited::new(body, limits::LAMBDA_BODY_BYTES_MAX);
        let mut collected = Vec::with_capacity(announced.min(PERMIT_BYTES));
        loop {
            match timeout(limits::BODY_PAUSE_MAX, body.frame()).await {
                Err(_) => return Err(Fault::content("the body stopped coming")),
                Ok(None) => return Ok((collected, permit)),
                Ok(Some(Err(error))) if error.is::<http_body_util::LengthLimitError>() => {
                    return Err(too_large());
                }
                Ok(Some(Err(error))) => return Err(Fault::content(format!("the body broke off: {error}"))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        collected.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }

    async fn answer(&self, request_id: &str, request: Request) -> Result<Reply, Fault> {
        let (head, body) = request.into_parts();
        let (body, _room) = self.body(&head, body).await?;
        let sender = sigv4::check(&head, &body, &self.keys, now_ms() / 1000)?;
        let query = Query::read(head.uri.query().unwrap_or_default())?;
        let region = sender.region.as_str();
        let path = head.uri.path();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let unknown = || Fault::unknown_operation(head.method.as_str(), path);
        let (name, rest) = match parts.as_slice() {
            ["2015-03-31", "functions"] => {
                return match head.method {
                    Method::POST => functions::create(self, region, &body).await,
                    Method::GET => functions::list(self, region, &query),
                    _ => Err(unknown()),
                };
            }
            ["2015-03-31", "functions", name, rest @ ..] => (*name, rest),
            ["2021-11-15", "functions", name, "response-streaming-invocations"] => {
                (*name, &["response-streaming-invocations"][..])
            }
            _ => return Err(unknown()),
        };
        let name = plain(name)?;
        let named = names::named(&name, query.get("Qualifier"))?;
        let call = invoke::Call { named: &named, region, headers: &head.headers, request_id };
        match (&head.method, rest) {
            (&Method::POST, ["invocations"]) => invoke::invoke(self, &call, body).await,
            (&Method::POST, ["response-streaming-invocations"]) => invoke::stream(self, &call, body).await,
            (&Method::GET, []) => functions::get(self, region, &named),
            (&Method::DELETE, []) => functions::delete(self, region, &named).await,
            (&Method::GET, ["configuration"]) => functions::get_configuration(self, region, &named),
            (&Method::PUT, ["configuration"]) => functions::configure(self, region, &named, &body).await,
            (&Method::PUT, ["code"]) => functions::update_code(self, region, &named, &body).await,
            (&Method::POST, ["versions"]) => versions::publish(self, region, &named, &body).await,
            (&Method::GET, ["versions"]) => versions::list(self, region, &named, &query),
            (&Method::POST, ["aliases"]) => versions::create_alias(self, region, &named, &body).await,
            (&Method::GET, ["aliases"]) => versions::list_aliases(self, region, &named, &query),
            (method, ["aliases", alias]) => {
                let alias = plain(alias)?;
                match *method {
                    Method::GET => versions::get_alias(self, region, (&named, &alias)),
                    Method::PUT => versions::update_alias(self, region, (&named, &alias), &body).await,
                    Method::DELETE => versions::delete_alias(self, (&named, &alias)).await,
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }
}

/// A part of a path, as it is meant.
fn plain(part: &str) -> Result<String, Fault> {
    let bytes = sigv4::percent_decoded(part).and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.ok_or_else(|| Fault::invalid("the path is badly encoded"))
}

/// The query of a request.
#[derive(Debug, Default)]
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: &str) -> Result<Self, Fault> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((plain(name)?, plain(value)?))
        };
        Ok(Self(pairs.map(read).collect::<Result<_, Fault>>()?))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
struct Reply(Response<Body>);

impl Reply {
    fn json(status: StatusCode, body: Value) -> Self {
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self(response)
    }

    fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Self(response)
    }

    /// The same with one more header, where the value can be one.
    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    let request_id = revision_id();
    let answer = api.answer(&request_id, request).await.unwrap_or_else(|fault| Reply(fault.response()));
    answer.with(REQUEST_ID, &request_id).0
}

/// Answers requests until the future is dropped.
pub async fn serve(listener: TcpListener, api: Arc<Api>) {
    let router = Router::new().fallback(handle).with_state(api);
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        // An answer that waits for the last one's acknowledgement would wait long.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    };
    connections::serve("Lambda API", limits::LAMBDA_CONNECTIONS_MAX, accept, router).await;
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// An id of the form of a UUID, another one each time.
fn revision_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 16];
    // A system without randomness still counts.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    for (byte, counted) in random.iter_mut().skip(8).zip(count.to_be_bytes()) {
        *byte ^= counted;
    }
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let text = sigv4::hex(&random);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}
