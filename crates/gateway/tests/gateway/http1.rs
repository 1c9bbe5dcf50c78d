//! HTTP/1.1 as well-meaning clients speak it.

use std::time::Duration;

use baton_gateway::{Gateway, Limits};

use crate::support::{BODY_LIMIT, with};

#[test]
fn answers_with_length_type_and_invocation() {
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        client.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let got = client.answer().await;
        assert_eq!((got.status, got.body.as_str()), (200, "hello"));
        for line in [
            "content-length: 5\r\n",
            "content-type: text/plain\r\n",
            "x-baton-invocation: 000000000000004d\r\n",
        ] {
            assert!(got.head.contains(line), "{}", got.head);
        }
        assert!(!got.head.contains("connection:"), "{}", got.head);
    });
}

#[test]
fn three_requests_in_one_write_are_answered_in_order() {
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        client
            .send(
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none\
                 GET /nap HTTP/1.1\r\nHost: x\r\n\r\n\
                 POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nthr\r\n2\r\nee\r\n0\r\n\r\n",
            )
            .await;
        for expect in ["one", "rested", "three"] {
            assert_eq!(client.answer().await.body, expect);
        }
        server.is_well().await;
    });
}

#[test]
fn what_follows_a_close_is_ignored() {
    with(Limits::default(), async |server| {
        let request = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = server.ask(request.repeat(3)).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(server.world.begun.get(), 1);
    });
}

#[test]
fn functions_see_their_head_and_nothing_of_the_connection() {
    with(Limits::default(), async |server| {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut client = server.connect().await;
        client
            .send(format!(
                "POST /head/ann/a/b?q=1 HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
                 Connection: keep-alive, x-mine\r\nX-Mine: 1\r\nTransfer-Encoding: chunked\r\nTraceparent: {trace}\r\n\
                 tracestate: a=b\r\n\r\n0\r\n\r\n"
            ))
            .await;
        let got = client.answer().await;
        let mut lines: Vec<&str> = got.body.lines().collect();
        let first = lines.remove(0);
        assert_eq!(first, r#"POST /head/ann/a/b Some("q=1") [("user", "ann"), ("rest", "a/b")]"#);
        lines.sort_unstable();
        let trace = format!("traceparent={trace}");
        assert_eq!(lines, ["host=x", &trace, "tracestate=a=b", "x-two=1", "x-two=2"]);

        client
            .send("GET /head/a/b HTTP/1.1\r\nHost: x\r\ntraceparent: junk\r\ntracestate: a=b\r\n\r\n")
            .await;
        let body = client.answer().await.body;
        let fresh = body.lines().find_map(|line| line.strip_prefix("traceparent=")).unwrap();
        assert!(fresh.len() == 55 && fresh.starts_with("00-"), "{body}");
        assert!(!body.contains("junk") && !body.contains("tracestate"), "{body}");
    });
}

#[test]
fn head_gets_the_headers_of_get_and_no_body() {
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        client.send("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\nHEAD /nope HTTP/1.1\r\nHost: x\r\n\r\n").await;
        client.send("HEAD /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let all = client.rest().await;
        let heads: Vec<&str> = all.split_terminator("\r\n\r\n").collect();
        assert_eq!(heads.len(), 3, "{all}");
        assert!(heads[0].starts_with("HTTP/1.1 200") && heads[0].contains("content-length: 5"), "{all}");
        assert!(heads[1].starts_with("HTTP/1.1 404") && heads[1].contains("content-length: "), "{all}");
        assert!(heads[2].starts_with("HTTP/1.1 204"), "{all}");
    });
}

#[test]
fn a_function_that_leaves_the_body_of_head_out_says_its_length() {
    with(Limits::default(), async |server| {
        for (path, length) in [("/bare", Some("41")), ("/unsaid", None), ("/odd", None), ("/lies", Some("4"))]
        {
            let mut client = server.connect().await;
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
            let head = client.rest().await;
            let said = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            assert_eq!(said, length, "{path}: {head}");
        }
        let mut client = server.connect().await;
        client.send("GET /bare HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(client.answer().await.head.contains("content-length: 0"), "measured where there is a body");
    });
}

#[test]
fn routes_and_failures_have_their_statuses() {
    let check = |request: &'static str, status: u16, in_head: &'static str, in_body: &'static str| {
        with(Limits::default(), async move |server| {
            let mut client = server.connect().await;
            client.send(request.replacen("\r\n", "\r\nHost: x\r\n", 1)).await;
            let got = client.answer().await;
            assert_eq!(got.status, status, "{request:?} {got:?}");
            assert!(got.head.contains(in_head) && got.body.contains(in_body), "{request:?} {got:?}");
            server.is_well().await;
        });
    };
    check("GET /nope HTTP/1.1\r\n\r\n", 404, "text/plain", "baton ps");
    check(
        "GET /nope HTTP/1.1\r\nAccept: application/json\r\n\r\n",
        404,
        "application/json",
        "{\"error\":\"no route",
    );
    check("DELETE /hello HTTP/1.1\r\n\r\n", 405, "allow: GET, HEAD\r\n", "GET, HEAD");
    check("GET /busy HTTP/1.1\r\n\r\n", 429, "retry-after: 1\r\n", "later");
    check("POST /full HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 503, "retry-after: 1\r\n", "again");
    check(
        "GET /own HTTP/1.1\r\nAccept: application/json\r\n\r\n",
        422,
        "json",
        r#"{"error":"no \"such\" card"}"#,
    );
    check("GET /interim HTTP/1.1\r\n\r\n", 502, "", "nonsense");
    check("GET /status-0 HTTP/1.1\r\n\r\n", 502, "", "nonsense");
    check("GET /lies HTTP/1.1\r\n\r\n", 201, "content-length: 4\r\n", "made");
    check("GET /none HTTP/1.1\r\n\r\n", 204, "", "");
    check("GET http://x/hello HTTP/1.1\r\n\r\n", 200, "", "hello");
    check("GET /hello HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 200, "", "hello");
}

#[test]
fn a_small_body_of_a_refused_request_leaves_the_connection_of_use() {
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        client.send("POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send("345GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 404);
        assert_eq!(client.answer().await.body, "hello");
    });
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_or_is_refused() {
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        let ask = |length: u64| {
            format!(
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
            )
        };
        client.send(ask(2)).await;
        assert_eq!(client.answer().await.status, 100);
        client.send("hi").await;
        assert_eq!(client.answer().await.body, "hi");
        client.send(ask(BODY_LIMIT + 1)).await;
        let got = client.answer().await;
        assert_eq!(got.status, 413, "{got:?}");
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_body_as_large_as_may_be_goes_in_and_out() {
    with(Limits::default(), async |server| {
        let body = "0123456789abcdef".repeat(usize::try_from(BODY_LIMIT).unwrap() / 16);
        let mut client = server.connect().await;
        client.send(format!("PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        client.send(&body).await;
        let got = client.answer().await;
        assert!(got.status == 200 && got.body == body);
    });
}

#[test]
fn a_client_that_shuts_its_side_still_gets_its_answer() {
    with(Limits::default(), async |server| {
        let mut client = server.connect().await;
        client.send("GET /nap HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(|world| world.live.get() == 1).await;
        client.shut().await;
        assert!(client.rest().await.ends_with("rested"));

        // With the body still on its way out when the end comes.
        let mut client = server.connect().await;
        client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(|world| world.finished.get() == 2).await;
        client.shut().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(client.rest().await.len() > 16 << 20);

        // The end comes with the request.
        let mut client = server.connect().await;
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await;
        client.shut().await;
        assert!(client.rest().await.ends_with("\r\n\r\nhi"));
        server.is_well().await;
        while server.handle.counters().snapshot().connections_open > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn a_client_that_is_gone_cancels_its_request() {
    with(Limits::default(), async |server| {
        // While it waits.
        let mut client = server.connect().await;
        client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(|world| world.live.get() == 1).await;
        client.reset();
        server.until(|world| world.live.get() == 0).await;
        // In the middle of its body.
        for reset in [true, false] {
            let mut client = server.connect().await;
            client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc").await;
            server.until(|world| world.live.get() == 1).await;
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            server.until(|world| world.live.get() == 0).await;
        }
        assert_eq!(server.world.finished.get(), 0);
        server.is_well().await;
    });
}

#[test]
fn counters_tell_what_happened() {
    with(Limits::default(), async |server| {
        server.is_well().await;
        server.ask("GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        server.ask("NONSENSE\r\n\r\n").await;
        server.ask("GET /interim HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        while server.handle.counters().snapshot().connections_open > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let seen = server.handle.counters().snapshot();
        assert_eq!(seen.answers_by_class, [0, 1, 0, 2, 1]);
        assert_eq!((seen.connections_accepted, seen.connections_refused), (4, 0));
        assert!(seen.bytes_in > 150 && seen.bytes_out > 300, "{seen:?}");
    });
}

#[test]
fn an_address_in_use_is_named_with_a_remedy() {
    with(Limits::default(), async |server| {
        let error = Gateway::bind(server.addr, Limits::default()).err().unwrap().to_string();
        assert!(error.contains(&server.addr.to_string()) && error.contains("--listen"), "{error}");
        let error = Gateway::bind("192.0.2.1:0".parse().unwrap(), Limits::default()).err().unwrap();
        assert!(error.to_string().contains("no address 192.0.2.1"), "{error}");
    });
}
