//! One invocation from start to end: admission, hand-over, deadline, receipt.
#![forbid(unsafe_code)]

mod error;
pub mod status;

pub use error::InvokeError;
