//! Answers and requests in parts.

use std::io::Write;
use std::time::{Duration, Instant};

use baton_e2e::http::Client;
use baton_e2e::{App, Node, need_sandbox, wait_until};

use crate::open::{Open, connect};

const REST: Duration = Duration::from_secs(8);
const STREAM: &str = "stream = true";

fn start(name: &str, functions: &[(&str, &str)]) -> Node {
    let app = functions
        .iter()
        .fold(App::new(name), |app, (behaviour, more)| app.function(behaviour, behaviour, more));
    Node::start(&app)
}

fn has_ended(node: &Node, behaviour: &str) -> bool {
    node.log_of(behaviour).iter().any(|line| line.contains("is over"))
}

#[test]
fn parts_are_there_one_by_one() {
    need_sandbox!();
    let node = start("parts", &[("streamer", STREAM)]);
    let mut answer = Open::get(node.gateway, "/streamer?parts=5&bytes=7&every=100");
    assert_eq!((answer.status, answer.header("x-kind")), (201, Some("parts")));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let began = Instant::now();
    assert_eq!(answer.chunk().unwrap().unwrap(), b"aaaaaaa");
    // Four pauses lie behind the first part.
    let first = began.elapsed();
    assert_eq!(answer.chunks().unwrap().concat(), b"bbbbbbbcccccccdddddddeeeeeee");
    assert!(began.elapsed() >= first + Duration::from_millis(300), "{first:?} {:?}", began.elapsed());
    node.wait_at_rest(REST);
    // Large parts, and none.
    let mut answer = Open::get(node.gateway, "/streamer?parts=40&bytes=300000");
    let whole = answer.chunks().unwrap().concat();
    assert_eq!(whole.len(), 40 * 300_000);
    assert!((0..40).all(|part| whole[part * 300_000 + 17] == b'a' + u8::try_from(part % 26).unwrap()));
    assert!(Open::get(node.gateway, "/streamer?parts=0").chunks().unwrap().is_empty());
    // The connection is of use afterwards.
    let mut client = Client::connect(node.gateway).unwrap();
    for _ in 0..3 {
        assert_eq!(client.request("GET", "/streamer?parts=2", &[], b"").unwrap().body.len(), 20);
        assert_eq!(client.request("HEAD", "/streamer?parts=2", &[], b"").unwrap().status, 201);
    }
    node.wait_at_rest(REST);
}

#[test]
fn a_stream_that_fails_has_no_proper_end() {
    need_sandbox!();
    let node = start("failing", &[("streamer", STREAM)]);
    let mut answer = Open::get(node.gateway, "/streamer?parts=9&fail=2&every=20");
    for _ in 0..3 {
        assert_eq!(answer.chunk().unwrap().unwrap().len(), 10);
    }
    assert!(answer.chunk().is_err(), "the last chunk would say that all is there");
    node.wait_at_rest(REST);
    assert_eq!(node.function("streamer")["errors"], 1);
}

#[test]
fn without_the_manifests_leave_there_is_no_stream() {
    need_sandbox!();
    let node = start("denied", &[("streamer", "")]);
    let denied = node.get("/streamer");
    assert_eq!(denied.status, 500, "{}", denied.text());
    assert!(denied.text().contains("stream = true"), "{}", denied.text());
}

#[test]
fn a_request_is_answered_while_it_comes() {
    need_sandbox!();
    let node = start("mirror", &[("mirror", STREAM)]);
    let mut stream = connect(node.gateway);
    let head = "POST /mirror HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Open::answer(stream).expect("a head before the first byte of the body");
    assert_eq!(answer.status, 200);
    for word in ["one", "two and more", "three"] {
        answer.write(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes());
        assert_eq!(answer.chunk().unwrap().unwrap(), word.as_bytes());
    }
    answer.write(b"0\r\n\r\n");
    assert_eq!(answer.chunk().unwrap(), None);
    node.wait_at_rest(REST);
    // One that leaves in the middle of its body.
    let head = "POST /mirror HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    let mut answer = Open::ask(node.gateway, head);
    answer.write(&[1; 5000]);
    assert!(!answer.chunk().unwrap().unwrap().is_empty());
    answer.leave();
    node.wait_at_rest(REST);
}

#[test]
fn a_body_may_be_larger_than_the_pool() {
    need_sandbox!();
    let app =
        App::new("large").pool("8MiB").function("counter", "counter", "stream = true\ntimeout = \"30s\"");
    let node = Node::start(&app);
    let body = vec![3; 40 << 20];
    let counted = node.post("/counter?slowly=1", &body);
    assert_eq!(counted.status, 200, "{}", counted.text());
    assert!(counted.text().ends_with(&format!(" {}", body.len())), "{}", counted.text());
    // One that came with its head.
    assert_eq!(node.get("/counter").text(), "0 0");
    node.wait_at_rest(REST);
}

#[test]
fn a_client_that_does_not_read_holds_the_function_back() {
    need_sandbox!();
    let node = start("slow", &[("streamer", STREAM)]);
    // 2 GiB: far more than sockets and pool hold together.
    let answer = Open::get(node.gateway, "/streamer?parts=20000&bytes=100000");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!has_ended(&node, "streamer"));
    let held = node.buffers_in_use();
    assert!(held < 64, "{held} buffers wait");
    answer.leave();
    wait_until(REST, "the function heard of it", || has_ended(&node, "streamer"));
    node.wait_at_rest(REST);
}

#[test]
fn events_arrive_and_end_with_the_client() {
    need_sandbox!();
    let node = start("events", &[("ticker", STREAM)]);
    let mut answer = Open::get(node.gateway, "/ticker?every=30");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    for tick in 0..5 {
        assert_eq!(answer.event(), format!("event: tick\nid: {tick}\ndata: tick {tick}\n\n"));
    }
    assert!(!has_ended(&node, "ticker"));
    answer.leave();
    wait_until(REST, "the loop ended", || has_ended(&node, "ticker"));
    node.wait_at_rest(REST);
    // So does one that is quiet when its client leaves.
    let mut quiet = Open::get(node.gateway, "/ticker?every=60000");
    quiet.event();
    quiet.leave();
    node.wait_at_rest(REST);
}

#[test]
fn times_of_streams_are_kept() {
    need_sandbox!();
    let app = App::new("times")
        .function("idler", "ticker", "stream = true\ntimeouts = { idle = \"400ms\" }")
        .function("bounded", "ticker", "stream = true\ntimeouts = { idle = \"5s\", total = \"600ms\" }")
        .function("lazy", "sleeper", "stream = true\ntimeouts = { first_byte = \"300ms\", idle = \"5s\" }");
    let node = Node::start(&app);
    let began = Instant::now();
    let mut busy = Open::get(node.gateway, "/idler?every=100&events=12");
    // Longer than the idle time, and longer than `timeout`, for as long as events come.
    assert_eq!(busy.chunks().expect("a proper end").len(), 12);
    assert!(began.elapsed() > Duration::from_millis(1100));
    let began = Instant::now();
    let mut idle = Open::get(node.gateway, "/idler?every=60000");
    idle.event();
    assert!(idle.chunk().is_err(), "broken off");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let mut bounded = Open::get(node.gateway, "/bounded?every=50");
    let began = Instant::now();
    assert!(bounded.chunks().is_err(), "broken off");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(node.get("/lazy?ms=1500").status, 504);
    node.wait_at_rest(REST);
}

#[test]
fn callers_get_a_stream_whole() {
    need_sandbox!();
    let app = App::new("callers").function("streamer", "streamer", STREAM).function(
        "caller",
        "stream-caller",
        "calls = [\"streamer\"]\nenv = { NEXT = \"streamer\" }",
    );
    let node = Node::start(&app);
    assert_eq!(node.get("/caller").text(), "201 aaaaabbbbbcccccddddd");
    let invoked = node.cli(["invoke", "callers/streamer"]);
    assert_eq!(invoked.code, 0, "{}", invoked.stderr);
    assert!(invoked.stdout.contains("aaaaaaaaaabbbbbbbbbbcccccccccc"), "{}", invoked.stdout);
    node.wait_at_rest(REST);
}

#[test]
fn what_a_function_may_not_do_with_a_stream_it_cannot() {
    need_sandbox!();
    let node = start("meddler", &[("meddler", STREAM)]);
    let refused = node.get("/meddler");
    assert_eq!(refused.status, 200, "{}", refused.text());
    for line in refused.text().lines() {
        assert!(line.ends_with(" 409"), "{line}");
    }
    assert_eq!(refused.text().lines().count(), 12);
    let mut flooded = Open::get(node.gateway, "/meddler/begin");
    assert_eq!(flooded.status, 200);
    let text = String::from_utf8(flooded.chunks().expect("a proper end").concat()).unwrap();
    assert!(text.contains("again 409\n"), "{text}");
    // As many calls as may be out at once; of what was taken, all is there.
    let floods = text.matches("flood\n").count();
    assert!(floods > 8 && text.contains(&format!("taken {floods}\n")), "{text}");
    assert!(!text.contains("behind the end"), "{text}");
    node.wait_at_rest(REST);
    assert_eq!(node.get("/meddler").status, 200, "it lives");
}
