//! Messages on a replica's control socket: how a guest gets its mappings, and later its edges.
//!
//! The socket is `SOCK_SEQPACKET`, one message a packet, at most [`MESSAGE_BYTES`] bytes; descriptors travel as
//! ancillary data in the order that each message names. Only the node speaks, save for one [`READY`] byte.

use core::ffi::CStr;

use crate::limits::NAME_MAX_BYTES;

/// The descriptor number of the control socket in a fresh replica.
pub const CONTROL_FD: i32 = 3;
/// What the replica sends when its handler can take requests.
pub const READY: u8 = b'R';
/// The environment variable that names, separated by commas, the functions that a replica may call.
pub const CALLS_ENV: &str = "BATON_CALLS";
/// The callee that the node itself is: it sends requests out for functions whose manifest names hosts in `network`. No function
/// can have this name. The request's head has an absolute URL for a path.
pub const NETWORK: &str = "@network";
/// The peer of an edge whose other end is the node, in the place of a replica's number: to [`NETWORK`], and to functions that run
/// on other nodes. Whoever sends over it rings the node as for its link; the bell that comes with it is the receiver's own. A
/// failure that comes back over it with `ERROR` and `REFUSED` is not the callee's: 429 too many calls wait, 502 and 503 no replica
/// is there, or the one that had the call is lost, 504 it was late.
pub const NODE_PEER: u16 = u16::MAX;
/// Where a function finds its files, whatever holds it.
pub const FILES_AT: &CStr = c"/app";
/// The environment variable that says so to a function that has files.
pub const FILES_ENV: &str = "BATON_FILES";
/// Size of every message from the node, bytes.
pub const MESSAGE_BYTES: usize = 128;
/// Most file descriptors that come with one message.
pub const MESSAGE_FDS_MAX: usize = 7;

const HELLO: u32 = 0x4254_4e01;
const EDGE: u32 = 0x4254_4e02;
const PAGE_MAP: u32 = 0x4254_4e03;

/// How much of the app's pool a replica may map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PoolAccess {
    /// Not mapped: payloads of up to eight bytes, inline, are all that it sees.
    Absent = 0,
    /// Mapped read-only: it answers inline.
    Read = 1,
    /// Mapped read-write.
    Write = 2,
}

/// First message. Descriptors, in order: pool (missing when access is absent), ledger, capability table, link,
/// own bell, node's eventfd, and, where the kernel hands over, the replica's socket (see [`crate::packet`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Must equal [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// The replica's number as a holder of capabilities, 1 and up (0 is the node).
    pub holder: u16,
    /// How the pool may be mapped.
    pub access: PoolAccess,
    /// Bytes of the pool.
    pub pool_bytes: u64,
    /// Buffer slots: the first entries of the capability table.
    pub slots: u32,
    /// First entry of the replica's own range for derived capabilities.
    pub derived_base: u32,
    /// Descriptors in each ring of the link.
    pub ring_entries: u32,
    /// Requests that may run at the same time.
    pub concurrency: u32,
    /// Whether the kernel hands over: the capability table can only be read then, what goes over edges to other replicas goes as
    /// packets over the replica's socket, and the replica sleeps on that. Their rings stay empty, and no peer's bell comes with them.
    pub is_guarded: bool,
}

/// A direct road to or from another replica. Descriptors, in order: the edge's rings, the peer's bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Number of this edge, as capabilities in flight name it.
    pub id: u16,
    /// The peer as a holder.
    pub peer: u16,
    /// The receiver of this message as a holder: a cell has several.
    pub own: u16,
    /// Whether the receiver of this message is the one that calls.
    pub is_caller: bool,
    /// Descriptors in each ring.
    pub ring_entries: u32,
    /// Calls that may wait for credit on this edge.
    pub queue_max: u32,
    /// How long a call may take, milliseconds: the callee's `timeout`.
    pub timeout_ms: u32,
    /// Name of the callee's function for the caller, of the caller's for the callee.
    pub name: Name,
}

/// A function's name at a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; NAME_MAX_BYTES],
}

impl Name {
    /// `name`, if it is no longer than [`NAME_MAX_BYTES`].
    #[must_use]
    pub fn new(name: &str) -> Option<Name> {
        let mut bytes = [0; NAME_MAX_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Name { len: u8::try_from(name.len()).ok()?, bytes })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.len))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

/// A message from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The mappings.
    Hello(Hello),
    /// One more edge.
    Edge(Edge),
    /// To a cell, once, soon after its start. Descriptor: its own `/proc/PID/pagemap`, which it cannot open itself. A cell
    /// that has none yet, or never gets it, finds out in another way which pages it has written.
    PageMap,
}

struct Writer {
    out: [u8; MESSAGE_BYTES],
    at: usize,
}

impl Writer {
    fn put(mut self, bytes: &[u8]) -> Writer {
        let end = self.at + bytes.len();
        if let Some(space) = self.out.get_mut(self.at..end) {
            space.copy_from_slice(bytes);
            self.at = end;
        }
        self
    }

    fn u32(self, value: u32) -> Writer {
        self.put(&value.to_le_bytes())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.u32()?).ok()
    }
}

impl Message {
    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE_BYTES] {
        let writer = Writer { out: [0; MESSAGE_BYTES], at: 0 };
        match self {
            Message::Hello(hello) => writer
                .u32(HELLO)
                .u32(hello.abi_version)
                .u32(u32::from(hello.holder))
                .u32(hello.access as u32)
                .put(&hello.pool_bytes.to_le_bytes())
                .u32(hello.slots)
                .u32(hello.derived_base)
                .u32(hello.ring_entries)
                .u32(hello.concurrency)
                .u32(u32::from(hello.is_guarded)),
            Message::Edge(edge) => writer
                .u32(EDGE)
                .u32(u32::from(edge.id))
                .u32(u32::from(edge.peer))
                .u32(u32::from(edge.own))
                .u32(u32::from(edge.is_caller))
                .u32(edge.ring_entries)
                .u32(edge.queue_max)
                .u32(edge.timeout_ms)
                .put(&[edge.name.len])
                .put(&edge.name.bytes),
            Message::PageMap => writer.u32(PAGE_MAP),
        }
        .out
    }

    /// From the wire; `None` if it is not a message of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader(bytes);
        match reader.u32()? {
            HELLO => Some(Message::Hello(Hello {
                abi_version: reader.u32()?,
                holder: reader.u16()?,
                access: match reader.u32()? {
                    0 => PoolAccess::Absent,
                    1 => PoolAccess::Read,
                    2 => PoolAccess::Write,
                    _ => return None,
                },
                pool_bytes: reader.array().map(u64::from_le_bytes)?,
                slots: reader.u32()?,
                derived_base: reader.u32()?,
                ring_entries: reader.u32()?,
                concurrency: reader.u32()?,
                is_guarded: reader.u32()? != 0,
            })),
            EDGE => Some(Message::Edge(Edge {
                id: reader.u16()?,
                peer: reader.u16()?,
                own: reader.u16()?,
                is_caller: reader.u32()? != 0,
                ring_entries: reader.u32()?,
                queue_max: reader.u32()?,
                timeout_ms: reader.u32()?,
                name: {
                    let [len] = reader.array()?;
                    Name { len, bytes: reader.array()? }
                },
            })),
            PAGE_MAP => Some(Message::PageMap),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let hello = Message::Hello(Hello {
            abi_version: 1,
            holder: 7,
            access: PoolAccess::Read,
            pool_bytes: 1 << 40,
            slots: 1024,
            derived_base: 4096,
            ring_entries: 256,
            concurrency: 3,
            is_guarded: true,
        });
        assert_eq!(Message::decode(&hello.encode()), Some(hello));
        let name = Name::new("checkout").unwrap();
        let edge = Message::Edge(Edge {
            id: 3,
            peer: 4,
            own: 5,
            is_caller: true,
            ring_entries: 64,
            queue_max: 9,
            timeout_ms: 2000,
            name,
        });
        assert_eq!(Message::decode(&edge.encode()), Some(edge));
        assert_eq!(Message::decode(&Message::PageMap.encode()), Some(Message::PageMap));
        assert_eq!(name.as_str(), "checkout");
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(Message::decode(&[]), None);
        assert_eq!(Message::decode(&[0; MESSAGE_BYTES]), None);
        assert_eq!(Name::new(&"x".repeat(NAME_MAX_BYTES + 1)), None);
    }
}
