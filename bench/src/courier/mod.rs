//! Payloads from one machine to another the way it is done without Baton: put into a store by who made them, got from it by who
//! wants them.
//!
//! ```text
//!   producer ── put ──▶ store ── get ──▶ consumer
//!      └────── note: it is there ───────────▲ │
//!      ◀────── answer: when its last byte was touched, and what it is
//! ```
//! Both are processes of their own, told by the command line where the other is. What can be kept is kept: connections,
//! buffers, names; every connection sends at once (`TCP_NODELAY`). Without a store (`tcp`) the payload follows the note on the
//! same connection, which is the ping-pong that everything else is held to.

mod store;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::yardstick::RoundTrips;
use store::{Http, Redis, Store};

/// The longest payload.
pub const PAYLOAD_MAX: usize = 128 << 20;
/// Round trips of one run, at most.
const ITERATIONS_MAX: u64 = 100_000;
/// Round trips before the measured ones, at most.
const WARM_UP_MAX: u64 = 20;
/// A run ends early after this long.
const RUN_MAX: Duration = Duration::from_secs(60);
/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Length of the payload, its last byte, nothing.
const NOTE_BYTES: usize = 16;
/// When the last byte was touched, the byte, nothing: what Baton's callee answers with as well.
const ANSWER_BYTES: usize = 64;

/// How a payload goes from the producer to the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// Over the connection between them.
    Tcp,
    /// By `SET` and `GET`.
    Redis(SocketAddr),
    /// By PUT and GET of an object in the bucket `bench`.
    S3(SocketAddr),
    /// By PUT and GET of a file.
    Dav(SocketAddr),
    /// As the body of a POST to a function; there is no consumer beside it.
    Function(SocketAddr),
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Redis(at) => write!(f, "redis={at}"),
            Self::S3(at) => write!(f, "s3={at}"),
            Self::Dav(at) => write!(f, "dav={at}"),
            Self::Function(at) => write!(f, "function={at}"),
        }
    }
}

impl FromStr for Road {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "a road is tcp, or redis, s3, dav or function with =ADDRESS:PORT";
        let Some((kind, at)) = text.split_once('=') else {
            return if text == "tcp" { Ok(Self::Tcp) } else { Err(SHAPE) };
        };
        let at = at.parse().map_err(|_| SHAPE)?;
        match kind {
            "redis" => Ok(Self::Redis(at)),
            "s3" => Ok(Self::S3(at)),
            "dav" => Ok(Self::Dav(at)),
            "function" => Ok(Self::Function(at)),
            _ => Err(SHAPE),
        }
    }
}

impl Road {
    /// A connection to the store, if there is one between the two.
    fn store(self) -> io::Result<Option<Box<dyn Store>>> {
        Ok(match self {
            Self::Tcp | Self::Function(_) => None,
            Self::Redis(at) => Some(Box::new(Redis::connect(at)?)),
            Self::S3(at) => Some(Box::new(Http::connect(at, "/bench/payload", true)?)),
            Self::Dav(at) => Some(Box::new(Http::connect(at, "/payload", false)?)),
        })
    }
}

/// A connection that sends at once and does not wait for ever.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    set_up(&socket)?;
    Ok(socket)
}

fn set_up(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))
}

/// Gets what producers tell of, one producer after the other, until nobody wants that any more.
///
/// # Errors
/// It cannot listen; a producer or the store failed.
pub fn consume(listen: SocketAddr, road: Road) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("listening {}", listener.local_addr()?);
    std::thread::spawn(|| {
        // Who has started this closes it.
        while io::stdin().read(&mut [0; 64]).is_ok_and(|len| len > 0) {}
        std::process::exit(0);
    });
    let mut payload = vec![1; PAYLOAD_MAX];
    for producer in listener.incoming() {
        let mut producer = producer?;
        set_up(&producer)?;
        // Between two runs nothing comes for as long as others are measured.
        producer.set_read_timeout(None)?;
        // A new one for each producer: stores hang up on who is silent for long.
        let mut store = road.store()?;
        while let Some(len) = next_note(&mut producer)? {
            let into = payload.get_mut(..len).ok_or(io::ErrorKind::InvalidInput)?;
            match &mut store {
                Some(store) => store.get(into)?,
                None => producer.read_exact(into)?,
            }
            let last = std::hint::black_box(into.last().copied().unwrap_or_default());
            let mut answer = [0; ANSWER_BYTES];
            answer[..8].copy_from_slice(&now_ns().to_le_bytes());
            answer[8] = last;
            producer.write_all(&answer)?;
        }
    }
    Ok(())
}

/// The length of the next payload; `None` if the producer is done.
fn next_note(producer: &mut TcpStream) -> io::Result<Option<usize>> {
    let mut note = [0; NOTE_BYTES];
    match producer.read_exact(&mut note) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let len = u64::from_le_bytes(note[..8].try_into().unwrap_or_default());
    Ok(usize::try_from(len).ok())
}

/// Sends payloads one after the other and times each, from before the put to the answer.
///
/// # Errors
/// The consumer or the store failed, or a payload arrived as another.
pub fn produce(
    consumer: Option<SocketAddr>,
    road: Road,
    payload: usize,
    iterations: u64,
) -> io::Result<RoundTrips> {
    let mut courier = match (road, consumer) {
        (Road::Function(at), _) => Courier::Function(Http::connect(at, "/callee", false)?),
        (_, Some(consumer)) => Courier::Told { consumer: connect(consumer)?, store: road.store()? },
        (_, None) => return Err(io::Error::other("there is no consumer")),
    };
    let iterations = iterations.clamp(1, ITERATIONS_MAX);
    let mut bytes = vec![1; payload.clamp(1, PAYLOAD_MAX)];
    let (mut times, mut touches) = (Vec::new(), Vec::new());
    for _ in 0..(iterations / 10).clamp(1, WARM_UP_MAX) {
        courier.carry(&bytes)?;
    }
    let begun = Instant::now();
    for round in 0..iterations {
        let last = u8::try_from(round % 256).unwrap_or(0);
        if let Some(byte) = bytes.last_mut() {
            *byte = last;
        }
        let began_ns = now_ns();
        let answer = courier.carry(&bytes)?;
        times.push(now_ns() - began_ns);
        if answer[8] != last {
            return Err(io::Error::other("another payload has arrived"));
        }
        let touched_ns = u64::from_le_bytes(answer[..8].try_into().unwrap_or_default());
        touches.push(touched_ns.saturating_sub(began_ns));
        if begun.elapsed() > RUN_MAX {
            break;
        }
    }
    let trips = RoundTrips::of(times).ok_or_else(|| io::Error::other("nothing was measured"))?;
    Ok(RoundTrips { touch_ns: RoundTrips::of(touches).map(|touches| touches.p50_ns), ..trips })
}

enum Courier {
    Told { consumer: TcpStream, store: Option<Box<dyn Store>> },
    Function(Http),
}

impl Courier {
    fn carry(&mut self, payload: &[u8]) -> io::Result<[u8; ANSWER_BYTES]> {
        let mut answer = [0; ANSWER_BYTES];
        match self {
            Self::Function(function) => function.post(payload, &mut answer)?,
            Self::Told { consumer, store } => {
                let mut note = [0; NOTE_BYTES];
                note[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
                match store {
                    Some(store) => {
                        store.put(payload)?;
                        consumer.write_all(&note)?;
                    }
                    None => store::send(consumer, &[&note, payload])?,
                }
                consumer.read_exact(&mut answer)?;
            }
        }
        Ok(answer)
    }
}

/// The clock that all processes of a machine share, whatever namespace they are in.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roads_are_written_and_read() {
        for text in
            ["tcp", "redis=10.0.0.1:6379", "s3=10.0.0.1:80", "dav=10.0.0.1:80", "function=10.0.0.1:80"]
        {
            assert_eq!(text.parse::<Road>().map(|road| road.to_string()), Ok(text.to_owned()));
        }
        assert!("ftp=10.0.0.1:21".parse::<Road>().is_err() && "redis".parse::<Road>().is_err());
    }
}
