//! A server for measurements: `echo gateway ADDR` puts the gateway before a backend in memory, `echo hyper ADDR` is
//! the bare hyper server to hold it against.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use baton_catalog::{Route, RouteTable};
use baton_flow::InvokeError;
use baton_gateway::{Backend, Gateway, Limits, Reply, RequestHead, Upload};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

const HELLO: Bytes = Bytes::from_static(b"hello world");

#[derive(Clone)]
struct Memory {
    routes: Rc<RouteTable<()>>,
}

struct Held(Vec<u8>);

struct Answer(Bytes);

impl Backend for Memory {
    type Target = ();
    type Upload = Held;

    fn routes(&self) -> Rc<RouteTable<()>> {
        self.routes.clone()
    }

    fn body_limit(&self, (): &()) -> u64 {
        64 << 20
    }

    fn begin(&self, (): &(), head: &RequestHead<'_>, _: Option<u64>) -> Result<Held, InvokeError> {
        // Walk them all, as a backend that passes them on does.
        let bytes: usize = head.headers().map(|(name, value)| name.len() + value.len()).sum();
        std::hint::black_box(bytes);
        Ok(Held(Vec::new()))
    }
}

impl Upload for Held {
    type Reply = Answer;
    type Feed = std::convert::Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self) -> Result<Answer, InvokeError> {
        Ok(Answer(if self.0.is_empty() { HELLO } else { self.0.into() }))
    }
}

impl Reply for Answer {
    type Body = Bytes;
    type Parts = baton_gateway::NoParts<Bytes>;

    fn status(&self) -> u16 {
        200
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        std::iter::empty()
    }

    fn into_body(self) -> Bytes {
        self.0
    }
}

async fn gateway(addr: SocketAddr) -> Result<(), Box<dyn Error>> {
    let route = |path: &str, method: &str| -> Result<(Route, ()), Box<dyn Error>> {
        Ok((Route { path: path.parse()?, methods: vec![method.parse()?], function: "hello".parse()? }, ()))
    };
    let routes = RouteTable::compile([route("/", "GET")?, route("/echo", "POST")?])?;
    let gateway = Gateway::bind(addr, Limits::default())?;
    println!("{}", gateway.local_addr());
    gateway.serve(Memory { routes: Rc::new(routes) }).await;
    Ok(())
}

async fn hyper(addr: SocketAddr) -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind(addr).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(async move {
            let hello = |_: Request<hyper::body::Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(HELLO)))
            };
            let mut http1 = hyper::server::conn::http1::Builder::new();
            let _ =
                http1.pipeline_flush(true).serve_connection(TokioIo::new(stream), service_fn(hello)).await;
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (system, addr) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let addr = addr.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    match system.as_str() {
        "gateway" => local.block_on(&runtime, gateway(addr)),
        "hyper" => local.block_on(&runtime, hyper(addr)),
        _ => Err("usage: echo gateway|hyper ADDR".into()),
    }
}
