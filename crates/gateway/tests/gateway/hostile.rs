//! Malformed heads, attempts to smuggle a request behind another, functions that write into their answers.
//!
//! A head that two servers could read in two ways is refused, or read in one way and the connection closed after
//! it, so that no byte behind it is ever taken for a request.

use baton_gateway::Limits;

use crate::support::{BODY_LIMIT, with};

/// What a smuggled request would reach.
const SMUGGLED: &str = "GET /own HTTP/1.1\r\nHost: x\r\n\r\n";

/// Sends a request with another one behind it: exactly one answer of the status comes, then the close. With status
/// 0 the connection is just closed.
fn check(request: &str, status: u16) {
    with(Limits::default(), async |server| {
        let answer = server.ask(format!("{request}{SMUGGLED}")).await;
        let answers = answer.matches("HTTP/1.").count();
        match status {
            0 => assert_eq!(answers, 0, "{request:?}: {answer}"),
            status => {
                assert_eq!(answers, 1, "{request:?}: {answer}");
                assert_eq!(answer[9..12], status.to_string(), "{request:?}: {answer}");
            }
        }
        assert!(!answer.contains("card"), "{request:?} lets a request through: {answer}");
        server.is_well().await;
    });
}

#[test]
fn malformed_heads_are_refused() {
    for request in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello\r\n\r\n",
        "GET /hello HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /hello HTTP/1.1 x\r\nHost: x\r\n\r\n",
        "GET  /hello HTTP/1.1\r\nHost: x\r\n\r\n",
        "G@T\u{7f} /hello HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /he\tllo HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /hello HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX(y): z\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: a\r\n\tfolded\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
        "GET /hello HTTP/1.1\r\r\nHost: x\r\n\r\n",
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        check(request, 400);
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999",
        "Content-Length:",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \"chunked\"",
    ] {
        check(&format!("POST /echo HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\nhello"), 400);
    }
    check("POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    check("POST /echo HTTP/1.0\r\nHost: x\r\n\r\nhello", 411);
}

/// hyper drops `Content-Length` beside `Transfer-Encoding` before anyone sees it, reads the body by its chunks
/// alone, and closes the connection after the answer: RFC 9112 §6.3 allows that, and one reading is left.
#[test]
fn two_lengths_are_read_as_chunks_and_the_connection_is_closed() {
    for lengths in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked\r\nContent-Length: x",
    ] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\n");
        check(&request, 200);
    }
}

#[test]
fn wrong_chunks_end_the_connection() {
    for chunks in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ] {
        check(&format!("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), 400);
    }
}

/// RFC 9112 §2.2 lets a server take a bare LF for the end of a line, and hyper does. It does so for every line
/// alike, so the head ends in one place only.
#[test]
fn a_bare_lf_ends_a_line_and_nothing_else() {
    with(Limits::default(), async |server| {
        let answer = server.ask("GET /hello HTTP/1.1\nHost: x\nConnection: close\n\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        // A header behind a bare LF is a header, not a part of the value before it.
        let answer = server.ask("GET /hello HTTP/1.1\r\nHost: x\r\nX: y\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("connection: close"), "{answer}");
    });
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let long = "x".repeat(Limits::HEAD_BYTES);
    check(&format!("GET /hello HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), 431);
    check(&format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 431);
    let many = "X: y\r\n".repeat(Limits::HEADERS);
    check(&format!("GET /hello HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431);
    with(Limits::default(), async |server| {
        let long = "x".repeat(Limits::TARGET_BYTES);
        let mut client = server.connect().await;
        client.send(format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 414);
        let many = "X: y\r\n".repeat(Limits::HEADERS - 1);
        client.send(format!("GET /hello HTTP/1.1\r\nHost: x\r\n{many}\r\n")).await;
        assert_eq!(client.answer().await.status, 200);
    });
    with(Limits { headers: 3, ..Limits::default() }, async |server| {
        let answer = server.ask("GET /hello HTTP/1.1\r\nHost: x\r\na: b\r\nc: d\r\ne: f\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    });
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    // Declared: no byte of it is taken.
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        client
            .send(format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", BODY_LIMIT + 1))
            .await;
        client.send("x".repeat(400_000)).await;
        let got = client.answer().await;
        assert_eq!(got.status, 413);
        assert!(got.head.contains("connection: close") && got.body.contains("1048576 bytes"), "{got:?}");
        client.rest().await;
        assert_eq!(server.world.begun.get(), 0);
    });
    // In chunks: cut off where it exceeds.
    with(Limits { body_bytes: 1000, ..Limits::default() }, async |server| {
        let mut client = server.connect().await;
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for _ in 0..1000 {
            client.send(format!("64\r\n{}\r\n", "x".repeat(100))).await;
        }
        let got = client.answer().await;
        assert_eq!(got.status, 413);
        assert!(server.world.written.get() <= 1000);
        server.is_well().await;
    });
}

#[test]
fn a_function_cannot_write_a_second_answer_into_its_first() {
    with(Limits::default(), async |server| {
        for path in ["/inject", "/inject-name"] {
            let mut client = server.connect().await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let got = client.answer().await;
            assert_eq!(got.status, 502);
            assert!(!got.head.contains("set-cookie") && !got.head.contains("x\r\ny"), "{got:?}");
        }
        server.is_well().await;
    });
}
