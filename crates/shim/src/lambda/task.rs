//! One request, from the node to the program and back.

use std::future::poll_fn;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use baton::{Buffer, Context, Error, Request, Response, Sender};

use super::LambdaConfig;
use super::desk::{Desk, Job, Slot};
use super::gateway::{self, Answer, Asked};
use super::keeper::log;
use super::outcome::{Delivery, Failure};

/// Largest request and answer where the limits of AWS hold.
const AWS_BYTES_MAX: usize = 6_291_556;
/// Time that is kept back from the node's, so that this process can still say what happened.
const MARGIN: Duration = Duration::from_millis(100);
/// Where the node gives no time.
const TIMEOUT_USUAL: Duration = Duration::from_secs(900);
const FUNCTION_ERROR: &str = "x-amz-function-error";
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
    let request = gathered(context, request).await?;
    let (request, body) = request;
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
    if wants_log {
        let took = started.elapsed().as_secs_f64() * 1000.0;
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
            let stream = Stream { context, request: &request, is_http, is_live: config.stream };
            stream.run(&waiting, content_type).await
        }
        Delivery::Failed(failure) => failed(is_http, failure),
        Delivery::Part(_) | Delivery::End => Ok(internal(502)),
    }
}

fn version() -> String {
    std::env::var("AWS_LAMBDA_FUNCTION_VERSION").unwrap_or_else(|_| "$LATEST".to_owned())
}

/// The whole body of a request, that may come in parts.
async fn gathered(context: &Context, request: Request) -> Result<(Head, Arc<[u8]>), Error> {
    let head = Head::of(&request);
    if !request.comes_in_parts() {
        let body = Arc::from(request.body());
        return Ok((head, body));
    }
    let mut body = Vec::new();
    let mut parts = context.parts(request);
    while let Some(part) = parts.next().await? {
        body.extend_from_slice(&part);
    }
    Ok((head, Arc::from(body)))
}
