//! A backend in memory that does what its route says, and a client that writes bytes as they stand.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::{Route, RouteTable};
use baton_flow::InvokeError;
use baton_gateway::{Backend, Gateway, Handle, Limits, Reply, RequestHead, Upload};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// No test takes longer.
const TEST_TIME: Duration = Duration::from_secs(20);
/// The largest body that the backend takes.
pub(crate) const BODY_LIMIT: u64 = 1 << 20;

/// What a route does.
#[derive(Clone)]
pub(crate) enum Act {
    Hello,
    Echo,
    /// Answers with the head as a function would see it.
    Head,
    /// Answers once the test says so.
    Wait,
    /// Answers after 50 ms.
    Nap,
    Big(usize),
    Fail(InvokeError),
    FailWrite(InvokeError),
    Answer(u16, Vec<(&'static str, &'static [u8])>),
    /// Answers without a body, and says this of its length.
    Bare(Option<&'static str>),
}

/// What the backend has seen, and what it waits for.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) live: Cell<usize>,
    pub(crate) begun: Cell<usize>,
    pub(crate) finished: Cell<usize>,
    pub(crate) written: Cell<usize>,
    pub(crate) go: Notify,
}

#[derive(Clone)]
pub(crate) struct Memory {
    world: Rc<World>,
    routes: Rc<RouteTable<Act>>,
}

pub(crate) struct Held {
    world: Rc<World>,
    act: Act,
    body: Vec<u8>,
}

pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static [u8])>,
    body: Bytes,
}

impl Backend for Memory {
    type Target = Act;
    type Upload = Held;

    fn routes(&self) -> Rc<RouteTable<Act>> {
        self.routes.clone()
    }

    fn body_limit(&self, _: &Act) -> u64 {
        BODY_LIMIT
    }

    fn begin(&self, act: &Act, head: &RequestHead<'_>, _: Option<u64>) -> Result<Held, InvokeError> {
        if let Act::Fail(error) = act {
            return Err(error.clone());
        }
        let mut body = Vec::new();
        if let Act::Head = act {
            let mut text = format!("{} {} {:?} {:?}\n", head.method, head.path, head.query, head.params);
            for (name, value) in head.headers() {
                text.push_str(&format!("{name}={}\n", String::from_utf8_lossy(value)));
            }
            body = text.into_bytes();
        }
        self.world.live.set(self.world.live.get() + 1);
        self.world.begun.set(self.world.begun.get() + 1);
        Ok(Held { world: self.world.clone(), act: act.clone(), body })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.world.live.set(self.world.live.get() - 1);
    }
}

impl Upload for Held {
    type Reply = Answer;
    type Feed = std::convert::Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        if let Act::FailWrite(error) = &self.act {
            return Err(error.clone());
        }
        self.world.written.set(self.world.written.get() + bytes.len());
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(mut self) -> Result<Answer, InvokeError> {
        let (mut status, mut headers) = (200, vec![("content-type", &b"text/plain"[..])]);
        let body = match self.act.clone() {
            Act::Hello => "hello".into(),
            Act::Echo | Act::Head => std::mem::take(&mut self.body).into(),
            Act::Wait => {
                self.world.go.notified().await;
                "waited".into()
            }
            Act::Nap => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                "rested".into()
            }
            Act::Big(bytes) => vec![b'x'; bytes].into(),
            Act::Fail(error) | Act::FailWrite(error) => return Err(error),
            Act::Answer(code, extra) => {
                (status, headers) = (code, extra);
                "made".into()
            }
            Act::Bare(length) => {
                headers.extend(length.map(|length| ("Content-Length", length.as_bytes())));
                Bytes::new()
            }
        };
        self.world.finished.set(self.world.finished.get() + 1);
        Ok(Answer { status, headers, body })
    }
}

impl Reply for Answer {
    type Body = Bytes;
    type Parts = baton_gateway::NoParts<Bytes>;

    fn status(&self) -> u16 {
        self.status
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().copied()
    }

    fn invocation(&self) -> u64 {
        77
    }

    fn into_body(self) -> Bytes {
        self.body
    }
}

fn routes() -> RouteTable<Act> {
    let function = |status, message: &str| InvokeError::Function { status, message: message.into() };
    let rows = [
        ("/hello", "GET", Act::Hello),
        ("/echo", "POST PUT", Act::Echo),
        ("/head/{user}/{*rest}", "GET POST", Act::Head),
        ("/wait", "GET POST", Act::Wait),
        ("/nap", "GET", Act::Nap),
        ("/big", "GET", Act::Big(16 << 20)),
        ("/full", "POST", Act::FailWrite(InvokeError::PoolFull)),
        ("/busy", "GET POST", Act::Fail(InvokeError::QueueFull)),
        ("/own", "GET", Act::Fail(function(422, "no \"such\" card"))),
        ("/inject", "GET", Act::Answer(200, vec![("x", b"a\r\nset-cookie: b")])),
        ("/inject-name", "GET", Act::Answer(200, vec![("x\r\ny", b"a")])),
        ("/interim", "GET", Act::Answer(101, vec![])),
        ("/status-0", "GET", Act::Answer(0, vec![])),
        ("/none", "GET", Act::Answer(204, vec![])),
        ("/bare", "GET", Act::Bare(Some("41"))),
        ("/unsaid", "GET", Act::Bare(None)),
        ("/odd", "GET", Act::Bare(Some("+4"))),
        ("/lies", "GET", Act::Answer(201, vec![("content-length", b"9"), ("transfer-encoding", b"chunked")])),
    ];
    let route = |(path, methods, act): (&str, &str, Act)| {
        let methods = methods.split(' ').map(|method| method.parse().unwrap()).collect();
        (Route { path: path.parse().unwrap(), methods, function: "f".parse().unwrap() }, act)
    };
    RouteTable::compile(rows.map(route)).unwrap()
}

/// A gateway that serves.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) world: Rc<World>,
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the panics of each thread: tokio catches those of the gateway's tasks, and a test would not notice.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
    PANICS.with(|panics| panics.set(0));
}

/// Runs a test against a gateway with these limits.
pub(crate) fn with(limits: Limits, test: impl AsyncFnOnce(&Server)) {
    count_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let world = Rc::new(World::default());
        let gateway = Gateway::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let server = Server { addr: gateway.local_addr(), handle: gateway.handle(), world: world.clone() };
        tokio::task::spawn_local(gateway.serve(Memory { world, routes: Rc::new(routes()) }));
        timeout(TEST_TIME, test(&server)).await.expect("the test is over in time");
    });
    drop(local);
    assert_eq!(PANICS.with(Cell::get), 0, "the gateway panicked");
}

/// Limits whose time-outs are as short as a test wants them.
pub(crate) fn hasty(header: u64, body: u64, idle: u64, write: u64) -> Limits {
    let time = Duration::from_millis;
    Limits {
        header_timeout: time(header),
        body_idle_timeout: time(body),
        idle_timeout: time(idle),
        write_timeout: time(write),
        ..Limits::default()
    }
}

impl Server {
    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap(), read: Vec::new() }
    }

    /// Writes bytes on a connection of their own and reads until it is closed; a reset is a close.
    pub(crate) async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, so: impl Fn(&World) -> bool) {
        while !so(&self.world) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The gateway still does its work, and holds nothing of what went before.
    pub(crate) async fn is_well(&self) {
        self.until(|world| world.live.get() == 0).await;
        let answer = self.ask("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer:?}");
    }
}

/// One connection of a client.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    /// Writes, unless the gateway has closed the connection.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Shuts this side.
    pub(crate) async fn shut(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Resets the connection: what a killed client with unread bytes leaves behind.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// What comes until the connection is closed or reset.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = std::mem::take(&mut self.read);
        let reading = async {
            let mut piece = vec![0; 65536];
            while let Ok(bytes @ 1..) = self.stream.read(&mut piece).await {
                read.extend_from_slice(&piece[..bytes]);
            }
        };
        timeout(Duration::from_secs(10), reading).await.expect("the gateway closes the connection");
        String::from_utf8_lossy(&read).into_owned()
    }

    /// The next answer, which says how long it is.
    pub(crate) async fn answer(&mut self) -> Got {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await;
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            self.more().await;
        }
        let body = self.read.drain(..length).collect();
        let status = head[9..12].parse().unwrap();
        Got { status, head, body: String::from_utf8(body).unwrap() }
    }

    async fn more(&mut self) {
        let mut piece = vec![0; 65536];
        let bytes = timeout(Duration::from_secs(10), self.stream.read(&mut piece)).await;
        let bytes = bytes.expect("an answer comes").expect("the connection stands");
        assert!(bytes > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
        self.read.extend_from_slice(&piece[..bytes]);
    }
}
