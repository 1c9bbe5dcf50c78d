//! Traces and logs on their way to a collector: OTLP over HTTP, in protobuf.
//!
//! ```text
//!   data plane: spans and lines in bounded buffers ──a batch a second──▶ control thread: encode, POST, wait
//!                                    ▲                                        │ refused for now: the same batch again,
//!                                    └─ what became of it ────────────────────┘ later and later
//! ```
//! While the collector takes nothing, nothing more is taken from the data plane, whose buffers fill and drop, and count what
//! they drop. A request never waits for any of this.

mod encode;
mod proto;
mod settings;

use std::time::Duration;

use baton_flow::PlaneHandle;
use baton_flow::Span;
use baton_flow::status::{LogLine, TracesStatus};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

pub(crate) use self::settings::{OtlpSettings, sample, traces_ppm};

/// Spans, and lines, of one batch.
const BATCH_MAX: usize = 2048;
/// Waits between two tries of a batch: doubled each time, up to the second.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Tries of one batch; then it is dropped.
const TRIES_MAX: u32 = 8;
/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;
/// Between two batches once the node is ending.
const LAST_INTERVAL: Duration = Duration::from_millis(50);

/// Why a batch was not taken.
#[derive(Debug)]
enum Refused {
    /// Perhaps later.
    Now(String),
    /// Never.
    Forever(String),
}

/// Sends what there is to the collector, until the data plane ends. `ending`: the node ends soon, nothing waits any more.
pub(crate) async fn export(plane: PlaneHandle, settings: OtlpSettings, mut ending: oneshot::Receiver<()>) {
    let mut last_line = 0;
    let mut outcome = TracesStatus::default();
    let (mut is_ending, mut was_heard) = (false, true);
    loop {
        if is_ending {
            sleep(LAST_INTERVAL).await;
        } else {
            tokio::select! {
                () = sleep(settings.interval) => {}
                _ = &mut ending => is_ending = true,
            }
        }
        let said = outcome;
        let taken = plane.run(move |flow| async move {
            flow.note_exported(&said);
            (flow.take_spans(BATCH_MAX, is_ending), flow.logs_batch(last_line, BATCH_MAX))
        });
        let Ok((spans, lines)) = taken.await else { return };
        outcome = TracesStatus::default();
        let newest = lines.last().map_or(last_line, |line: &LogLine| line.number);
        outcome.lines_dropped = (newest - last_line).saturating_sub(lines.len() as u64);
        last_line = newest;
        for batch in [Batch::Spans(spans), Batch::Lines(lines)].into_iter().filter(|batch| batch.len() > 0) {
            let sent = send((&settings, &plane), &batch, (&mut is_ending, &mut ending)).await;
            match (&sent, was_heard) {
                (Err(why), true) => {
                    tracing::warn!(why, "the collector of traces and logs does not take them");
                }
                (Ok(_), false) => tracing::info!("the collector of traces and logs takes them again"),
                _ => {}
            }
            was_heard = sent.is_ok();
            batch.note(sent.unwrap_or(batch.len()), &mut outcome);
        }
    }
}

/// What goes in one request.
enum Batch {
    Spans(Vec<Span>),
    Lines(Vec<LogLine>),
}

impl Batch {
    fn len(&self) -> u64 {
        match self {
            Batch::Spans(spans) => spans.len() as u64,
            Batch::Lines(lines) => lines.len() as u64,
        }
    }

    /// So many of it were refused, the others taken.
    fn note(&self, refused: u64, outcome: &mut TracesStatus) {
        let taken = self.len().saturating_sub(refused);
        match self {
            Batch::Spans(_) => {
                outcome.exported += taken;
                outcome.dropped += refused;
            }
            Batch::Lines(_) => {
                outcome.lines_exported += taken;
                outcome.lines_dropped += refused;
            }
        }
    }
}

/// Sends a batch, again and again if need be. Gives how many of it the collector would not have, or why all of it is lost.
async fn send(
    (settings, plane): (&OtlpSettings, &PlaneHandle),
    batch: &Batch,
    (is_ending, ending): (&mut bool, &mut oneshot::Receiver<()>),
) -> Result<u64, String> {
    let (to, body) = match batch {
        Batch::Spans(spans) => (&settings.traces, encode::traces(spans, &settings.resource)),
        Batch::Lines(lines) => (&settings.logs, encode::logs(lines, &settings.resource)),
    };
    let body = Bytes::from(body);
    let mut wait = RETRY_MIN;
    for attempt in 1.. {
        let sent = timeout(settings.timeout, post(settings, to, body.clone())).await;
        let refused = match sent {
            Ok(Ok(refused)) => return Ok(refused),
            Ok(Err(refused)) => refused,
            Err(_) => Refused::Now(format!("{to} did not answer within {:?}", settings.timeout)),
        };
        // At once: the batch may be tried for minutes.
        let failed = TracesStatus { failures: 1, ..TracesStatus::default() };
        let _ = plane.run(move |flow| async move { flow.note_exported(&failed) }).await;
        match refused {
            Refused::Now(_) if attempt < TRIES_MAX && !*is_ending => {
                tokio::select! {
                    () = sleep(wait) => {}
                    _ = &mut *ending => *is_ending = true,
                }
                wait = (wait * 2).min(RETRY_MAX);
            }
            Refused::Now(why) | Refused::Forever(why) => return Err(why),
        }
    }
    Ok(0)
}

/// One request. Gives how many of what it carried the collector says that it threw away.
async fn post(settings: &OtlpSettings, to: &Uri, body: Bytes) -> Result<u64, Refused> {
    let now = |error: &dyn std::fmt::Display| Refused::Now(format!("{to}: {error}"));
    let authority = to.authority().map(ToString::to_string).unwrap_or_default();
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream =
        TcpStream::connect((host, to.port_u16().unwrap_or(80))).await.map_err(|error| now(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| now(&error))?;
    let connection = Connection(tokio::spawn(async move {
        // What goes wrong, the request says.
        let _ = connection.await;
    }));
    let path = to.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(Method::POST).uri(path).header(HOST, authority);
    request = request.header(CONTENT_TYPE, "application/x-protobuf");
    request = request.header(USER_AGENT, concat!("baton/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &settings.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body)).map_err(|error| Refused::Forever(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| now(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|error| now(&error))?;
    drop(connection);
    if status.is_success() {
        let said = proto::Response::decode(body.to_bytes()).ok().and_then(|said| said.partial_success);
        return Ok(said.map_or(0, |said| u64::try_from(said.rejected).unwrap_or(0)));
    }
    // Those that the standard says to try again.
    let again = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let why = format!("{to} answered {status}");
    Err(if again.contains(&status) { Refused::Now(why) } else { Refused::Forever(why) })
}

/// The task of a connection, which ends with whoever waits for its answer.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}
