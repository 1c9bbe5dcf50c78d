//! Small executables, made header by header, for tests that break one thing at a time.

/// A program header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) at: u64,
    pub(crate) file_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) align: u64,
}

pub(crate) const LOAD: u32 = 1;
pub(crate) const DYNAMIC: u32 = 2;
pub(crate) const INTERP: u32 = 3;
pub(crate) const TLS: u32 = 7;
pub(crate) const STACK: u32 = 0x6474_e551;
pub(crate) const RELRO: u32 = 0x6474_e552;

pub(crate) const X: u32 = 1;
pub(crate) const W: u32 = 2;
pub(crate) const R: u32 = 4;

/// Where in a [`Sample`] the headers, the code and the data begin; the data's address is one page further on.
pub(crate) const CODE: u64 = 0x1000;
pub(crate) const DATA: u64 = 0x2000;
pub(crate) const DATA_AT: u64 = 0x3000;
/// Where in the data its tables begin: nothing there is relocated.
pub(crate) const TABLES_AT: u64 = DATA_AT + 0x800;

/// An executable in the making.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) class: u8,
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) entry: u64,
    pub(crate) header_bytes: u16,
    pub(crate) headers: Vec<Header>,
    /// What lies behind the headers, from offset [`CODE`].
    pub(crate) body: Vec<u8>,
}

impl Sample {
    /// One that is accepted: headers, a page of code, a page of data and four of zeros.
    pub(crate) fn new() -> Sample {
        let load = |flags, offset, at, file_bytes, memory_bytes| Header {
            kind: LOAD,
            flags,
            offset,
            at,
            file_bytes,
            memory_bytes,
            align: 0x1000,
        };
        Sample {
            class: 2,
            kind: 3,
            machine: 62,
            entry: CODE + 0x10,
            header_bytes: 56,
            headers: vec![
                load(R, 0, 0, 0x400, 0x400),
                load(R | X, CODE, CODE, 0x1000, 0x1000),
                load(R | W, DATA, DATA_AT, 0x1000, 0x5000),
                Header { kind: STACK, flags: R | W, ..Header::default() },
            ],
            body: vec![0; 0x2000],
        }
    }

    /// Adds a program header.
    pub(crate) fn with(mut self, header: Header) -> Sample {
        self.headers.push(header);
        self
    }

    /// Writes into code or data, by address.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let offset = if at >= DATA_AT { at - DATA_AT + DATA } else { at };
        let start = usize::try_from(offset - CODE).unwrap();
        self.body[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds a dynamic section with these entries at the start of the tables.
    pub(crate) fn with_dynamic(mut self, entries: &[(u64, u64)]) -> Sample {
        let mut section = Vec::new();
        for (tag, value) in entries.iter().chain(&[(0, 0)]) {
            section.extend_from_slice(&tag.to_le_bytes());
            section.extend_from_slice(&value.to_le_bytes());
        }
        self.put(TABLES_AT, &section);
        let bytes = section.len() as u64;
        self.with(Header {
            kind: DYNAMIC,
            flags: R,
            offset: TABLES_AT - DATA_AT + DATA,
            at: TABLES_AT,
            file_bytes: bytes,
            memory_bytes: bytes,
            align: 8,
        })
    }

    /// Adds an interpreter, which makes relocations the loader's.
    pub(crate) fn with_interpreter(self) -> Sample {
        self.with(Header { kind: INTERP, flags: R, ..Header::default() })
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = vec![0; usize::try_from(CODE).unwrap()];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF");
        put(4, &[self.class, 1, 1]);
        put(16, &self.kind.to_le_bytes());
        put(18, &self.machine.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &self.header_bytes.to_le_bytes());
        put(56, &u16::try_from(self.headers.len()).unwrap().to_le_bytes());
        for (index, header) in self.headers.iter().enumerate() {
            let at = 64 + index * 56;
            put(at, &header.kind.to_le_bytes());
            put(at + 4, &header.flags.to_le_bytes());
            put(at + 8, &header.offset.to_le_bytes());
            put(at + 16, &header.at.to_le_bytes());
            put(at + 32, &header.file_bytes.to_le_bytes());
            put(at + 40, &header.memory_bytes.to_le_bytes());
            put(at + 48, &header.align.to_le_bytes());
        }
        file.extend_from_slice(&self.body);
        file
    }
}
