//! Clients that take their time, and too many of them.

use std::time::{Duration, Instant};

use baton_gateway::Limits;
use tokio::time::sleep;

use crate::support::{hasty, with};

const LONG: u64 = 60_000;

#[test]
fn a_head_that_drips_in_is_timed_out() {
    with(hasty(200, LONG, LONG, LONG), async |server| {
        // Dripping does not help: the time runs from the first byte.
        let begun = Instant::now();
        let mut client = server.connect().await;
        for byte in "GET /hello HTTP/1.1\r\nHost: x\r\nX-Long".chars() {
            client.send(byte.to_string()).await;
            sleep(Duration::from_millis(10)).await;
        }
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.ends_with("again\n"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        // One that says nothing is told nothing.
        assert_eq!(server.connect().await.rest().await, "");
        // The second head of a connection is timed out like its first.
        let mut client = server.connect().await;
        client.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /he").await;
        assert_eq!(client.answer().await.body, "hello");
        client.send("l").await;
        assert!(client.rest().await.starts_with("HTTP/1.1 408"));
        let mut client = server.connect().await;
        client.send("GET /nap HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(|world| world.live.get() == 1).await;
        client.send("GET /he").await;
        assert_eq!(client.answer().await.body, "rested");
        assert!(client.rest().await.starts_with("HTTP/1.1 408"));
        // Half a preface of HTTP/2.
        assert!(server.ask("PRI * HT").await.starts_with("HTTP/1.1 408"));
        server.is_well().await;
    });
}

#[test]
fn a_body_that_stops_or_drips_is_timed_out_and_given_back() {
    with(hasty(LONG, 200, LONG, LONG), async |server| {
        for drips in [false, true] {
            let mut client = server.connect().await;
            client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab").await;
            server.until(|world| world.live.get() == 1).await;
            for _ in 0..if drips { 50 } else { 0 } {
                client.send("c").await;
                sleep(Duration::from_millis(10)).await;
            }
            let got = client.answer().await;
            assert_eq!(got.status, 408, "{got:?}");
            server.until(|world| world.live.get() == 0).await;
            client.rest().await;
        }
        // One that gets on is not.
        let mut client = server.connect().await;
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n").await;
        for _ in 0..5 {
            client.send("d".repeat(2000)).await;
            sleep(Duration::from_millis(120)).await;
        }
        assert_eq!(client.answer().await.body.len(), 10_000);
        server.is_well().await;
    });
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    with(hasty(LONG, LONG, 100, LONG), async |server| {
        let mut client = server.connect().await;
        client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(Duration::from_millis(400)).await;
        server.world.go.notify_one();
        assert_eq!(client.answer().await.body, "waited");
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    with(hasty(LONG, LONG, LONG, 200), async |server| {
        let mut client = server.connect().await;
        client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
        while server.handle.counters().snapshot().bytes_out == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        while server.handle.counters().snapshot().connections_open > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(client.rest().await.len() < 16 << 20);
        // One that reads slowly, but reads, gets everything.
        let mut client = server.connect().await;
        client.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
        sleep(Duration::from_millis(120)).await;
        assert_eq!(client.answer().await.body.len(), 16 << 20);
    });
}

#[test]
fn one_connection_too_many_is_told_so() {
    with(Limits { connections: 3, ..Limits::default() }, async |server| {
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            client.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert_eq!(client.answer().await.status, 200);
            clients.push(client);
        }
        let answer = server.connect().await.rest().await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
        assert!(answer.ends_with("again.\n"), "{answer}");
        assert_eq!(server.handle.counters().snapshot().connections_refused, 1);
        clients.pop();
        while server.handle.counters().snapshot().connections_open > 2 {
            sleep(Duration::from_millis(2)).await;
        }
        server.is_well().await;
    });
}
