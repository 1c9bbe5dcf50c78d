//! Every maximum of the gateway, by name.

use std::time::Duration;

/// What a client may ask of the gateway; [`Limits::default`] is what the node starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head (request line and headers), in bytes; beyond it 431.
    pub head_bytes: usize,
    /// Longest path with its query, in bytes; beyond it 414.
    pub target_bytes: usize,
    /// Most header fields; beyond it 431.
    pub headers: usize,
    /// Longest body, in bytes; beyond it 413. The app's pool bounds it too.
    pub body_bytes: u64,
    /// Most open connections; the next one is answered 503 and closed.
    pub connections: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Time for a head to be complete, from its first byte (or from the connection's start); beyond it 408.
    pub header_timeout: Duration,
    /// Time in which a body must get on by [`BODY_PACE_BYTES`](Limits::BODY_PACE_BYTES); beyond it 408.
    pub body_idle_timeout: Duration,
    /// Time that a connection may be idle between requests; beyond it a silent close.
    pub idle_timeout: Duration,
    /// Time in which a client that reads its answer must take something; beyond it the connection is cut.
    pub write_timeout: Duration,
}

impl Limits {
    /// Default of [`head_bytes`](Limits::head_bytes).
    pub const HEAD_BYTES: usize = 64 * 1024;
    /// Default of [`target_bytes`](Limits::target_bytes).
    pub const TARGET_BYTES: usize = 8 * 1024;
    /// Default of [`headers`](Limits::headers).
    pub const HEADERS: usize = 100;
    /// Default of [`body_bytes`](Limits::body_bytes): the pool alone bounds bodies.
    pub const BODY_BYTES: u64 = u64::MAX;
    /// Default of [`connections`](Limits::connections).
    pub const CONNECTIONS: usize = 1024;
    /// Default of [`streams`](Limits::streams).
    pub const STREAMS: u32 = 256;
    /// Default of [`header_timeout`](Limits::header_timeout).
    pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`body_idle_timeout`](Limits::body_idle_timeout).
    pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`idle_timeout`](Limits::idle_timeout).
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
    /// Default of [`write_timeout`](Limits::write_timeout).
    pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    /// What a body must get on by in [`body_idle_timeout`](Limits::body_idle_timeout) unless it ends: a byte now
    /// and then does not hold a buffer for ever.
    pub const BODY_PACE_BYTES: u64 = 1024;
    /// Connections that wait in the kernel to be accepted.
    pub const BACKLOG: u32 = 1024;
    /// Most headers of a function's answer; beyond it 502.
    pub const REPLY_HEADERS: usize = 100;
    /// Longest head of a function's answer, in bytes; beyond it 502.
    pub const REPLY_HEAD_BYTES: usize = 64 * 1024;

    /// How often the sweep looks at the connections: a time-out is late by this at most.
    pub(crate) fn tick(&self) -> Duration {
        let shortest = self.header_timeout.min(self.idle_timeout).min(self.write_timeout);
        (shortest / 8).clamp(TICK_MIN, TICK_MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: Self::HEAD_BYTES,
            target_bytes: Self::TARGET_BYTES,
            headers: Self::HEADERS,
            body_bytes: Self::BODY_BYTES,
            connections: Self::CONNECTIONS,
            streams: Self::STREAMS,
            header_timeout: Self::HEADER_TIMEOUT,
            body_idle_timeout: Self::BODY_IDLE_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            write_timeout: Self::WRITE_TIMEOUT,
        }
    }
}

/// Longest message over a WebSocket, either way; the app's pool bounds it too.
pub(crate) const SOCKET_MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes that a WebSocket has ready for the socket: a message, its frame's head, a pong and a close.
pub(crate) const SOCKET_WRITE_BYTES: usize = SOCKET_MESSAGE_BYTES_MAX + 4096;
/// How often a WebSocket's client is asked whether it is there; one that has said nothing by the next time is not.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(30);
/// How long the two ends of a WebSocket that is being closed have to say their last.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Longest reason in a close frame, as RFC 6455 bounds control frames.
pub(crate) const CLOSE_REASON_BYTES_MAX: usize = 123;
/// TLS handshakes under way at once; others wait for one to end, and for as long as a head may take.
pub(crate) const HANDSHAKES_MAX: usize = 512;
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(500);
/// Most bytes that one read of a body takes in.
pub(crate) const READ_BYTES_MAX: usize = 128 * 1024;
/// Bytes that an HTTP/2 stream may send ahead, and those of its whole connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Seconds in `Retry-After`.
pub(crate) const RETRY_AFTER_SECONDS: &str = "1";
/// At most so long, and for so many bytes, is what a refused client still sends read and thrown away: closing on
/// unread bytes would reset the connection, and the client would never see the answer.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);
pub(crate) const LINGER_BYTES_MAX: usize = 1 << 20;
/// Longest body of a refused request that is read, so that its connection can stay.
pub(crate) const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// At the start of a drain, idle connections stay open so long: a request that is on its way meets no closed door.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);
/// After a drain's time is over, cut connections have so long to be gone.
pub(crate) const CUT_WAIT: Duration = Duration::from_millis(500);
