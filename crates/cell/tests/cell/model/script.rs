//! What puppets are told to do, and what they say of it: the language between the test and `guests/puppet.c`.

/// Operations of requests that are no scripts.
pub(crate) const LOAD: u16 = 0xff00;
pub(crate) const FETCH: u16 = 0xff01;
pub(crate) const SYNC: u16 = 0xff02;
/// Programs are written in these bytes and those behind it, half a byte each: what buffers hold otherwise is below.
pub(crate) const PROGRAM_BYTES: u8 = 0xf0;
/// No entry.
pub(crate) const NOBODY: u16 = 0xffff;

/// A part of an entry's payload: where it begins and how long it is, in thousandths; or one that is too long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Chosen among the entries that there are.
    pub(crate) entry: u16,
    pub(crate) from: u16,
    pub(crate) len: u16,
    pub(crate) beyond: bool,
}

pub(crate) const NO_PART: Part = Part { entry: NOBODY, from: 0, len: 0, beyond: false };

/// What a request or an answer carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Nothing,
    Inline {
        value: u64,
        len: u16,
    },
    /// Bytes of the puppet's own: so many times one byte.
    Static {
        len: u16,
        byte: u8,
    },
    /// Bytes of a buffer, to be copied.
    Bytes(Part),
    Move(Part),
    Lend(Part, u8),
    Share(Part),
}

/// One step of a script.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Alloc {
        bytes: u32,
        count: u8,
    },
    Fill(Part),
    Read(Part),
    Free(u16, Option<u16>),
    Freeze(u16),
    Narrow(Part),
    Revoke(u16),
    /// A gate with arguments that point elsewhere.
    Bad {
        gate: u8,
        place: u8,
    },
    Call(Box<Called>),
    Wait(u8),
    Cancel(u8),
    /// The answer, before the script is over.
    Reply(Body, Option<Part>),
}

/// A call: of whom, with what, and what the callee does then.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) callee: u8,
    pub(crate) body: Body,
    pub(crate) head: Option<Part>,
    pub(crate) script: Script,
}

/// What a puppet does with a request.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Op>,
    pub(crate) answer: Body,
    pub(crate) head: Option<Part>,
}

/// The kinds of steps and records, as `puppet.c` numbers them.
pub(crate) mod kind {
    pub(crate) const ALLOC: u8 = 1;
    pub(crate) const FILL: u8 = 2;
    pub(crate) const READ: u8 = 3;
    pub(crate) const FREE: u8 = 4;
    pub(crate) const FREEZE: u8 = 5;
    pub(crate) const NARROW: u8 = 6;
    pub(crate) const REVOKE: u8 = 7;
    pub(crate) const CALL: u8 = 8;
    pub(crate) const WAIT: u8 = 9;
    pub(crate) const CANCEL: u8 = 10;
    pub(crate) const REPLY: u8 = 11;
    pub(crate) const BAD: u8 = 12;
    pub(crate) const REQUEST: u8 = 20;
    pub(crate) const ANSWER: u8 = 21;
    pub(crate) const EVENT: u8 = 22;
    pub(crate) const GRANT: u8 = 23;
}

/// A step as a puppet reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) kind: u8,
    pub(crate) body: u8,
    pub(crate) code: u16,
    pub(crate) callee: u16,
    pub(crate) argument: u16,
    pub(crate) part: Part,
    pub(crate) head: Part,
    pub(crate) value: u64,
}

impl Raw {
    pub(crate) const fn new(kind: u8) -> Raw {
        Raw { kind, body: 0, code: 0, callee: 0, argument: 0, part: NO_PART, head: NO_PART, value: 0 }
    }

    /// The same, with a body and a head.
    pub(crate) fn carrying(self, body: Body, head: Option<Part>) -> Raw {
        let head = head.unwrap_or(NO_PART);
        let with = |body, part, value| Raw { body, part, value, head, ..self };
        match body {
            Body::Nothing => with(0, NO_PART, 0),
            Body::Inline { value, len } => Raw { argument: len, ..with(1, NO_PART, value) },
            Body::Static { len, byte } => with(2, Part { from: len, ..NO_PART }, u64::from(byte)),
            Body::Bytes(part) => with(3, part, 0),
            Body::Move(part) => with(4, part, 0),
            Body::Lend(part, rights) => with(5, part, u64::from(rights)),
            Body::Share(part) => with(6, part, 0),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.kind, self.body]);
        for word in [self.code, self.callee, self.argument] {
            out.extend(word.to_le_bytes());
        }
        for part in [self.part, self.head] {
            for word in [part.entry, part.from, part.len, u16::from(part.beyond)] {
                out.extend(word.to_le_bytes());
            }
        }
        out.extend(self.value.to_le_bytes());
        out.extend([0; 8]);
    }
}

/// All scripts of one puppet, as it reads them.
pub(crate) fn program(scripts: &[(u16, Vec<Raw>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, steps) in scripts {
        out.extend(u32::from(*number).to_le_bytes());
        out.extend(u32::try_from(steps.len()).unwrap().to_le_bytes());
        steps.iter().for_each(|step| step.encode(&mut out));
    }
    out.iter().flat_map(|byte| [PROGRAM_BYTES | byte >> 4, PROGRAM_BYTES | byte & 15]).collect()
}

/// One thing that came of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record(pub(crate) [u64; 8]);

impl core::fmt::Debug for Record {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const NAMES: [&str; 24] = [
            "?", "alloc", "fill", "read", "free", "freeze", "narrow", "revoke", "call", "wait", "cancel",
            "reply", "bad", "?", "?", "?", "?", "?", "?", "?", "request", "answer", "event", "grant",
        ];
        let [kind, result, rest @ ..] = self.0;
        let name = usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind)).unwrap_or(&"no script");
        write!(f, "{name} {} {rest:x?}", result.cast_signed())
    }
}

/// What a puppet has recorded.
pub(crate) fn records(bytes: &[u8]) -> Vec<Record> {
    let of = |bytes: &[u8; 64]| {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Record(words)
    };
    bytes.as_chunks::<64>().0.iter().map(of).collect()
}

/// As `puppet.c` sums payloads up.
pub(crate) fn sum_of(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(PRIME);
        at += if at < 1024 { 1 } else { 61 };
    }
    bytes.last().map_or(sum, |last| (sum ^ u64::from(*last)).wrapping_mul(PRIME))
}
