//! WebSockets.

use std::time::Duration;

use baton_e2e::{App, Node, need_sandbox, wait_until};
use rustix::process::Signal;

use crate::open::Open;
use crate::wire::{BINARY, CLOSE, KEY, PING, PONG, Socket, TEXT, head, head_of};

const REST: Duration = Duration::from_secs(8);
/// Several at once, none of which is in the way of another.
const TALKER: &str = "stream = true\nscale = { concurrency = 8 }\ntimeouts = { idle = \"30s\" }";

fn start(name: &str) -> Node {
    Node::start(&App::new(name).function("talker", "talker", TALKER).function("plain", "echo", ""))
}

fn farewells(node: &Node) -> usize {
    node.log_of("talker").iter().filter(|line| line.contains("talker is over")).count()
}

#[test]
fn messages_go_both_ways() {
    need_sandbox!();
    let node = start("talk");
    let mut socket = Socket::open(node.gateway, "/talker");
    socket.send(TEXT, "grüß dich".as_bytes());
    socket.expect(TEXT, "grüß dich".as_bytes());
    for len in [0, 1, 8, 9, 125, 126, 65_535, 65_536, 3 << 20] {
        let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        socket.send(BINARY, &payload);
        socket.expect(BINARY, &payload);
    }
    socket.send(TEXT, b"");
    socket.expect(TEXT, b"");
    socket.send(PING, b"there?");
    socket.expect(PONG, b"there?");
    // A message in three frames with a ping in between.
    socket.frame(TEXT, b"in ", true);
    socket.frame(0, b"three ", true);
    socket.send(PING, b"");
    socket.frame(0x80, b"parts", true);
    socket.expect(PONG, b"");
    socket.expect(TEXT, b"in three parts");
    socket.send(TEXT, b"big");
    socket.expect(BINARY, &[7; 1 << 20]);
    socket.send(CLOSE, &[&4000u16.to_be_bytes()[..], b"bye"].concat());
    assert_eq!(socket.expect_close(), 4000);
    socket.expect_end();
    wait_until(REST, "the function knows why", || {
        node.log_of("talker").iter().any(|line| line.contains("closed by Some(4000)"))
    });
    node.wait_at_rest(REST);
}

#[test]
fn functions_close_end_and_fail() {
    need_sandbox!();
    let node = start("ends");
    for (word, code) in [("close", 3001), ("end", 1000), ("fail", 1011)] {
        let mut socket = Socket::open(node.gateway, "/talker");
        socket.send(TEXT, word.as_bytes());
        assert_eq!(socket.expect_close(), code, "{word}");
        socket.send(CLOSE, &code.to_be_bytes());
        socket.expect_end();
    }
    // One that leaves without a word.
    let before = farewells(&node);
    drop(Socket::open(node.gateway, "/talker"));
    wait_until(REST, "the function heard of it", || farewells(&node) > before);
    node.wait_at_rest(REST);
}

/// What a client does that it may not.
type Act = &'static dyn Fn(&mut Socket);

/// The head of a message of `len` bytes, with its mask.
fn huge(len: u64) -> Vec<u8> {
    [head_of(0x80 | BINARY, len, true), vec![1, 2, 3, 4]].concat()
}

#[test]
fn what_the_protocol_forbids_ends_it() {
    need_sandbox!();
    let node = start("forbidden");
    let broken: [(&str, u16, Act); 8] = [
        ("no mask", 1002, &|socket| socket.frame(0x80 | TEXT, b"plain", false)),
        ("no UTF-8", 1007, &|socket| socket.send(TEXT, b"\xc3\x28")),
        ("too long", 1009, &|socket| socket.raw(&huge(17 << 20))),
        ("far too long", 1009, &|socket| socket.raw(&huge(u64::MAX >> 1))),
        ("reserved bits", 1002, &|socket| socket.frame(0xf0 | TEXT, b"x", true)),
        ("unknown opcode", 1002, &|socket| socket.frame(0x80 | 3, b"x", true)),
        ("a long ping", 1002, &|socket| socket.send(PING, &[0; 126])),
        ("a continuation of nothing", 1002, &|socket| socket.frame(0x80, b"x", true)),
    ];
    for (what, code, act) in broken {
        let mut socket = Socket::open(node.gateway, "/talker");
        act(&mut socket);
        assert_eq!(socket.expect_close(), code, "{what}");
        socket.expect_end();
    }
    node.wait_at_rest(REST);
    assert_eq!(node.get("/plain").status, 200, "the node lives");
}

#[test]
fn handshakes_are_checked() {
    need_sandbox!();
    let node = start("handshakes");
    let status = |head: &str| Open::ask(node.gateway, head).status;
    let version = Open::ask(node.gateway, &head("/talker", "8", KEY, ""));
    assert_eq!((version.status, version.header("sec-websocket-version")), (426, Some("13")));
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ=?", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="] {
        assert_eq!(status(&head("/talker", "13", key, "")), 400, "{key}");
    }
    // The function's to decide, and it hears of it.
    let refused = Open::ask(node.gateway, &head("/talker", "13", KEY, "origin: https://evil.example\r\n"));
    assert_eq!((refused.status, refused.header("upgrade")), (403, None));
    let granted = Open::ask(node.gateway, &head("/talker", "13", KEY, "sec-websocket-protocol: talk\r\n"));
    assert_eq!((granted.status, granted.header("sec-websocket-protocol")), (101, Some("talk")));
    drop(granted);
    // Who asks for no WebSocket is told what this is; a function without streams does not see the wish.
    assert_eq!(node.get("/talker").status, 426);
    assert_eq!(status(&head("/plain", "13", KEY, "")), 200);
    node.wait_at_rest(REST);
}

#[test]
fn a_flood_of_messages_waits_for_the_function() {
    need_sandbox!();
    let node = start("flood");
    let mut socket = Socket::open(node.gateway, "/talker");
    // None of the answers is read until all is sent: both ways fill up, and nothing is lost.
    for number in 0u32..2000 {
        socket.send(BINARY, &number.to_le_bytes());
    }
    for number in 0u32..2000 {
        socket.expect(BINARY, &number.to_le_bytes());
    }
    socket.send(CLOSE, &1000u16.to_be_bytes());
    assert_eq!(socket.expect_close(), 1000);
    node.wait_at_rest(REST);
}

#[test]
fn a_node_that_goes_down_says_so() {
    need_sandbox!();
    let mut node = start("down");
    let mut socket = Socket::open(node.gateway, "/talker");
    socket.send(TEXT, b"still there");
    socket.expect(TEXT, b"still there");
    node.signal(Signal::TERM);
    assert_eq!(socket.expect_close(), 1001);
    socket.send(CLOSE, &1001u16.to_be_bytes());
    socket.expect_end();
    assert!(node.wait(Duration::from_secs(20)).success());
}
