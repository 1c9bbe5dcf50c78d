//! Cells: where what lies in their address space, and the messages between a node, a cell's template and a cell.
//!
//! A **template** is a process that has loaded the functions of a cell up to their first [`crate::gate::RECV`] and runs
//! nothing after that. A **cell** is a fork of it. Each has a `SOCK_SEQPACKET` control socket at
//! [`crate::boot::CONTROL_FD`]'s number in the template, at any number in a cell; one message a packet.
//!
//! ```text
//! node → template   Setup (fds: plan, pool?, ledger, table), then one Load a function (fds: ELF, files?, snapshot?)
//! template → node   Loaded or Failed for each, in order (fd: the new snapshot, if there was none)
//! node → template   Fork (fds: control, bell, then link and eventfd of each seat)
//! template → node   Forked (fd: the cell's pidfd), later Ended
//! cell → node       Ready, Log, Fault, Roads         node → cell   crate::boot::Message::Edge with `own`, PageMap
//! ```

use crate::boot::PoolAccess;

/// Memory keys that a cell can give its functions: 15, without one for what all may read and one for the pool.
pub const KEYS_MAX: usize = 13;
/// Functions that one cell can hold: more than keys, for those that share one.
pub const SEATS_MAX: usize = 32;
/// Size of the largest control message, bytes.
pub const CELL_MESSAGE_BYTES: usize = 8 * 1024 + 64;
/// Most descriptors with one control message: control, bell, link and eventfd of each seat.
pub const CELL_FDS_MAX: usize = 2 + 2 * SEATS_MAX;
/// Longest text in a message to the node (a log line, the report of a fault), bytes.
pub const TEXT_MAX_BYTES: usize = 8 * 1024;

/// Where the [`crate::gate::GatePage`] is mapped, in every cell.
pub const GATE_PAGE_AT: u64 = 0x1000_0000_0000;
/// Where the vDSO of the cell is mapped.
pub const VDSO_AT: u64 = 0x1000_0001_0000;
/// Where the pool is mapped.
pub const POOL_AT: u64 = 0x3000_0000_0000;
/// Where the first seat's memory begins.
pub const SEATS_AT: u64 = 0x2000_0000_0000;
/// Address space of one seat: its image, heap, mappings, mail and stack.
pub const SEAT_BYTES: u64 = 1 << 36;
/// Within a seat: where copies of small payloads lie (`trust = "buffer"`).
pub const MAIL_OFFSET: u64 = 8 << 30;
/// Bytes of that.
pub const MAIL_BYTES: u64 = 16 << 20;
/// Within a seat: where the guest's own mappings begin.
pub const MAPS_OFFSET: u64 = 16 << 30;
/// Within a seat: one behind the last byte of the guest's own mappings.
pub const MAPS_END: u64 = 56 << 30;
/// Within a seat with a window: where the memory of a Wasm module begins. Its last two of four gibibytes are the window.
pub const LINEAR_OFFSET: u64 = MAPS_END - crate::wasm::WINDOW_AT;
/// Within a seat with a window: where the pool appears a second time.
pub const WINDOW_OFFSET: u64 = MAPS_END;
/// Within a seat with a window: where copies of small payloads lie, instead of [`MAIL_OFFSET`].
pub const WINDOW_MAIL_OFFSET: u64 = WINDOW_OFFSET + crate::wasm::WINDOW_BYTES_MAX;
/// Within a seat: one behind the last byte of the stack.
pub const STACK_TOP: u64 = SEAT_BYTES - (1 << 20);
/// Bytes of the stack; what lies below it is a guard.
pub const STACK_BYTES: u64 = 1 << 20;

/// How finely memory keys follow buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Trust {
    /// One key for the pool: compartments of the app may use it while they run.
    App = 1,
    /// A buffer opens on receive and closes on send.
    Buffer = 2,
}

/// Node to template: the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Must equal [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// How finely memory keys follow buffers.
    pub trust: Trust,
    /// Bytes of the pool; 0 if no function of the cell may map it.
    pub pool_bytes: u64,
    /// Buffer slots: the first entries of the capability table.
    pub slots: u32,
    /// Functions to load.
    pub functions: u32,
    /// Bytes of the plan (see [`crate::plan`]).
    pub plan_bytes: u32,
    /// Report every system call that is refused, as log lines.
    pub trace: bool,
}

/// Node to template: load function `index` of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its place in the plan, and its seat.
    pub index: u32,
    /// Bytes of its ELF file.
    pub elf_bytes: u64,
    /// Bytes of a second file that comes with it, 0 if none does: offsets in the headers of the first one go on in it, from
    /// [`Load::elf_bytes`] on, which is whole pages then.
    pub host_bytes: u64,
    /// Bytes of the bundle of its files that comes with it; 0 if none does.
    pub files_bytes: u64,
    /// Whether a snapshot comes with it.
    pub has_snapshot: bool,
}

/// One seat of a new cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// The replica as a holder of capabilities, 1 and up.
    pub holder: u16,
    /// First entry of its own range for derived capabilities.
    pub derived_base: u32,
    /// Descriptors in each ring of its link.
    pub ring_entries: u32,
}

/// Node to template: make a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The node's number for it.
    pub cell: u32,
    /// The core that it should run on, or [`ANY_CORE`].
    pub core: u32,
    /// One seat for each function of the plan.
    pub seats: [Seat; SEATS_MAX],
    /// How many of them are used.
    pub count: u32,
}

/// Run anywhere.
pub const ANY_CORE: u32 = u32::MAX;

/// A message from the node to a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a message lives as long as it is read, on the stack")]
pub enum ToTemplate {
    /// The mappings and the plan.
    Setup(Setup),
    /// Load a function.
    Load(Load),
    /// Make a cell.
    Fork(Fork),
}

/// A message from a template or a cell to the node. The text, where there is one, is what follows in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromCell {
    /// Function `index` has come to its first receive.
    Loaded {
        /// Its place in the plan.
        index: u32,
        /// From the order to load it to its first receive, nanoseconds.
        load_ns: u64,
        /// Bytes of the snapshot that comes with this message; 0 if none does.
        snapshot_bytes: u64,
    },
    /// Function `index` cannot be loaded; the text says why and what to do.
    Failed {
        /// Its place in the plan.
        index: u32,
    },
    /// A cell was made; its pidfd comes with this message.
    Forked {
        /// The node's number for it.
        cell: u32,
    },
    /// A cell has ended.
    Ended {
        /// The node's number for it.
        cell: u32,
        /// As `waitid` says: `CLD_EXITED`, `CLD_KILLED` or `CLD_DUMPED`.
        code: i32,
        /// Exit status or signal.
        status: i32,
    },
    /// The cell takes requests.
    Ready,
    /// A line of `seat`'s output.
    Log {
        /// Whose.
        seat: u32,
        /// 1 for standard output, 2 for standard error and the log gate.
        stream: u32,
    },
    /// `seat` was reset after a fault. The first line of the text says what happened; each further line is the return address
    /// of one more frame of the guest's stack, innermost first: `0x`, hexadecimal digits, counted as `at` is.
    Fault {
        /// Whose.
        seat: u32,
        /// Address of the instruction, from the start of the image; 0 if it was not in it.
        at: u64,
    },
    /// `seat` makes several calls of a function of its own cell at once, long ones: it wants edges to that function in the
    /// other cells of its kind, from now on.
    Roads {
        /// The caller's.
        seat: u32,
        /// The called function's seat.
        callee: u32,
    },
}

const SETUP: u32 = 0x4254_4311;
const LOAD: u32 = 0x4254_4314;
const FORK: u32 = 0x4254_4313;
const LOADED: u32 = 0x4254_4321;
const FAILED: u32 = 0x4254_4322;
const FORKED: u32 = 0x4254_4323;
const ENDED: u32 = 0x4254_4324;
const READY: u32 = 0x4254_4325;
const LOG: u32 = 0x4254_4326;
const FAULT: u32 = 0x4254_4327;
const ROADS: u32 = 0x4254_4328;

/// Bytes of an encoded message from the node.
pub const TO_TEMPLATE_BYTES: usize = 16 + SEATS_MAX * 12;
/// Bytes of an encoded message to the node, in front of its text.
pub const FROM_CELL_BYTES: usize = 24;

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

struct Out<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Out<N> {
    fn new(kind: u32) -> Self {
        Out { bytes: [0; N], at: 0 }.u32(kind)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        let end = self.at + bytes.len();
        if let Some(space) = self.bytes.get_mut(self.at..end) {
            space.copy_from_slice(bytes);
            self.at = end;
        }
        self
    }

    fn u32(self, value: u32) -> Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }
}

impl ToTemplate {
    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> [u8; TO_TEMPLATE_BYTES] {
        match self {
            ToTemplate::Setup(setup) => Out::new(SETUP)
                .u32(setup.abi_version)
                .u32(setup.trust as u32)
                .u64(setup.pool_bytes)
                .u32(setup.slots)
                .u32(setup.functions)
                .u32(setup.plan_bytes)
                .u32(u32::from(setup.trace)),
            ToTemplate::Load(load) => Out::new(LOAD)
                .u32(load.index)
                .u64(load.elf_bytes)
                .u64(load.host_bytes)
                .u64(load.files_bytes)
                .u32(u32::from(load.has_snapshot)),
            ToTemplate::Fork(fork) => {
                let out = Out::new(FORK).u32(fork.cell).u32(fork.core).u32(fork.count);
                fork.seats.iter().fold(out, |out, seat| {
                    out.u32(u32::from(seat.holder)).u32(seat.derived_base).u32(seat.ring_entries)
                })
            }
        }
        .bytes
    }

    /// From the wire; `None` if it is not a message of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<ToTemplate> {
        let mut words = Words(bytes);
        match words.u32()? {
            SETUP => Some(ToTemplate::Setup(Setup {
                abi_version: words.u32()?,
                trust: match words.u32()? {
                    1 => Trust::App,
                    2 => Trust::Buffer,
                    _ => return None,
                },
                pool_bytes: words.u64()?,
                slots: words.u32()?,
                functions: words.u32()?,
                plan_bytes: words.u32()?,
                trace: words.flag()?,
            })),
            LOAD => Some(ToTemplate::Load(Load {
                index: words.u32()?,
                elf_bytes: words.u64()?,
                host_bytes: words.u64()?,
                files_bytes: words.u64()?,
                has_snapshot: words.flag()?,
            })),
            FORK => {
                let (cell, core, count) = (words.u32()?, words.u32()?, words.u32()?);
                let mut seats = [Seat::default(); SEATS_MAX];
                for seat in &mut seats {
                    *seat = Seat {
                        holder: u16::try_from(words.u32()?).ok()?,
                        derived_base: words.u32()?,
                        ring_entries: words.u32()?,
                    };
                }
                (count as usize <= SEATS_MAX).then_some(ToTemplate::Fork(Fork { cell, core, seats, count }))
            }
            _ => None,
        }
    }
}

impl FromCell {
    /// The wire form, without the text.
    #[must_use]
    pub fn encode(&self) -> [u8; FROM_CELL_BYTES] {
        match *self {
            FromCell::Loaded { index, load_ns, snapshot_bytes } => {
                Out::new(LOADED).u32(index).u64(load_ns).u64(snapshot_bytes)
            }
            FromCell::Failed { index } => Out::new(FAILED).u32(index),
            FromCell::Forked { cell } => Out::new(FORKED).u32(cell),
            FromCell::Ended { cell, code, status } => {
                Out::new(ENDED).u32(cell).u32(code.cast_unsigned()).u32(status.cast_unsigned())
            }
            FromCell::Ready => Out::new(READY),
            FromCell::Log { seat, stream } => Out::new(LOG).u32(seat).u32(stream),
            FromCell::Fault { seat, at } => Out::new(FAULT).u32(seat).u64(at),
            FromCell::Roads { seat, callee } => Out::new(ROADS).u32(seat).u32(callee),
        }
        .bytes
    }

    /// From the wire: the message and its text. `None` if it is not a message of this version.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<(FromCell, &[u8])> {
        let (bytes, text) = packet.split_at_checked(FROM_CELL_BYTES)?;
        let mut words = Words(bytes);
        let message = match words.u32()? {
            LOADED => {
                FromCell::Loaded { index: words.u32()?, load_ns: words.u64()?, snapshot_bytes: words.u64()? }
            }
            FAILED => FromCell::Failed { index: words.u32()? },
            FORKED => FromCell::Forked { cell: words.u32()? },
            ENDED => FromCell::Ended {
                cell: words.u32()?,
                code: words.u32()?.cast_signed(),
                status: words.u32()?.cast_signed(),
            },
            READY => FromCell::Ready,
            LOG => FromCell::Log { seat: words.u32()?, stream: words.u32()? },
            FAULT => FromCell::Fault { seat: words.u32()?, at: words.u64()? },
            ROADS => FromCell::Roads { seat: words.u32()?, callee: words.u32()? },
            _ => return None,
        };
        Some((message, text))
    }
}

/// How much of the pool a seat may use, from the plan's word.
#[must_use]
pub const fn access_of(raw: u32) -> Option<PoolAccess> {
    match raw {
        0 => Some(PoolAccess::Absent),
        1 => Some(PoolAccess::Read),
        2 => Some(PoolAccess::Write),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_to_a_template_survive_the_wire() {
        let setup = ToTemplate::Setup(Setup {
            abi_version: 2,
            trust: Trust::Buffer,
            pool_bytes: 1 << 33,
            slots: 65_536,
            functions: 10,
            plan_bytes: 1234,
            trace: true,
        });
        let mut seats = [Seat::default(); SEATS_MAX];
        seats[12] = Seat { holder: 9, derived_base: 70_000, ring_entries: 256 };
        let fork = ToTemplate::Fork(Fork { cell: 3, core: ANY_CORE, seats, count: 13 });
        let load = ToTemplate::Load(Load {
            index: 2,
            elf_bytes: 5 << 30,
            host_bytes: 7 << 30,
            files_bytes: 6 << 30,
            has_snapshot: false,
        });
        for message in [setup, fork, load] {
            assert_eq!(ToTemplate::decode(&message.encode()), Some(message));
        }
        assert_eq!(ToTemplate::decode(&[0; TO_TEMPLATE_BYTES]), None);
    }

    #[test]
    fn messages_to_the_node_survive_the_wire_with_their_text() {
        let all = [
            FromCell::Loaded { index: 1, load_ns: 1 << 40, snapshot_bytes: 77 },
            FromCell::Failed { index: 12 },
            FromCell::Forked { cell: u32::MAX },
            FromCell::Ended { cell: 4, code: 2, status: -11 },
            FromCell::Ready,
            FromCell::Log { seat: 3, stream: 2 },
            FromCell::Fault { seat: 3, at: 0x1234_5678_9abc },
        ];
        for message in all {
            let mut packet = message.encode().to_vec();
            packet.extend_from_slice(b"text");
            assert_eq!(FromCell::decode(&packet), Some((message, b"text".as_slice())));
        }
        assert_eq!(FromCell::decode(b"short"), None);
    }
}
