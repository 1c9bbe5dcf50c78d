//! Chains over requests: order, what is let through, what ends, and that nothing leaks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use baton_abi::head::{Field, record_bytes, write_record};
use baton_catalog::policy::AppPolicies;

use super::*;
use crate::report::HandlerReport;
use crate::set::{Before, Set};
use crate::span::{SpanEnd, Trace};
use crate::ticket::Line;
use crate::{Client, Outcome};

/// A node of the tests: its clock is set by hand, and its lines are kept.
#[derive(Default)]
struct Stage {
    now: Cell<u64>,
    lines: RefCell<Vec<String>>,
    ids: Cell<u64>,
    spans: RefCell<Vec<(SpanKey, u16)>>,
}

/// The handler's span, that above it, and the invocation.
type SpanKey = (u64, u64, u64);

impl Stage {
    fn now(&self) -> Now {
        Now { ns: self.now.get(), unix_s: 1_700_000_000 }
    }
}

impl Around for Stage {
    fn ns(&self) -> u64 {
        self.now.get()
    }

    fn line(&self, line: &Line<'_>) {
        let Line { method, path, status, duration_ns, key, .. } = line;
        self.lines.borrow_mut().push(format!("{method} {path} {status} {duration_ns} {key:?}"));
    }

    fn id(&self) -> u64 {
        self.ids.set(self.ids.get() + 1);
        self.ids.get()
    }

    fn span(&self, span: &SpanEnd<'_>) {
        self.spans.borrow_mut().push(((span.span, span.trace.span, span.invocation), span.status));
    }
}

fn policies(handlers: &str) -> AppPolicies {
    serde_json::from_str(&format!(r#"{{"functions":{{"f":{{"handlers":[{handlers}]}}}}}}"#)).unwrap()
}

fn compile(handlers: &str, before: Option<&Set>) -> (Set, Rc<Stage>) {
    let stage = Rc::new(Stage { now: Cell::new(5_000_000_000), ..Stage::default() });
    let around = Rc::clone(&stage) as Rc<dyn Around>;
    (
        Set::compile(
            &policies(handlers),
            ["f"].into_iter(),
            before.map(|set| Before { set, is_own: true }),
            &around,
        )
        .unwrap(),
        stage,
    )
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = Vec::new();
    let mut add = |field, name: &str, value: &str| {
        let at = head.len();
        head.resize(at + record_bytes(name, value.as_bytes()), 0);
        write_record(&mut head, at, field, name, value.as_bytes()).unwrap();
    };
    add(Field::Method, "", method);
    add(Field::Path, "", path);
    headers.iter().for_each(|(name, value)| add(Field::Header, name, value));
    head
}

const OK: Outcome = Outcome { status: 200, has_failed: Some(false), bytes_out: 3 };

/// The status of a refusal, or 0; the request is ended as it would be.
fn ask(set: &Set, stage: &Stage, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let head = head(method, path, headers);
    let mut request = Request::of(&head, Client { address: Some([10, 0, 0, 1].into()), ..Client::default() });
    let chain = set.chain("f").unwrap();
    let (ticket, verdict) = chain.admit(&mut request, stage.now());
    match verdict {
        Ok(()) => {
            ticket.end(OK);
            0
        }
        Err(refusal) => {
            ticket.end(Outcome { status: refusal.status, has_failed: None, ..OK });
            refusal.status
        }
    }
}

fn report(set: &Set) -> Vec<HandlerReport> {
    set.report().remove("f").unwrap()
}

#[test]
fn handlers_run_in_their_order_and_hear_of_the_end_if_they_were_passed() {
    let limited =
        r#"{"use":"log","key":"header:x-tenant"},{"use":"rate-limit","rate":"1/s"},{"use":"metrics"}"#;
    let (set, stage) = compile(limited, None);
    assert_eq!(ask(&set, &stage, "GET", "/a", &[("x-tenant", "t")]), 0);
    assert_eq!(ask(&set, &stage, "GET", "/a", &[]), 429);
    assert_eq!(*stage.lines.borrow(), ["GET /a 200 0 Some(\"t\")", "GET /a 429 0 None"]);
    let metrics = report(&set).pop().unwrap().outcomes.unwrap();
    assert_eq!((metrics.succeeded, metrics.client_errors), (1, 0), "it stands behind the limit");
    let (set, stage) = compile(r#"{"use":"rate-limit","rate":"1/s"},{"use":"log"}"#, None);
    assert_eq!((ask(&set, &stage, "GET", "/a", &[]), ask(&set, &stage, "GET", "/a", &[])), (0, 429));
    assert_eq!(stage.lines.borrow().len(), 1);
}

#[test]
fn a_change_of_one_handler_leaves_what_others_know() {
    let (before, _) = compile(r#"{"use":"rate-limit","rate":"1/h"}"#, None);
    let stage = Stage { now: Cell::new(5_000_000_000), ..Stage::default() };
    assert_eq!(ask(&before, &stage, "GET", "/", &[]), 0);
    let (after, stage) = compile(r#"{"use":"metrics"},{"use":"rate-limit","rate":"1/h"}"#, Some(&before));
    assert_eq!(ask(&after, &stage, "GET", "/", &[]), 429);
    let (other, stage) = compile(r#"{"use":"rate-limit","rate":"2/h"}"#, Some(&before));
    assert_eq!(ask(&other, &stage, "GET", "/", &[]), 0);
}

#[test]
fn a_handler_that_panics_refuses_and_is_counted_and_the_next_request_passes() {
    let (set, stage) = compile(r#"{"use":"log"},{"use":"metrics"}"#, None);
    let chain = set.chain("f").unwrap();
    let mut slot =
        Slot::new(&policies(r#"{"use":"metrics"}"#).functions["f"].handlers[0], || unreachable!()).unwrap();
    let guarded = Rc::new(Cell::new(false));
    slot.step = Step::Panic(Rc::clone(&guarded));
    let mut slots = chain.slots.clone();
    slots.push(Rc::new(slot));
    let broken = Rc::new(Chain::new("f", slots, &chain.around));
    let head = head("GET", "/", &[]);
    for _ in 0..2 {
        let (ticket, verdict) = broken.admit(&mut Request::of(&head, Client::default()), stage.now());
        assert_eq!(verdict.unwrap_err().status, 500);
        ticket.end(Outcome { status: 500, has_failed: None, ..OK });
    }
    let panicked: Vec<_> = broken.slots.iter().map(|slot| slot.report(false).failed).collect();
    assert_eq!(panicked, [0, 0, 2]);
    assert!(guarded.get() && !is_guarded());
    assert_eq!(ask(&set, &stage, "GET", "/", &[]), 0);
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let (set, stage) = compile(r#"{"use":"concurrency","max":1},{"use":"log"}"#, None);
    let chain = set.chain("f").unwrap();
    let head = head("GET", "/", &[]);
    let (held, verdict) = chain.admit(&mut Request::of(&head, Client::default()), stage.now());
    verdict.unwrap();
    assert_eq!(ask(&set, &stage, "GET", "/", &[]), 429);
    drop(held);
    assert_eq!(ask(&set, &stage, "GET", "/", &[]), 0);
    assert_eq!(stage.lines.borrow().first().map(String::as_str), Some("GET / 499 0 None"));
}

#[test]
fn a_guard_of_get_sees_head_and_no_writing_of_a_path_goes_round_it() {
    let guard = r#"{"use":"authorize","only":{"paths":["/admin/{*rest}"],"methods":["GET"]},"scopes":["a"]}"#;
    let (set, stage) = compile(guard, None);
    for (method, path, expect) in [
        ("GET", "/admin/x", 403),
        ("HEAD", "/admin/x/y", 403),
        ("POST", "/admin/x", 0),
        ("GET", "/admin", 0),
        ("GET", "/administrator", 0),
        ("GET", "/other/admin/x", 0),
    ] {
        assert_eq!(ask(&set, &stage, method, path, &[]), expect, "{method} {path}");
    }
}

#[test]
fn headers_are_set_over_what_the_client_sends() {
    let rewrite = r#"{"use":"forwarded"},{"use":"headers","request":{"remove":["x-debug"],"set":{"X-From":"at {address}"}},
        "response":{"remove":["server"],"set":{"x-frame-options":"DENY"}}},{"use":"span"}"#;
    let (set, stage) = compile(rewrite, None);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = [
        ("host", "shop.example"),
        ("x-from", "elsewhere"),
        ("x-from", "twice"),
        ("x-debug", "1"),
        ("x-forwarded-for", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("traceparent", traceparent),
    ];
    let head_bytes = head("GET", "/", &sent);
    let trace = Trace { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 7, parent: 6 };
    let client = Client { address: Some([10, 0, 0, 1].into()), trace: Some(trace), ..Client::default() };
    let chain = set.chain("f").unwrap();
    let mut request = Request::of(&head_bytes, client);
    let (mut ticket, verdict) = chain.admit(&mut request, stage.now());
    verdict.unwrap();
    let changed = request.changed().unwrap().unwrap().concat();
    let seen = Request::of(&changed, Client::default());
    let one =
        |name: &str| seen.only_header(name).unwrap().map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(one("x-from").as_deref(), Some("at 10.0.0.1"));
    assert_eq!(one("x-debug"), None);
    assert_eq!(one("x-forwarded-for").as_deref(), Some("10.0.0.1"));
    assert_eq!(one("forwarded").as_deref(), Some("for=10.0.0.1;proto=http;host=\"shop.example\""));
    assert_eq!(
        one("traceparent").as_deref(),
        Some("00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01")
    );
    let mut answer = head("", "", &[("Server", "x"), ("content-type", "text/plain")]);
    ticket.change(&mut answer);
    let answer = Request::of(&answer, Client::default());
    assert_eq!(answer.header("Server"), None);
    assert_eq!(answer.header("x-frame-options"), Some(&b"DENY"[..]));
    assert_eq!(answer.header("content-type"), Some(&b"text/plain"[..]));
    ticket.invocation = 5;
    ticket.end(OK);
    assert_eq!(*stage.spans.borrow(), [((1, 7, 5), 200)]);
}

#[test]
fn functions_that_call_are_judged_by_name_and_need_no_token() {
    let edge = r#"{"use":"api-key","keys":[{"name":"ci","hash":"HASH"}]},{"use":"authorize","only":{"paths":["/3"]},"callers":["front"]},
        {"use":"rate-limit","only":{"callers":["front"]},"rate":"1/h"}"#;
    let hash = blake3::hash(b"secret").to_hex().to_string();
    let (set, stage) = compile(&edge.replace("HASH", &hash), None);
    let call = |caller: &str, path: &str| {
        let head = head("", path, &[]);
        let client = Client { caller: Some(caller), ..Client::default() };
        let chain = set.chain("f").unwrap();
        let mut request = Request::of(&head, client);
        let (ticket, verdict) = chain.admit(&mut request, stage.now());
        ticket.end(OK);
        verdict.map_or_else(|refusal| refusal.status, |()| 0)
    };
    assert_eq!(call("back", "/3"), 403);
    assert_eq!(call("back", "/4"), 0);
    assert_eq!((call("front", "/3"), call("front", "/3")), (0, 429));
    assert_eq!(ask(&set, &stage, "GET", "/4", &[]), 401);
    assert_eq!(ask(&set, &stage, "GET", "/4", &[("x-api-key", "wrong")]), 401);
    assert_eq!(ask(&set, &stage, "GET", "/4", &[("x-api-key", "secret")]), 0);
    assert_eq!(ask(&set, &stage, "GET", "/4", &[("x-api-key", "secret"), ("x-api-key", "wrong")]), 401);
    assert_eq!(ask(&set, &stage, "GET", "/3", &[("x-api-key", "secret")]), 403, "only functions may");
}

#[test]
fn schemas_say_where_and_take_no_reference_out() {
    let schema = r#"{"use":"schema","size":"64B","schema":"{\"type\":\"object\",\"properties\":{\"n\":{\"minimum\":1}},\"required\":[\"n\"]}"}"#;
    let (set, stage) = compile(schema, None);
    let head = head("POST", "/", &[]);
    let mut request = Request::of(&head, Client::default());
    let chain = set.chain("f").unwrap();
    let (mut ticket, verdict) = chain.admit(&mut request, stage.now());
    verdict.unwrap();
    assert_eq!(ticket.late(), [Late::Body { at: 0, bytes_max: 64 }]);
    let mut look =
        |body: Option<&[u8]>| ticket.look(0, &request, body).map_err(|r| (r.status, r.message.into_owned()));
    assert_eq!(look(Some(b"{\"n\":1}")), Ok(()));
    assert_eq!(look(Some(b"nonsense")).unwrap_err().0, 400);
    assert_eq!(look(None).unwrap_err().0, 413);
    let (status, message) = look(Some(b"{\"n\":0}")).unwrap_err();
    assert!(status == 422 && message.starts_with("/n: "), "{message}");
    ticket.end(OK);
    let stage = Rc::new(Stage::default()) as Rc<dyn Around>;
    let remote = r#"{"use":"schema","schema":"{\"$ref\":\"http://127.0.0.1:9/x\"}"}"#;
    let error = Set::compile(&policies(remote), ["f"].into_iter(), None, &stage).unwrap_err();
    assert_eq!(error.place, "functions.f.policy.handlers[0]");
}

/// What one request costs with what `baton bench sidecar` has on, but its token. Run by hand:
/// `cargo test --release -p baton-policy -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_request() {
    let all = r#"{"use":"log"},{"use":"timeout","after":"1s"},{"use":"rate-limit","rate":"10000000/s"},{"use":"forwarded"},
        {"use":"headers","response":{"set":{"x-frame-options":"DENY"}}},{"use":"span"},{"use":"metrics"}"#;
    let (set, stage) = compile(all, None);
    let head_bytes = head("GET", "/hello", &[("host", "127.0.0.1:8080"), ("user-agent", "bench")]);
    let answer = head("", "", &[("content-type", "text/plain")]);
    let chain = set.chain("f").unwrap();
    let began = std::time::Instant::now();
    const ROUNDS: u32 = 1_000_000;
    for _ in 0..ROUNDS {
        let client = Client { address: Some([10, 0, 0, 1].into()), ..Client::default() };
        let mut request = Request::of(&head_bytes, client);
        let (ticket, verdict) = chain.admit(&mut request, stage.now());
        verdict.unwrap();
        std::hint::black_box(request.changed().unwrap());
        let mut answer = answer.clone();
        ticket.change(&mut answer);
        std::hint::black_box(answer);
        ticket.end(OK);
        stage.lines.borrow_mut().clear();
    }
    println!("{:?} a request", began.elapsed() / ROUNDS);
}
