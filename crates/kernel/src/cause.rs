//! Why the program refused a packet: what it counts by.

/// Why a packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// A message that is no packet: shorter, longer, or in parts.
    Size = 0,
    /// A socket that nobody made known.
    Identity = 1,
    /// Its sender has too much that it never read.
    Unread = 2,
    /// An operation that is none, or not a replica's.
    Op = 3,
    /// An edge that cannot be.
    Edge = 4,
    /// An edge that is closed.
    Closed = 5,
    /// An edge of others.
    Ends = 6,
    /// A kind that does not go in this direction.
    Kind = 7,
    /// As many requests are open as may be.
    Credit = 8,
    /// A reply that nobody waits for.
    Reply = 9,
    /// A cancel without a request.
    Cancel = 10,
    /// A capability that cannot be, or not of the sort that is needed.
    Handle = 11,
    /// An older generation.
    Stale = 12,
    /// Someone else has it.
    Held = 13,
    /// A right that is not there.
    Rights = 14,
    /// A range outside of what there is.
    Range = 15,
    /// A place to derive into that is not the sender's, or not free.
    Into = 16,
    /// Derived of derived of derived … too deep.
    Depth = 17,
    /// It was revoked, or what it comes from was.
    Revoked = 18,
    /// Something else happened to it at the same moment.
    Race = 19,
    /// The receiver is not there any more.
    Gone = 20,
    /// Flags, body and head that do not go together.
    Flags = 21,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Cause; 22] = [
        Cause::Size,
        Cause::Identity,
        Cause::Unread,
        Cause::Op,
        Cause::Edge,
        Cause::Closed,
        Cause::Ends,
        Cause::Kind,
        Cause::Credit,
        Cause::Reply,
        Cause::Cancel,
        Cause::Handle,
        Cause::Stale,
        Cause::Held,
        Cause::Rights,
        Cause::Range,
        Cause::Into,
        Cause::Depth,
        Cause::Revoked,
        Cause::Race,
        Cause::Gone,
        Cause::Flags,
    ];

    /// One word, as metrics have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Size => "size",
            Cause::Identity => "identity",
            Cause::Unread => "unread",
            Cause::Op => "op",
            Cause::Edge => "edge",
            Cause::Closed => "closed",
            Cause::Ends => "ends",
            Cause::Kind => "kind",
            Cause::Credit => "credit",
            Cause::Reply => "reply",
            Cause::Cancel => "cancel",
            Cause::Handle => "handle",
            Cause::Stale => "stale",
            Cause::Held => "held",
            Cause::Rights => "rights",
            Cause::Range => "range",
            Cause::Into => "into",
            Cause::Depth => "depth",
            Cause::Revoked => "revoked",
            Cause::Race => "race",
            Cause::Gone => "gone",
            Cause::Flags => "flags",
        }
    }
}
