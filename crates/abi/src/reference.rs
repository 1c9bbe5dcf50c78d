//! What functions and the node say to each other about payloads that are put up for others.
//!
//! ```text
//!  reference, 96 bytes
//!  byte 0        1          2..50   50..66  66..74  74..90  90..96
//!       version  name's len node    id      length  MAC     0
//! ```
//! To functions it is 96 bytes that only the node that made them can read.

/// The callee that keeps and finds payloads: the node. No function can have this name.
pub const REFERENCES: &str = "@references";
/// Bytes of a reference.
pub const REFERENCE_BYTES: usize = 96;
/// The first byte of a reference.
pub const REFERENCE_VERSION: u8 = 1;
/// Keeps the payload of the call. Its answer is the reference.
pub const PUT: u16 = 1;
/// The payload of the call is a reference. The answer is what was put up.
pub const GET: u16 = 2;
/// The payload of the call is a reference: nobody gets what is behind it any more.
pub const FORGET: u16 = 3;
/// A header of a [`PUT`]: how often it may be got, in decimal digits; once if absent.
pub const READERS_HEADER: &str = "readers";
/// A header of a [`PUT`]: for how many milliseconds, in decimal digits.
pub const TTL_HEADER: &str = "ttl-ms";
/// The status for a reference behind which nothing is: never was, is over, was got as often as it may, or is another app's.
pub const STATUS_NOTHING: u16 = 404;
