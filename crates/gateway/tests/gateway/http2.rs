//! Cleartext HTTP/2 with prior knowledge, on the same port.

use std::time::Duration;

use baton_gateway::Limits;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{BODY_LIMIT, Server, hasty, with};

#[derive(Clone)]
struct Local;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(server: &Server) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(server.addr).await.unwrap();
    speak(stream).await
}

async fn speak(stream: TcpStream) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let (sender, link) = handshake(Local, TokioIo::new(stream)).await.unwrap();
    (sender, tokio::task::spawn_local(link))
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("http://x{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn many_requests_share_a_connection() {
    with(Limits::default(), async |server| {
        let (mut sender, _link) = connect(server).await;
        let asked: Vec<_> = (0..32)
            .map(|number| sender.send_request(request("POST", "/echo", format!("body {number}"))))
            .collect();
        for (number, asked) in asked.into_iter().enumerate() {
            let response = asked.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["x-baton-invocation"], "000000000000004d");
            assert_eq!(text(response).await, format!("body {number}"));
        }
        let response = sender.send_request(request("HEAD", "/hello", "")).await.unwrap();
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(text(response).await, "");
        let response = sender.send_request(request("GET", "/big", "")).await.unwrap();
        assert_eq!(text(response).await.len(), 16 << 20);
        let large = vec![b'x'; usize::try_from(BODY_LIMIT).unwrap() + 1];
        let response = sender.send_request(request("POST", "/echo", large)).await.unwrap();
        assert_eq!(response.status(), 413);
        for (path, status) in [("/nope", 404), ("/inject", 502), ("/lies", 201), ("/none", 204)] {
            let response = sender.send_request(request("GET", path, "")).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    });
}

#[test]
fn a_stream_or_a_connection_that_is_gone_cancels_its_requests() {
    with(Limits::default(), async |server| {
        let stream = std::net::TcpStream::connect(server.addr).unwrap();
        stream.set_nonblocking(true).unwrap();
        let same = stream.try_clone().unwrap();
        let (mut sender, _link) = speak(TcpStream::from_std(stream).unwrap()).await;
        let first = tokio::task::spawn_local(sender.send_request(request("GET", "/wait", "")));
        let _second = tokio::task::spawn_local(sender.send_request(request("GET", "/wait", "")));
        server.until(|world| world.live.get() == 2).await;
        first.abort();
        server.until(|world| world.live.get() == 1).await;
        same.shutdown(std::net::Shutdown::Both).unwrap();
        server.until(|world| world.live.get() == 0).await;
        server.is_well().await;
    });
}

#[test]
fn idle_connections_live_by_the_idle_time_alone() {
    with(hasty(100, 100, 400, 60_000), async |server| {
        let (mut sender, link) = connect(server).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        let response = sender.send_request(request("GET", "/hello", "")).await.unwrap();
        assert_eq!(text(response).await, "hello");
        let waiting = tokio::task::spawn_local(sender.send_request(request("GET", "/wait", "")));
        tokio::time::sleep(Duration::from_millis(600)).await;
        server.world.go.notify_one();
        assert_eq!(text(waiting.await.unwrap().unwrap()).await, "waited");
        let _ = link.await.unwrap();
    });
}

#[test]
fn a_client_that_does_not_take_its_answer_is_cut() {
    with(hasty(60_000, 60_000, 60_000, 200), async |server| {
        // The whole connection may send this much ahead, the rest only as it is taken.
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(Local);
        builder.initial_stream_window_size(1024).initial_connection_window_size(65_535);
        let (mut sender, link) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(link);
        let response = sender.send_request(request("GET", "/big", "")).await.unwrap();
        while server.handle.counters().snapshot().connections_open > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(response.into_body().collect().await.is_err());
        server.is_well().await;
    });
}

#[test]
fn a_drain_ends_requests_before_connections() {
    with(Limits::default(), async |server| {
        let (mut sender, link) = connect(server).await;
        let waiting = tokio::task::spawn_local(sender.send_request(request("GET", "/wait", "")));
        server.until(|world| world.live.get() == 1).await;
        let world = server.world.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.go.notify_one();
        });
        assert_eq!(server.handle.drain(Duration::from_secs(5)).await.cut, 0);
        assert_eq!(text(waiting.await.unwrap().unwrap()).await, "waited");
        let _ = link.await.unwrap();
    });
}
