//! Why something was not done: Linux' numbers, which are the same in every language.

use crate::error::Error;

/// Why something was not done. Nothing was taken then, or what was taken is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Refusal {
    /// There is no such thing: a function that `calls` does not name.
    Unknown = 2,
    /// Too many calls wait for the function.
    Overloaded = 11,
    /// The capability does not allow it, or was revoked.
    Denied = 13,
    /// It is lent, and cannot be moved or given back meanwhile.
    Busy = 16,
    /// What was asked makes no sense: a range outside of its buffer, a message too long.
    Invalid = 22,
    /// The pool has no room now.
    PoolFull = 28,
    /// The function has more calls out than it may.
    TooMany = 105,
    /// The time is over.
    Late = 110,
    /// No replica is there.
    Unavailable = 113,
    /// The request or the payload is not this function's any more.
    Stale = 116,
}

impl Refusal {
    /// The number, positive.
    #[must_use]
    pub fn errno(self) -> i32 {
        self as i32
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Refusal {
        match error {
            Error::NoEdge { .. } => Refusal::Unknown,
            Error::Overloaded { .. } => Refusal::Overloaded,
            Error::DeadlineExceeded { .. } => Refusal::Late,
            Error::Unavailable { .. } => Refusal::Unavailable,
            Error::PoolFull { .. } | Error::BufferFull { .. } => Refusal::PoolFull,
            Error::Denied { what: "more calls at a time" } => Refusal::TooMany,
            Error::Denied { .. } => Refusal::Denied,
            Error::Gone | Error::Protocol { .. } => Refusal::Stale,
            _ => Refusal::Invalid,
        }
    }
}
