//! The 64-byte descriptor: what crosses a ring instead of a payload.
//!
//! ```text
//!  byte  0     1      2..4   4..8   8..16        16..24        24..48            48..64
//!       kind  flags   code   tag   invocation   deadline ns   body (Extent)     head (HeadExtent)
//! ```
//! A descriptor that comes from a peer is an *allegation*: copy it once, check the copy.

/// Size of a descriptor, bytes.
pub const DESCRIPTOR_BYTES: usize = 64;
/// Words of eight bytes in a descriptor.
pub const DESCRIPTOR_WORDS: usize = 8;
/// The handle that names nothing.
pub const NONE: u32 = u32::MAX;

/// What a descriptor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Run the handler; `code` is the operation, `tag` comes back in the reply.
    Request = 1,
    /// The answer to `tag`; `code` is the status.
    Reply = 2,
    /// Node to replica: buffers for the replica's stash, packed as handle and generation pairs.
    Grant = 3,
    /// Replica to node: capabilities that are not needed any more, packed like a grant.
    Free = 4,
    /// Replica to node: one buffer of `body.len` bytes, answered by a [`Kind::Grant`] with the same tag.
    Alloc = 5,
    /// Replica to node: `code` buffers of the size class `body.len`, answered by grants.
    Refill = 6,
    /// Replica to node: what one hop cost (see [`HopCost`]).
    Receipt = 7,
    /// Node to replica: finish what runs, then exit.
    Shutdown = 8,
    /// Node to replica: nobody waits for `tag` any more.
    Cancel = 9,
}

impl Kind {
    /// The kind of a raw byte, if it is one.
    #[must_use]
    pub const fn from_u8(raw: u8) -> Option<Kind> {
        Some(match raw {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Grant,
            4 => Kind::Free,
            5 => Kind::Alloc,
            6 => Kind::Refill,
            7 => Kind::Receipt,
            8 => Kind::Shutdown,
            9 => Kind::Cancel,
            _ => return None,
        })
    }
}

/// Bits that change how a descriptor is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing special: the body moves.
    pub const MOVE: Flags = Flags(0);
    /// The body is a derived capability that ends with the call.
    pub const LEND: Flags = Flags(1);
    /// The body is a derived, read-only capability that the receiver may keep.
    pub const SHARE: Flags = Flags(2);
    /// The hops of this invocation report their costs.
    pub const RECORD: Flags = Flags(4);
    /// The reply is a failure; its body, if any, is a message in UTF-8.
    pub const ERROR: Flags = Flags(8);
    /// `body.offset` and `body.len` hold the payload itself: up to 8 bytes in `offset`, `len` says how many. Through a gate there
    /// may be more of them, in the parcel's `small`.
    pub const INLINE: Flags = Flags(16);
    /// The grant could not be met: the pool is full. In a reply that is a failure: it is not the function's own, but says how
    /// the function ended.
    pub const REFUSED: Flags = Flags(32);
    /// Through a gate: `body.offset` is the address of `body.len` bytes of the guest's own memory, to be copied.
    pub const BYTES: Flags = Flags(64);
    /// Through a gate: one of several calls at once; it may run in another cell meanwhile.
    pub const PARALLEL: Flags = Flags(128);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A range of a capability: where a payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index in the capability table, or [`NONE`].
    pub handle: u32,
    /// Generation of that entry.
    pub generation: u32,
    /// First byte, counted from the start of the buffer.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Where a head (method, path, headers) lies. May name the same capability as the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadExtent {
    /// Index in the capability table, or [`NONE`].
    pub handle: u32,
    /// Generation of that entry.
    pub generation: u32,
    /// First byte, counted from the start of the buffer.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

impl Extent {
    /// No payload.
    pub const EMPTY: Extent = Extent { handle: NONE, generation: 0, offset: 0, len: 0 };
}

impl HeadExtent {
    /// No head.
    pub const EMPTY: HeadExtent = HeadExtent { handle: NONE, generation: 0, offset: 0, len: 0 };
}

/// What crosses a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Raw [`Kind`]; raw because a peer may write anything.
    pub kind: u8,
    /// How to read the rest.
    pub flags: Flags,
    /// Operation of a request, status of a reply.
    pub code: u16,
    /// Chosen by the caller, echoed in the reply.
    pub tag: u32,
    /// The gateway's number of the invocation that this belongs to; 0 for none.
    pub invocation: u64,
    /// `CLOCK_MONOTONIC` nanoseconds after which nobody waits; 0 for never.
    pub deadline_ns: u64,
    /// The payload.
    pub body: Extent,
    /// Method, path and headers, where there are any.
    pub head: HeadExtent,
}

impl Descriptor {
    /// A descriptor of `kind` with nothing else set.
    #[must_use]
    pub const fn new(kind: Kind) -> Descriptor {
        Descriptor {
            kind: kind as u8,
            flags: Flags::MOVE,
            code: 0,
            tag: 0,
            invocation: 0,
            deadline_ns: 0,
            body: Extent::EMPTY,
            head: HeadExtent::EMPTY,
        }
    }

    /// The eight words of the wire layout, little end first.
    #[must_use]
    pub const fn to_words(&self) -> [u64; DESCRIPTOR_WORDS] {
        [
            self.kind as u64
                | (self.flags.0 as u64) << 8
                | (self.code as u64) << 16
                | (self.tag as u64) << 32,
            self.invocation,
            self.deadline_ns,
            self.body.handle as u64 | (self.body.generation as u64) << 32,
            self.body.offset,
            self.body.len,
            self.head.handle as u64 | (self.head.generation as u64) << 32,
            self.head.offset as u64 | (self.head.len as u64) << 32,
        ]
    }

    /// The descriptor of eight words of the wire layout. Every bit pattern is some descriptor.
    #[must_use]
    pub const fn from_words(words: [u64; DESCRIPTOR_WORDS]) -> Descriptor {
        let [first, invocation, deadline_ns, body, offset, len, head, head_range] = words;
        Descriptor {
            kind: (first & 0xff) as u8,
            flags: Flags(((first >> 8) & 0xff) as u8),
            code: ((first >> 16) & 0xffff) as u16,
            tag: (first >> 32) as u32,
            invocation,
            deadline_ns,
            body: Extent {
                handle: (body & 0xffff_ffff) as u32,
                generation: (body >> 32) as u32,
                offset,
                len,
            },
            head: HeadExtent {
                handle: (head & 0xffff_ffff) as u32,
                generation: (head >> 32) as u32,
                offset: (head_range & 0xffff_ffff) as u32,
                len: (head_range >> 32) as u32,
            },
        }
    }
}

/// Handle and generation pairs that one [`Kind::Grant`] or [`Kind::Free`] can carry.
pub const PAIRS_PER_DESCRIPTOR: usize = 7;

/// Packs up to [`PAIRS_PER_DESCRIPTOR`] `(handle, generation)` pairs into the words of a descriptor; the rest is [`NONE`].
#[must_use]
pub fn pack_pairs(kind: Kind, tag: u32, pairs: &[(u32, u32)]) -> [u64; DESCRIPTOR_WORDS] {
    let mut words = [u64::from(NONE); DESCRIPTOR_WORDS];
    let [first, rest @ ..] = &mut words;
    *first = kind as u64 | u64::from(tag) << 32;
    for (word, (handle, generation)) in rest.iter_mut().zip(pairs) {
        *word = u64::from(*handle) | u64::from(*generation) << 32;
    }
    words
}

/// The `(handle, generation)` pairs of a descriptor that was packed by [`pack_pairs`].
pub fn unpack_pairs(descriptor: &Descriptor) -> impl Iterator<Item = (u32, u32)> + use<> {
    let [_, rest @ ..] = descriptor.to_words();
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word are taken apart")]
    rest.into_iter().map(|word| (word as u32, (word >> 32) as u32)).filter(|(handle, _)| *handle != NONE)
}

/// What one hop of an invocation cost. Packed into a [`Kind::Receipt`] descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopCost {
    /// The invocation.
    pub invocation: u64,
    /// Holder id of the caller: 0 for the gateway.
    pub caller: u16,
    /// Payload copies that the SDK made for this hop.
    pub copies: u16,
    /// Descriptors that crossed a ring for this hop, both directions.
    pub crossings: u32,
    /// Bytes that those copies moved.
    pub bytes_copied: u64,
    /// Bytes handed over by capability.
    pub bytes_handed: u64,
    /// CPU time of the replica while it worked on this hop, nanoseconds.
    pub cpu_ns: u64,
    /// From the request's arrival to the reply, nanoseconds.
    pub wall_ns: u64,
    /// Context switches of the replica in that time.
    pub switches: u32,
    /// The operation that was called.
    pub operation: u16,
    /// The status that was answered.
    pub status: u16,
    /// When the request arrived: the low bits of `CLOCK_MONOTONIC`, nanoseconds, up to [`HopCost::BEGAN_MAX`]; 0 if nobody looked.
    pub began_ns: u64,
}

impl HopCost {
    /// The bits of `began_ns` that travel: three days of nanoseconds.
    pub const BEGAN_MAX: u64 = (1 << 48) - 1;

    /// As the words of a descriptor.
    #[must_use]
    pub const fn to_words(&self) -> [u64; DESCRIPTOR_WORDS] {
        [
            Kind::Receipt as u64 | (self.copies as u64) << 16 | (self.crossings as u64) << 32,
            self.invocation,
            self.bytes_copied,
            self.bytes_handed,
            self.cpu_ns,
            self.wall_ns,
            self.switches as u64 | (self.operation as u64) << 32 | (self.status as u64) << 48,
            self.caller as u64 | (self.began_ns & Self::BEGAN_MAX) << 16,
        ]
    }

    /// From a descriptor of kind [`Kind::Receipt`].
    #[must_use]
    pub const fn from_descriptor(descriptor: &Descriptor) -> HopCost {
        let [first, invocation, bytes_copied, bytes_handed, cpu_ns, wall_ns, rest, caller] =
            descriptor.to_words();
        HopCost {
            invocation,
            caller: (caller & 0xffff) as u16,
            copies: ((first >> 16) & 0xffff) as u16,
            crossings: (first >> 32) as u32,
            bytes_copied,
            bytes_handed,
            cpu_ns,
            wall_ns,
            switches: (rest & 0xffff_ffff) as u32,
            operation: ((rest >> 32) & 0xffff) as u16,
            status: (rest >> 48) as u16,
            began_ns: caller >> 16,
        }
    }
}

const _: () = assert!(DESCRIPTOR_BYTES == DESCRIPTOR_WORDS * 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_the_wire() {
        let sent = Descriptor {
            kind: Kind::Reply as u8,
            flags: Flags::LEND.with(Flags::RECORD),
            code: 0xabcd,
            tag: 0xdead_beef,
            invocation: u64::MAX - 1,
            deadline_ns: 77,
            body: Extent { handle: 5, generation: 6, offset: 1 << 40, len: 3 },
            head: HeadExtent { handle: 9, generation: 10, offset: 11, len: 12 },
        };
        assert_eq!(Descriptor::from_words(sent.to_words()), sent);
    }

    #[test]
    fn any_words_survive_decoding_and_encoding() {
        let words = [u64::MAX, 1, 2, 3 << 40, 4, 5, u64::MAX / 3, 7 << 33];
        assert_eq!(Descriptor::from_words(words).to_words(), words);
    }

    #[test]
    fn grants_carry_seven_pairs() {
        let pairs = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14)];
        let descriptor = Descriptor::from_words(pack_pairs(Kind::Grant, 42, &pairs));
        assert_eq!((descriptor.kind, descriptor.tag), (Kind::Grant as u8, 42));
        assert!(unpack_pairs(&descriptor).eq(pairs));
        let few = Descriptor::from_words(pack_pairs(Kind::Free, 0, &pairs[..2]));
        assert!(unpack_pairs(&few).eq(pairs[..2].iter().copied()));
    }

    #[test]
    fn costs_survive_the_wire() {
        let cost = HopCost {
            invocation: 9,
            caller: 3,
            copies: 2,
            crossings: 4,
            bytes_copied: 1 << 33,
            bytes_handed: 5,
            cpu_ns: 6,
            wall_ns: 7,
            switches: 8,
            operation: 11,
            status: 200,
            began_ns: HopCost::BEGAN_MAX - 2,
        };
        assert_eq!(HopCost::from_descriptor(&Descriptor::from_words(cost.to_words())), cost);
    }
}
