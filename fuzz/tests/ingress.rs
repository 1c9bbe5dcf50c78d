//! HTTP ingress: whatever bytes a client sends, the gateway neither panics nor hangs, and serves the next client.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::{Route, RouteTable};
use baton_flow::InvokeError;
use baton_fuzz::Source;
use baton_gateway::{Backend, Gateway, Limits, NoParts, Reply, RequestHead, Upload};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PIECES: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\n",
    b"POST /b HTTP/1.1\r\n",
    b"PUT /c/d/e HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"GET /c/%00/%zz?x=%ff HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x05\x01\x05\0\0\0\x01\x82\x84\x86\x01\x61",
    b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff",
    b"\0\0\x08\x07\0\0\0\0\0",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"Host: x\r\n",
    b"Host: x\r\nHost: y\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade, x-y\r\n",
    b"Expect: 100-continue\r\n",
    b"traceparent: 00-0-0-0\r\n",
    b" folded\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"hello",
];

#[derive(Clone)]
struct Memory {
    live: Rc<Cell<i64>>,
    routes: Rc<RouteTable<()>>,
}

struct Held {
    live: Rc<Cell<i64>>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    body: Bytes,
}

impl Backend for Memory {
    type Target = ();
    type Upload = Held;

    fn routes(&self) -> Rc<RouteTable<()>> {
        Rc::clone(&self.routes)
    }

    fn body_limit(&self, (): &()) -> u64 {
        65_536
    }

    fn begin(&self, (): &(), head: &RequestHead<'_>, len: Option<u64>) -> Result<Held, InvokeError> {
        assert!(len.is_none_or(|len| len <= 65_536), "larger than the limit");
        for (name, value) in head.headers() {
            assert!(!name.is_empty() && !value.contains(&b'\n') && !value.contains(&b'\r'), "{name}");
            assert_eq!(name.to_ascii_lowercase(), name);
        }
        self.live.set(self.live.get() + 1);
        Ok(Held { live: Rc::clone(&self.live), body: head.path.as_bytes().to_vec() })
    }
}

impl Upload for Held {
    type Feed = Infallible;
    type Reply = Answer;

    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(mut self) -> Result<Answer, InvokeError> {
        // What a lying function answers: any status at all.
        let status = match self.body.as_slice() {
            [.., low, high] => u16::from_le_bytes([*low, *high]),
            _ => 200,
        };
        Ok(Answer { status, body: core::mem::take(&mut self.body).into() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
    }
}

impl Reply for Answer {
    type Parts = NoParts<Bytes>;
    type Body = Bytes;

    fn status(&self) -> u16 {
        self.status
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        [("content-length", &b"1"[..]), ("x\r\ny", b"z"), ("a", b"b\r\nc: d")].into_iter()
    }

    fn into_body(self) -> Bytes {
        self.body
    }
}

fn routes() -> RouteTable<()> {
    let route = |path: &str| Route {
        path: path.parse().unwrap(),
        methods: Vec::new(),
        function: "f".parse().unwrap(),
    };
    RouteTable::compile(["/a", "/b", "/c/{x}/{*y}"].map(|path| (route(path), ()))).unwrap()
}

fn limits() -> Limits {
    let short = Duration::from_millis(30);
    Limits {
        header_timeout: short,
        body_idle_timeout: short,
        idle_timeout: short,
        write_timeout: short,
        ..Limits::default()
    }
}

async fn client(address: SocketAddr, input: &[u8], cut: u8) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(input).await;
    match cut % 3 {
        0 => {
            let _ = stream.set_zero_linger();
            return;
        }
        1 => {
            let _ = stream.shutdown().await;
        }
        _ => {}
    }
    let mut sink = [0; 4096];
    let rest = async { while let Ok(1..) = stream.read(&mut sink).await {} };
    timeout(Duration::from_secs(5), rest).await.expect("the gateway closes the connection");
}

async fn is_well(address: SocketAddr, live: &Cell<i64>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&answer));
    let idle = async {
        while live.get() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(5), idle).await.expect("every upload ends");
}

#[test]
fn ingress() {
    // Panics of the gateway's tasks are tokio's to catch: they are counted.
    thread_local! { static PANICS: Cell<u32> = const { Cell::new(0) }; }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.set(PANICS.get() + 1);
        before(info);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let live = Rc::new(Cell::new(0));
    let address = local.block_on(&runtime, async {
        let gateway = Gateway::bind("127.0.0.1:0".parse().unwrap(), limits()).unwrap();
        let address = gateway.local_addr();
        tokio::task::spawn_local(gateway.serve(Memory { live: Rc::clone(&live), routes: Rc::new(routes()) }));
        address
    });
    baton_fuzz::fuzz(1024, |input| {
        let mut source = Source::new(input);
        let cut = source.byte();
        let mut bytes = Vec::new();
        while !source.is_empty() {
            match source.byte() {
                byte @ 0..=219 => bytes.extend_from_slice(PIECES[usize::from(byte) % PIECES.len()]),
                _ => bytes.extend_from_slice(source.bytes(7)),
            }
        }
        local.block_on(&runtime, async {
            client(address, &bytes, cut).await;
            is_well(address, &live).await;
        });
        assert_eq!(PANICS.get(), 0, "the gateway panicked");
    });
}
