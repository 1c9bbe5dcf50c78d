//! Going down without losing a request.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_gateway::Limits;
use tokio::net::TcpStream;

use crate::support::with;

#[test]
fn a_drain_under_load_loses_no_request() {
    with(Limits::default(), async |server| {
        let asked = Rc::new(Cell::new(0u32));
        let mut clients = Vec::new();
        for number in 0..16 {
            let mut client = server.connect().await;
            let asked = asked.clone();
            clients.push(tokio::task::spawn_local(async move {
                let path = if number % 2 == 0 { "/hello" } else { "/nap" };
                loop {
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
                    // Panics if the connection is closed before the answer.
                    let got = client.answer().await;
                    assert_eq!(got.status, 200);
                    asked.set(asked.get() + 1);
                    if got.head.contains("connection: close") {
                        return client.rest().await;
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(asked.get() > 32);
        let begun = Instant::now();
        assert_eq!(server.handle.drain(Duration::from_secs(5)).await.cut, 0);
        assert!(begun.elapsed() < Duration::from_secs(2));
        for client in clients {
            assert_eq!(client.await.unwrap(), "");
        }
        assert!(TcpStream::connect(server.addr).await.is_err());
    });
}

#[test]
fn what_waits_to_be_accepted_is_served() {
    with(Limits::default(), async |server| {
        // No turn of the gateway lies between these writes and the drain.
        let mut clients = Vec::new();
        for _ in 0..8 {
            let stream = std::net::TcpStream::connect(server.addr).unwrap();
            std::io::Write::write_all(&mut &stream, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            clients.push(stream);
        }
        assert_eq!(server.handle.drain(Duration::from_secs(5)).await.cut, 0);
        for mut client in clients {
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        }
    });
}

#[test]
fn idle_connections_do_not_hold_a_drain_up_and_stuck_ones_are_cut() {
    with(Limits::default(), async |server| {
        let mut idle = server.connect().await;
        idle.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await;
        idle.answer().await;
        let mut fresh = server.connect().await;
        let mut stuck = server.connect().await;
        stuck.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.until(|world| world.live.get() == 1).await;
        let begun = Instant::now();
        assert_eq!(server.handle.drain(Duration::from_millis(600)).await.cut, 1);
        assert!(begun.elapsed() < Duration::from_secs(2));
        for client in [&mut idle, &mut fresh, &mut stuck] {
            assert_eq!(client.rest().await, "");
        }
        assert_eq!(server.world.live.get(), 0);
    });
}
