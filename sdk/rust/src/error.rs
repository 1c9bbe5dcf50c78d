//! What can go wrong in a function, and which status its caller sees.

use core::fmt;

/// Why a function, or a call that it made, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The handler's own failure.
    Handler {
        /// HTTP status.
        status: u16,
        /// For the caller to read.
        message: String,
    },
    /// A called function answered with a failure.
    Function {
        /// Which one.
        function: String,
        /// Its status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// A request to the network has no answer.
    Network {
        /// 400: it cannot be sent as it is. 403: the manifest does not name the host. 429: too many are out. 502: the host cannot
        /// be reached, or breaks off. 503: no room for the answer now. 504: no answer in time. 507: the answer is larger than the
        /// pool.
        status: u16,
        /// Which host, and why.
        message: String,
    },
    /// The manifest's `calls` does not name this function.
    NoEdge {
        /// Which one.
        function: String,
    },
    /// No replica of the function is there, or the one that had the call died.
    Unavailable {
        /// Which one.
        function: String,
    },
    /// Too many calls wait for the function.
    Overloaded {
        /// Which one.
        function: String,
    },
    /// The call took longer than it may.
    DeadlineExceeded {
        /// The called function.
        function: String,
    },
    /// The app's pool has no room for a buffer of this size now.
    PoolFull {
        /// Bytes that were asked for.
        wanted: usize,
    },
    /// The buffer has no room for more bytes.
    BufferFull {
        /// Bytes that it holds at most.
        capacity: usize,
        /// Bytes that it would have to hold.
        wanted: usize,
    },
    /// The payload is not a value of the type that was asked for: wrong size or alignment.
    Layout {
        /// Bytes of the payload.
        len: usize,
        /// Bytes of the type.
        expected: usize,
    },
    /// Nothing is behind a reference any more: it was got as often as it may, its time is over, or its owner took it back.
    Gone,
    /// The client of a stream has left, or the stream's time is over: nobody reads on.
    ClientGone,
    /// The capability does not allow this, or was revoked.
    Denied {
        /// What was tried.
        what: &'static str,
    },
    /// The peer broke the protocol.
    Protocol {
        /// How.
        what: &'static str,
    },
}

impl Error {
    /// A failure of the handler: `status` and `message` are what the caller gets.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Error {
        Error::Handler { status, message: message.into() }
    }

    /// The HTTP status that the caller sees.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Error::Handler { status, .. } | Error::Network { status, .. } => *status,
            // A client's mistake that a step found is still the client's; a step's own failure is a bad gateway's.
            Error::Function { status, .. } if (400..500).contains(status) => *status,
            Error::Function { status: 503, .. } | Error::PoolFull { .. } => 503,
            Error::Function { status: 504, .. } | Error::DeadlineExceeded { .. } => 504,
            Error::Function { .. } | Error::Unavailable { .. } | Error::Protocol { .. } => 502,
            Error::Overloaded { .. } => 429,
            Error::Layout { .. } => 400,
            Error::Gone => 410,
            Error::ClientGone => 499,
            Error::NoEdge { .. } | Error::BufferFull { .. } | Error::Denied { .. } => 500,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Handler { message, .. } | Error::Network { message, .. } => f.write_str(message),
            Error::Function { function, status, message } => write!(f, "{function}: {message} ({status})"),
            Error::NoEdge { function } => {
                write!(f, "{function}: not in this function's `calls`; add it to baton.toml")
            }
            Error::Unavailable { function } => write!(f, "{function}: no replica is there to answer"),
            Error::Overloaded { function } => write!(f, "{function}: too many calls wait for it"),
            Error::DeadlineExceeded { function } => write!(f, "{function}: did not answer in time"),
            Error::PoolFull { wanted } => write!(f, "the pool has no room for {wanted} bytes now"),
            Error::BufferFull { capacity, wanted } => {
                write!(f, "the buffer holds {capacity} bytes, not {wanted}")
            }
            Error::Layout { len, expected } => {
                write!(f, "the payload has {len} bytes, its type needs {expected} (or an aligned multiple)")
            }
            Error::Gone => f.write_str("nothing is behind the reference any more"),
            Error::ClientGone => f.write_str("the client has left"),
            Error::Denied { what } => write!(f, "the capability does not allow it: {what}"),
            Error::Protocol { what } => write!(f, "protocol error: {what}"),
        }
    }
}

impl std::error::Error for Error {}
