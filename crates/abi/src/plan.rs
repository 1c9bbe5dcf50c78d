//! The plan of a cell: what its functions are called, get told and may use. The node writes it into a memory file, the
//! template reads it once.
//!
//! A plan is one record a function, one behind the other. A record is fixed words and then byte strings, each a `u32`
//! length and its bytes: the name; the arguments, the environment (`KEY=value`), the names of the callees; and the patches
//! of the executable, each an address as `u64` and the bytes that belong there. Everything is little-endian.

/// Most strings of one list.
pub const STRINGS_MAX: u32 = 1024;
/// Most bytes of one patch: the longest instruction, another that completes it, and a jump.
pub const PATCH_BYTES_MAX: usize = 32;

const ADDRESS_BYTES: usize = 8;

/// One function of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// How much of the pool it may use, as [`crate::boot::PoolAccess`].
    pub access: u32,
    /// Requests at once.
    pub concurrency: u32,
    /// How long one call may take, nanoseconds.
    pub timeout_ns: u64,
    /// Private memory, bytes.
    pub memory_bytes: u64,
    /// Back to the snapshot after every request.
    pub reset: bool,
    /// Functions with the same number other than 0 share a memory key.
    pub key_group: u32,
    /// Whether it sees the pool in a window as well, within reach of a Wasm module.
    pub window: bool,
    /// The argument vector.
    pub args: Strings<'a>,
    /// The environment.
    pub env: Strings<'a>,
    /// The functions that it may call, by name; the index in this list is the gate's argument.
    pub calls: Strings<'a>,
    /// For each of `calls`: how long a call of it may take, nanoseconds, as eight bytes.
    pub call_timeouts: Strings<'a>,
    /// What is written over the executable's code before it is scanned, each as [`Patch::parse`] reads it.
    pub patches: Strings<'a>,
}

/// Bytes that take the place of others in an executable's code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patch {
    at: u64,
    len: usize,
    /// Zero behind `len`.
    bytes: [u8; PATCH_BYTES_MAX],
}

impl Patch {
    /// `bytes` at address `at`, which counts from the seat's base. `None` if they are too many.
    #[must_use]
    pub fn new(at: u64, bytes: &[u8]) -> Option<Patch> {
        let mut patch = Patch { at, len: bytes.len(), bytes: [0; PATCH_BYTES_MAX] };
        patch.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(patch)
    }

    /// A patch as a plan has it: the address in eight bytes, then the bytes.
    #[must_use]
    pub fn parse(string: &[u8]) -> Option<Patch> {
        let (at, bytes) = string.split_first_chunk::<ADDRESS_BYTES>()?;
        Patch::new(u64::from_le_bytes(*at), bytes)
    }

    /// Address of its first byte, from the seat's base.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl core::fmt::Debug for Patch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}: {:02x?}", self.at, self.bytes())
    }
}

/// A list of byte strings inside a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strings<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    /// Number of strings.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = Reader(self.bytes);
        (0..self.count).map_while(move |_| reader.string())
    }

    /// The strings as numbers; those that are not eight bytes long are left out.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + use<'a> {
        self.iter().filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn strings(&mut self) -> Option<Strings<'a>> {
        let count = self.u32().filter(|&count| count <= STRINGS_MAX)?;
        let all = self.0;
        for _ in 0..count {
            self.string()?;
        }
        let used = all.len() - self.0.len();
        Some(Strings { count, bytes: all.get(..used)? })
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let name = core::str::from_utf8(self.string()?).ok()?;
        Some(Entry {
            name,
            access: self.u32()?,
            concurrency: self.u32()?,
            timeout_ns: self.u64()?,
            memory_bytes: self.u64()?,
            reset: self.u32()? != 0,
            key_group: self.u32()?,
            window: self.u32()? != 0,
            args: self.strings()?,
            env: self.strings()?,
            calls: self.strings()?,
            call_timeouts: self.strings()?,
            patches: self.strings()?,
        })
    }
}

/// The functions of a plan. Ends early where the plan is malformed.
pub fn entries(plan: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut reader = Reader(plan);
    core::iter::from_fn(move || reader.entry())
}

/// Writes plans, through a sink that takes bytes.
pub struct Writer<F: FnMut(&[u8])> {
    sink: F,
}

/// What [`Writer::entry`] writes: as [`Entry`], with lists of one's own.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// See [`Entry::name`].
    pub name: &'a str,
    /// See [`Entry::access`].
    pub access: u32,
    /// See [`Entry::concurrency`].
    pub concurrency: u32,
    /// See [`Entry::timeout_ns`].
    pub timeout_ns: u64,
    /// See [`Entry::memory_bytes`].
    pub memory_bytes: u64,
    /// See [`Entry::reset`].
    pub reset: bool,
    /// See [`Entry::key_group`].
    pub key_group: u32,
    /// See [`Entry::window`].
    pub window: bool,
    /// See [`Entry::args`].
    pub args: &'a [&'a [u8]],
    /// See [`Entry::env`].
    pub env: &'a [&'a [u8]],
    /// Names of the callees and how long a call of each may take, nanoseconds.
    pub calls: &'a [(&'a str, u64)],
    /// See [`Entry::patches`].
    pub patches: &'a [Patch],
}

impl<F: FnMut(&[u8])> Writer<F> {
    /// A writer into `sink`.
    pub fn new(sink: F) -> Writer<F> {
        Writer { sink }
    }

    fn u32(&mut self, value: u32) {
        (self.sink)(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        (self.sink)(&value.to_le_bytes());
    }

    fn string(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(0));
        (self.sink)(bytes);
    }

    fn patch(&mut self, patch: &Patch) {
        let len = ADDRESS_BYTES + patch.bytes().len();
        self.u32(u32::try_from(len).unwrap_or(0));
        self.u64(patch.at);
        (self.sink)(patch.bytes());
    }

    fn count(&mut self, len: usize) {
        self.u32(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Writes one function.
    pub fn entry(&mut self, entry: &NewEntry<'_>) {
        self.string(entry.name.as_bytes());
        self.u32(entry.access);
        self.u32(entry.concurrency);
        self.u64(entry.timeout_ns);
        self.u64(entry.memory_bytes);
        self.u32(u32::from(entry.reset));
        self.u32(entry.key_group);
        self.u32(u32::from(entry.window));
        for list in [entry.args, entry.env] {
            self.count(list.len());
            list.iter().for_each(|string| self.string(string));
        }
        self.count(entry.calls.len());
        entry.calls.iter().for_each(|(name, _)| self.string(name.as_bytes()));
        self.count(entry.calls.len());
        entry.calls.iter().for_each(|(_, timeout_ns)| self.string(&timeout_ns.to_le_bytes()));
        self.count(entry.patches.len());
        entry.patches.iter().for_each(|patch| self.patch(patch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(entry: &NewEntry<'_>) -> Vec<u8> {
        let mut plan = Vec::new();
        Writer::new(|bytes: &[u8]| plan.extend_from_slice(bytes)).entry(entry);
        plan
    }

    #[test]
    fn a_plan_survives_the_wire_and_its_ruins_are_refused() {
        let patches = [Patch::new(0x10df66, &[0x0f, 0x0b, 0xcc]).unwrap(), Patch::new(7, &[]).unwrap()];
        let entry = NewEntry {
            name: "cart",
            access: 2,
            concurrency: 64,
            timeout_ns: 2_000_000_000,
            memory_bytes: 64 << 20,
            reset: true,
            key_group: 0,
            window: true,
            args: &[b"cart", b""],
            env: &[b"A=b"],
            calls: &[("catalog", 5), ("currency", 7)],
            patches: &patches,
        };
        let mut plan = write(&entry);
        let one = plan.len();
        plan.extend(write(&NewEntry { name: "ad", ..entry }));
        let read: Vec<Entry<'_>> = entries(&plan).collect();
        assert_eq!(read.len(), 2);
        let first = read[0];
        assert_eq!(
            (first.name, first.timeout_ns, first.reset && first.window),
            ("cart", 2_000_000_000, true)
        );
        assert_eq!(first.args.iter().collect::<Vec<_>>(), [b"cart".as_slice(), b""]);
        assert_eq!(first.calls.iter().collect::<Vec<_>>(), [b"catalog".as_slice(), b"currency"]);
        assert_eq!(first.call_timeouts.numbers().collect::<Vec<_>>(), [5, 7]);
        let read_patches: Vec<Patch> = first.patches.iter().filter_map(Patch::parse).collect();
        assert_eq!(read_patches, patches);
        assert_eq!(read[1].name, "ad");
        for cut in 0..one {
            assert_eq!(entries(&plan[..cut]).count(), 0, "cut at {cut}");
        }
    }

    #[test]
    fn a_patch_without_an_address_or_with_too_many_bytes_is_none() {
        assert_eq!(Patch::parse(&[1; ADDRESS_BYTES - 1]), None);
        let longest = Patch::parse(&[1; ADDRESS_BYTES + PATCH_BYTES_MAX]).unwrap();
        assert_eq!((longest.at(), longest.bytes()), (0x0101_0101_0101_0101, [1; PATCH_BYTES_MAX].as_slice()));
        assert_eq!(Patch::parse(&[1; ADDRESS_BYTES + PATCH_BYTES_MAX + 1]), None);
    }
}
