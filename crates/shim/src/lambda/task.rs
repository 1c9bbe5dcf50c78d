//! One request, from the node to the program and back.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use baton::{Buffer, Context, Error, Request, Response, Sender};

use super::LambdaConfig;
use super::desk::{Desk, Job, Slot};
use super::gateway::{self, Answer, Asked};
use super::outcome::{Delivery, Failure};
use super::output::log;

/// Largest request and answer where the limits of AWS hold.
const AWS_BYTES_MAX: usize = 6_291_556;
/// Time that is kept back from the node's, so that this process can still say what happened.
const MARGIN: Duration = Duration::from_millis(100);
/// Where the node gives no time.
const TIMEOUT_USUAL: Duration = Duration::from_secs(900);
/// Random numbers that are asked for at once.
const RANDOM_AHEAD: usize = 64;
const FUNCTION_ERROR: &str = "x-amz-function-error";
/// Largest body that is put together of parts.
const GATHERED_BYTES_MAX: usize = 256 << 20;
/// By which the Lambda API says that its client takes an answer in parts.
const IN_PARTS: &str = "x-baton-lambda-in-parts";
const TRACE: &str = "Lambda-Runtime-Trace-Id";
const UNHANDLED: &str = "Unhandled";
const HTTP_STREAM: &str = "application/vnd.awslambda.http-integration-response";
/// Between the head and the body of an answer that comes in parts.
const PRELUDE_END: [u8; 8] = [0; 8];
const PRELUDE_BYTES_MAX: usize = 64 << 10;
/// Headers of a call without a path that are the runtime's: what the Lambda API says of it.
const PASSED: [(&str, &str); 4] = [
    ("lambda-runtime-invoked-function-arn", "Lambda-Runtime-Invoked-Function-Arn"),
    ("lambda-runtime-client-context", "Lambda-Runtime-Client-Context"),
    ("lambda-runtime-cognito-identity", "Lambda-Runtime-Cognito-Identity"),
    ("x-amzn-trace-id", "Lambda-Runtime-Trace-Id"),
];

pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Leaves when it is dropped: a caller that does not wait any more.
struct Waiting(Arc<Slot>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Waiting {
    async fn next(&self) -> Delivery {
        poll_fn(|context| self.0.poll(context)).await
    }
}

/// Serves one request.
pub(super) async fn serve(
    config: &LambdaConfig,
    desk: &Desk,
    context: &Context,
    request: Request,
) -> Result<Response, Error> {
    // A request of HTTP has a path. One without is the payload itself: from another function, an event, the Lambda API.
    let is_http = !request.path().is_empty();
    let body = gathered(context, &request).await?;
    if config.aws_limits && body.len() > AWS_BYTES_MAX {
        return too_large(is_http, body.len());
    }
    let started = Instant::now();
    let job = job(config, context, &request, (is_http, body));
    let id = Arc::clone(&job.id);
    let wants_log = !is_http && request.header("x-amz-log-type") == Some("Tail");
    let invocation = job.invocation;
    if wants_log {
        log(invocation, &format!("START RequestId: {id} Version: {}", version()));
    }
    let waiting = Waiting(Arc::clone(&job.slot));
    desk.put(job);
    let first = waiting.next().await;
    let report = || {
        if wants_log {
            let took = started.elapsed().as_secs_f64() * 1000.0;
            // The function's own lines come first.
            let output = desk.lock().output.clone();
            output.iter().for_each(|output| output.settle());
            log(invocation, &format!("END RequestId: {id}"));
            log(
                invocation,
                &format!(
                    "REPORT RequestId: {id}\tDuration: {took:.2} ms\tBilled Duration: {:.0} ms\tMemory Size: {} MB",
                    took.ceil(),
                    config.memory_mib
                ),
            );
        }
    };
    if !matches!(first, Delivery::Begin(_)) {
        report();
    }
    match first {
        Delivery::Whole(body, _) if config.aws_limits && body.len() > AWS_BYTES_MAX => {
            failed(is_http, Failure::oversized(body.len()))
        }
        Delivery::Whole(body, content_type) if !is_http => whole(context, &body, content_type.as_deref()),
        Delivery::Whole(body, _) => match gateway::answer(body) {
            Ok(answer) => answered(context, &answer),
            Err(why) => {
                log(invocation, &format!("the function's answer cannot be one of HTTP: {why}"));
                Ok(internal(502))
            }
        },
        Delivery::Begin(content_type) => {
            // Who does not ask for parts gets the answer whole.
            let is_live = config.stream && (is_http || request.header(IN_PARTS).is_some());
            let stream = Stream { context, request: &request, is_http, is_live, invocation };
            let answer = stream.run(&waiting, content_type).await;
            report();
            answer
        }
        Delivery::Failed(failure) => failed(is_http, failure),
        Delivery::Part(_) | Delivery::End => Ok(internal(502)),
    }
}

fn version() -> String {
    std::env::var("AWS_LAMBDA_FUNCTION_VERSION").unwrap_or_else(|_| "$LATEST".to_owned())
}

/// The whole body of a request that may come in parts.
async fn gathered(context: &Context, request: &Request) -> Result<Arc<[u8]>, Error> {
    let Some(mut parts) = context.parts_beside(request) else { return Ok(Arc::from(request.body())) };
    Ok(Arc::from(parts.gather(GATHERED_BYTES_MAX).await?))
}

/// The event of a request.
fn job(
    config: &LambdaConfig,
    context: &Context,
    request: &Request,
    (is_http, body): (bool, Arc<[u8]>),
) -> Job {
    let given = |name: &str| request.header(name).filter(|_| !is_http);
    let id: Arc<str> = match given("lambda-runtime-aws-request-id") {
        Some(id) if !id.contains(char::is_control) => Arc::from(id),
        _ => Arc::from(id_of(context.invocation())),
    };
    let mut headers: Vec<(&'static str, String)> = Vec::new();
    for (name, shown) in PASSED {
        // A trace comes from any client; all else from who may call without a path.
        let value = if name.starts_with("x-amzn") { request.header(name) } else { given(name) };
        headers.extend(value.map(|value| (shown, value.to_owned())));
    }
    if !headers.iter().any(|(name, _)| *name == PASSED[0].1) {
        headers.push((PASSED[0].1, usual_arn(config).to_owned()));
    }
    if !headers.iter().any(|(name, _)| *name == TRACE) {
        headers.extend(context.traceparent().and_then(trace).map(|trace| (TRACE, trace)));
    }
    let own =
        given("x-baton-lambda-timeout-ms").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let left = context
        .remaining()
        .map_or(TIMEOUT_USUAL, |left| if left > MARGIN * 3 { left - MARGIN } else { left });
    let timeout = own.map_or(left, |own| own.min(left));
    let body = if is_http { event_of(request, &id, &body) } else { body };
    Job {
        head: Arc::from(head_of(&id, &headers, body.len())),
        id,
        body,
        timeout,
        invocation: context.invocation(),
        slot: Arc::default(),
    }
}

/// The head of an event's response, up to the deadline, which is known when the program takes it.
fn head_of(id: &str, headers: &[(&'static str, String)], body_bytes: usize) -> String {
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {id}\r\n\
         Content-Length: {body_bytes}\r\n"
    );
    for (name, value) in headers {
        head.push_str(name);
        head.push_str(": ");
        // Nothing of a value may end its line.
        head.extend(value.split(|letter: char| letter.is_control()));
        head.push_str("\r\n");
    }
    head
}

/// The function's name as AWS would have it, where the caller says none.
fn usual_arn(config: &LambdaConfig) -> &'static str {
    static ARN: OnceLock<String> = OnceLock::new();
    ARN.get_or_init(|| {
        let name = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| config.function.clone());
        format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
    })
}

/// Random numbers, of which the kernel gives many at a time.
fn random() -> u64 {
    static AHEAD: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let mut ahead = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
    if ahead.is_empty() {
        let mut bytes = [[0; 8]; RANDOM_AHEAD];
        baton::random(bytes.as_flattened_mut());
        ahead.extend(bytes.map(u64::from_ne_bytes));
    }
    ahead.pop().unwrap_or_default()
}

/// The form of a UUID.
fn id_of(invocation: u64) -> String {
    let seed = random();
    let (low, high) = (seed & 0xffff, seed >> 32);
    let group = |shift: u32, mask: u64| (invocation >> shift) & mask;
    format!(
        "{high:08x}-{:04x}-4{:03x}-8{:03x}-{low:04x}{:08x}",
        seed >> 16 & 0xffff,
        seed >> 4 & 0xfff,
        group(48, 0xfff),
        group(0, 0xffff_ffff),
    )
}

/// `traceparent` as X-Ray writes it.
fn trace(traceparent: &str) -> Option<String> {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [_, trace, span, flags] = parts.as_slice() else { return None };
    let (time, rest) = (trace.get(..8)?, trace.get(8..)?);
    Some(format!("Root=1-{time}-{rest};Parent={span};Sampled={}", u8::from(flags.ends_with('1'))))
}

fn event_of(request: &Request, id: &str, body: &[u8]) -> Arc<[u8]> {
    let headers =
        request.headers().filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let event = gateway::event(&Asked {
        method: request.method(),
        path: request.path(),
        query: request.query().unwrap_or_default(),
        params: request.params().collect(),
        headers: headers.collect(),
        body,
        id,
        at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    });
    Arc::from(event)
}

// ---- answers --------------------------------------------------------------------------------------------------

fn copied(context: &Context, body: &[u8]) -> Result<Buffer, Error> {
    let mut buffer = context.alloc(body.len())?;
    buffer.extend_from_slice(body)?;
    Ok(buffer)
}

fn whole(context: &Context, body: &[u8], content_type: Option<&str>) -> Result<Response, Error> {
    let response = Response::ok(copied(context, body)?);
    Ok(response.header("content-type", content_type.unwrap_or("application/json")))
}

fn answered(context: &Context, answer: &Answer) -> Result<Response, Error> {
    Ok(headed(answer).body(copied(context, &answer.body)?))
}

fn headed(answer: &Answer) -> Response {
    let response = Response::ok(()).status(answer.status);
    answer.headers.iter().fold(response, |response, (name, value)| response.header(name, value))
}

fn internal(status: u16) -> Response {
    let body = "{\"message\":\"Internal Server Error\"}".to_owned();
    Response::ok(body).status(status).header("content-type", "application/json")
}

/// A failure of the function. Over HTTP it is nobody's business what went wrong; it is in the log.
fn failed(is_http: bool, failure: Failure) -> Result<Response, Error> {
    let status = if failure.is_late { 504 } else { 500 };
    if is_http {
        log(0, &format!("the function failed: {}", String::from_utf8_lossy(&failure.body)));
        return Ok(internal(status));
    }
    Ok(Response::ok(failure.body)
        .status(status)
        .header("content-type", "application/json")
        .header(FUNCTION_ERROR, UNHANDLED))
}

fn too_large(is_http: bool, bytes: usize) -> Result<Response, Error> {
    let message = format!(
        "{bytes} byte payload is too large for the RequestResponse invocation type (limit {AWS_BYTES_MAX} bytes)"
    );
    let kind = if is_http { "message" } else { "errorMessage" };
    let body = serde_json::json!({ kind: message, "errorType": "RequestTooLargeException" }).to_string();
    Ok(Response::ok(body).status(413).header("content-type", "application/json"))
}

/// An answer that comes in parts.
struct Stream<'a> {
    context: &'a Context,
    request: &'a Request,
    is_http: bool,
    /// Whether parts may go on as they come; else they are gathered.
    is_live: bool,
    invocation: u64,
}

impl Stream<'_> {
    async fn run(&self, waiting: &Waiting, content_type: Option<String>) -> Result<Response, Error> {
        let has_prelude = self.is_http && content_type.as_deref() == Some(HTTP_STREAM);
        let (answer, first) = if has_prelude {
            match self.prelude(waiting).await? {
                Ok(begun) => begun,
                Err(failure) => return failed(true, failure),
            }
        } else {
            let content_type = content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            let headers = vec![("content-type".to_owned(), content_type)];
            (Answer { status: 200, headers, body: Vec::new() }, Vec::new())
        };
        if !self.is_live {
            return self.gather(waiting, answer, first).await;
        }
        let mut sender = self.context.stream(self.request, headed(&answer)).await?;
        self.part(&mut sender, &first).await?;
        loop {
            match waiting.next().await {
                Delivery::Part(part) => self.part(&mut sender, &part).await?,
                Delivery::End => return sender.end(),
                Delivery::Failed(failure) => {
                    log(
                        self.invocation,
                        &format!("the function failed: {}", String::from_utf8_lossy(&failure.body)),
                    );
                    // What went out is not all: the answer is broken off.
                    return Err(Error::new(500, "the function failed in the middle of its answer"));
                }
                Delivery::Whole(..) | Delivery::Begin(_) => {}
            }
        }
    }

    async fn part(&self, sender: &mut Sender, part: &[u8]) -> Result<(), Error> {
        if part.is_empty() { Ok(()) } else { sender.send(copied(self.context, part)?).await }
    }

    async fn gather(&self, waiting: &Waiting, answer: Answer, first: Vec<u8>) -> Result<Response, Error> {
        let mut body = first;
        loop {
            match waiting.next().await {
                Delivery::Part(part) if body.len() + part.len() > GATHERED_BYTES_MAX => {
                    return failed(self.is_http, Failure::oversized(body.len() + part.len()));
                }
                Delivery::Part(part) => body.extend_from_slice(&part),
                Delivery::End => return answered(self.context, &Answer { body, ..answer }),
                Delivery::Failed(failure) => return failed(self.is_http, failure),
                Delivery::Whole(..) | Delivery::Begin(_) => {}
            }
        }
    }

    /// The head of the answer, and what came behind it.
    async fn prelude(&self, waiting: &Waiting) -> Result<Result<(Answer, Vec<u8>), Failure>, Error> {
        let mut bytes = Vec::new();
        loop {
            if let Some(at) = bytes.windows(PRELUDE_END.len()).position(|window| window == PRELUDE_END) {
                let behind = bytes.split_off(at + PRELUDE_END.len());
                bytes.truncate(at);
                let begun = gateway::prelude(&bytes).map(|answer| (answer, behind));
                return Ok(begun.map_err(|why| Failure::new("Runtime.InvalidResponse", &why)));
            }
            match waiting.next().await {
                Delivery::Part(part) if bytes.len() + part.len() <= PRELUDE_BYTES_MAX => bytes.extend(part),
                Delivery::Failed(failure) => return Ok(Err(failure)),
                _ => {
                    let why = "the answer has no prelude that ends with eight NULs within 64 KiB";
                    return Ok(Err(Failure::new("Runtime.InvalidResponse", why)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_written_as_x_ray_does() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let expected = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
        assert_eq!(trace(given).as_deref(), Some(expected));
        assert_eq!(trace("nonsense"), None);
    }

    #[test]
    fn an_id_has_the_form_of_a_uuid() {
        let id = id_of(0x0123_4567_89ab_cdef);
        let lens: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lens, [8, 4, 4, 4, 12], "{id}");
    }

    #[test]
    fn a_value_ends_no_line_of_an_events_head() {
        let head = head_of("1", &[(TRACE, "Root=1\r\nInjected: \u{7f}x".to_owned())], 7);
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[3..], ["Content-Length: 7", "Lambda-Runtime-Trace-Id: Root=1Injected: x", ""]);
    }
}
