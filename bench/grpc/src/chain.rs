//! A chain of two functions by gRPC, whose messages are counted where they are encoded and decoded.
//!
//! ```text
//!   chain-client ── Pass(N bytes) ──▶ chain-front ── Pass(N bytes) ──▶ chain-back
//!        ◀──────────── 64 bytes ──────────┘ ◀────────── 64 bytes ─────────┘
//! ```
//! `Counts` tells how many messages a server's own codec has handled, and is not counted itself. The client makes as many round
//! trips as a line of its standard input says, and answers with their times in JSON.

use std::io::BufRead;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::hop::{FRAME_BYTES, MESSAGE_BYTES_MAX, Used, WINDOW_BYTES, summary};
use crate::messages::{Empty, Handled, Payload};
use crate::proto::chain_client::ChainClient;
use crate::proto::chain_server::{Chain, ChainServer};

const ANSWER: Bytes = Bytes::from_static(&[0; 64]);
/// Round trips for one line.
const TRIPS_MAX: usize = 1_000_000;

static ENCODED: AtomicU64 = AtomicU64::new(0);
static DECODED: AtomicU64 = AtomicU64::new(0);

/// What tonic uses for protobuf, and counts messages.
#[derive(Debug, Clone)]
pub(crate) struct CountedCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for CountedCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> Codec for CountedCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Counted<<ProstCodec<T, U> as Codec>::Encoder>;
    type Decoder = Counted<<ProstCodec<T, U> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        Counted(self.0.encoder(), PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Counted(self.0.decoder(), PhantomData)
    }
}

/// A half of the codec.
#[derive(Debug, Clone)]
pub(crate) struct Counted<H>(H, PhantomData<H>);

impl<H: Encoder<Error = Status>> Encoder for Counted<H> {
    type Item = H::Item;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        self.0.encode(item, into)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

impl<H: Decoder<Error = Status>> Decoder for Counted<H> {
    type Item = H::Item;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = self.0.decode(from)?;
        DECODED.fetch_add(u64::from(message.is_some()), Ordering::Relaxed);
        Ok(message)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// One function of the chain.
#[derive(Debug)]
pub(crate) struct Link {
    next: Option<ChainClient<Channel>>,
}

impl Link {
    /// The last one, or one before `next`.
    pub(crate) fn service(next: &str) -> Result<ChainServer<Self>, tonic::transport::Error> {
        let next = if next.is_empty() { None } else { Some(client_of(next)?) };
        Ok(ChainServer::new(Self { next }).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

#[tonic::async_trait]
impl Chain for Link {
    async fn pass(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        match &self.next {
            None => Ok(Response::new(Payload { bytes: ANSWER })),
            Some(next) => next.clone().pass(request.into_inner()).await,
        }
    }

    async fn counts(&self, _: Request<Empty>) -> Result<Response<Handled>, Status> {
        let (encoded, decoded) = (ENCODED.load(Ordering::Relaxed), DECODED.load(Ordering::Relaxed));
        Ok(Response::new(Handled { encoded, decoded }))
    }
}

fn client_of(address: &str) -> Result<ChainClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let client = ChainClient::new(endpoint.connect_lazy());
    Ok(client.max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// A server whose windows and frames fit large payloads.
pub(crate) fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
}

/// Makes round trips as it is told to; its standard input closed, it ends.
pub(crate) async fn client(peer: &str, payload: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut client = client_of(peer)?;
    let bytes = Bytes::from(vec![0x5a; payload]);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let trips: usize = line?.trim().parse()?;
        let (mut nanos, before) = (Vec::new(), Used::so_far());
        for _ in 0..trips.clamp(1, TRIPS_MAX) {
            let began = std::time::Instant::now();
            let answer = client.pass(Payload { bytes: bytes.clone() }).await?;
            nanos.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            if answer.get_ref().bytes.len() != ANSWER.len() {
                return Err("an answer of another length".into());
            }
        }
        let used = Used::so_far().since(before, nanos.len());
        println!("{}", summary(payload, &mut nanos, used));
    }
    Ok(())
}

/// Prints how many messages the servers' codecs have handled, all together.
pub(crate) async fn counts(servers: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (mut encoded, mut decoded) = (0, 0);
    for server in servers.split(',').filter(|server| !server.is_empty()) {
        let told = client_of(server)?.counts(Empty {}).await?.into_inner();
        encoded += told.encoded;
        decoded += told.decoded;
    }
    println!("{}", serde_json::json!({ "encoded": encoded, "decoded": decoded }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_link_encodes_and_decodes_what_passes_it() {
        let back = Link { next: None };
        let before = back.counts(Request::new(Empty {})).await.unwrap().into_inner();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let serving = server().add_service(ChainServer::new(back)).serve_with_incoming(incoming);
        let serving = tokio::spawn(serving);
        let front = Link { next: Some(client_of(&address).unwrap()) };
        let request = Payload { bytes: Bytes::from(vec![1; 5000]) };
        let answer = front.pass(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(answer.bytes.len(), 64);
        // Both sides are in this process: a request and an answer, each written and read once.
        let after = front.counts(Request::new(Empty {})).await.unwrap().into_inner();
        assert_eq!((after.encoded - before.encoded, after.decoded - before.decoded), (2, 2));
        serving.abort();
    }
}
