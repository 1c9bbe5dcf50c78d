//! What a compiled module is stored as: a page of header, then wasmtime's precompiled module.
//!
//! ```text
//!  0          8          40        48        80         88      96        104       112       120        128
//!   "BTNWASM1"│ settings │ features│ module  │ code     │ flags │ memory: │ memory: │ text:   │ text:    │ engine's
//!             │ hash     │ of CPU  │ hash    │ bytes    │       │ initial │ maximum │ offset  │ bytes    │ version … 4096
//! ```
//! Numbers are little-endian. The header is a page so that what follows can be mapped. Who takes an artifact from the
//! disk authenticates it first: it is code. What is checked here is that it was made for this engine.

use std::fmt;
use std::ops::Range;

use crate::maker::{ENGINE_VERSION, Maker};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 4096;
/// What an artifact begins with.
pub const MAGIC: &[u8; 8] = b"BTNWASM1";

const RESETS_BY_MEMORY: u64 = 1;
const COMPONENT: u64 = 2;
const ASYNC: u64 = 4;
const VERSION_BYTES: usize = 16;

/// What was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A core module, which knows the gates of Baton.
    Module,
    /// A component, which serves requests as `wasi:http` has them.
    Component {
        /// Whether it uses what components of WASI 0.3 do: asynchronous functions, streams and futures.
        is_async: bool,
    },
}

impl Kind {
    /// What an artifact says, which somebody has checked.
    #[must_use]
    pub fn said_by(artifact: &[u8]) -> Kind {
        let flags = artifact
            .get(88..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |word| u64::from_le_bytes(*word));
        Kind::of(flags)
    }

    const fn flags(self) -> u64 {
        match self {
            Kind::Module => 0,
            Kind::Component { is_async: false } => COMPONENT,
            Kind::Component { is_async: true } => COMPONENT | ASYNC,
        }
    }

    const fn of(flags: u64) -> Kind {
        if flags & COMPONENT == 0 { Kind::Module } else { Kind::Component { is_async: flags & ASYNC != 0 } }
    }
}

/// Whether a file is a component: that is what its first eight bytes say.
#[must_use]
pub fn is_component(file: &[u8]) -> bool {
    matches!(file.first_chunk(), Some([0, b'a', b's', b'm', _, _, 1, 0]))
}

/// What an artifact says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it was made for.
    pub maker: Maker,
    /// What it was made from.
    pub kind: Kind,
    /// BLAKE3 of that.
    pub module: [u8; 32],
    /// Bytes behind the header.
    pub code_bytes: u64,
    /// Whether putting the memory back is enough for the module to begin anew.
    pub resets_by_memory: bool,
    /// Bytes of memory at the start.
    pub memory_bytes: u64,
    /// Bytes that the memory may grow to.
    pub memory_bytes_max: u64,
    /// The executable part, from the start of the artifact; whole pages.
    pub text: Range<u64>,
    /// The engine's version, to be told.
    pub engine: String,
}

/// Why an artifact is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It does not begin with [`MAGIC`].
    NotAnArtifact,
    /// It ends too early, or is too long.
    Length {
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A number in its header cannot be.
    Damaged {
        /// Which.
        what: &'static str,
    },
    /// It was made for another engine, or under other settings.
    Engine {
        /// The engine's version.
        made_for: String,
    },
    /// It was made for a processor that has more.
    Processor {
        /// What is missing here.
        missing: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArtifact => f.write_str("this is no compiled module; deploy the function again")?,
            Self::Length { expected, found } => write!(
                f,
                "the compiled module has {found} bytes, its header says {expected}; deploy the function again"
            )?,
            Self::Damaged { what } => {
                write!(f, "the compiled module's header is damaged ({what}); deploy the function again")?;
            }
            Self::Engine { made_for } => write!(
                f,
                "the module was compiled for engine {made_for}, this is {ENGINE_VERSION} with settings of its own; \
                 use `baton`, `baton-wasmc` and the program of cells of one build"
            )?,
            Self::Processor { missing } => write!(
                f,
                "the module was compiled for a processor with {missing}, which this one lacks; deploy the function again"
            )?,
        }
        Ok(())
    }
}

impl std::error::Error for ReadError {}

impl Header {
    /// The page that comes before the code.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(HEADER_BYTES);
        page.extend_from_slice(MAGIC);
        page.extend_from_slice(&self.maker.settings);
        page.extend_from_slice(&self.maker.features.to_le_bytes());
        page.extend_from_slice(&self.module);
        let flags = self.kind.flags() | if self.resets_by_memory { RESETS_BY_MEMORY } else { 0 };
        let text_bytes = self.text.end.saturating_sub(self.text.start);
        for number in
            [self.code_bytes, flags, self.memory_bytes, self.memory_bytes_max, self.text.start, text_bytes]
        {
            page.extend_from_slice(&number.to_le_bytes());
        }
        page.extend(self.engine.bytes().take(VERSION_BYTES));
        page.resize(HEADER_BYTES, 0);
        page
    }

    /// What `artifact` says of itself, for [`Maker::here`].
    ///
    /// # Errors
    /// It is damaged, or was made for another engine or processor.
    pub fn read(artifact: &[u8]) -> Result<Header, ReadError> {
        Self::read_for(artifact, &Maker::here())
    }

    /// What `artifact` says of itself, for a maker.
    ///
    /// # Errors
    /// As for [`Header::read`].
    pub fn read_for(artifact: &[u8], here: &Maker) -> Result<Header, ReadError> {
        if !artifact.starts_with(MAGIC) {
            return Err(ReadError::NotAnArtifact);
        }
        let short = ReadError::Length { expected: HEADER_BYTES as u64, found: artifact.len() as u64 };
        let page = artifact.first_chunk::<HEADER_BYTES>().ok_or(short)?;
        let header = Self::decode(page);
        header.believe(artifact.len() as u64)?;
        if header.maker.settings != here.settings {
            return Err(ReadError::Engine { made_for: header.engine });
        }
        let missing: Vec<&str> = header.maker.missing_features(here).collect();
        if !missing.is_empty() {
            return Err(ReadError::Processor { missing: missing.join(", ") });
        }
        Ok(header)
    }

    fn decode(page: &[u8; HEADER_BYTES]) -> Header {
        let bytes = |at: usize, len: usize| page.get(at..at + len).unwrap_or_default();
        let hash = |at| bytes(at, 32).try_into().unwrap_or_default();
        let number = |at| u64::from_le_bytes(bytes(at, 8).try_into().unwrap_or_default());
        let version = bytes(128, VERSION_BYTES).iter().take_while(|byte| byte.is_ascii_graphic());
        let text = number(112);
        Header {
            maker: Maker { settings: hash(8), features: number(40) },
            kind: Kind::of(number(88)),
            module: hash(48),
            code_bytes: number(80),
            resets_by_memory: number(88) & RESETS_BY_MEMORY != 0,
            memory_bytes: number(96),
            memory_bytes_max: number(104),
            text: text..text.saturating_add(number(120)),
            engine: version.map(|byte| char::from(*byte)).collect(),
        }
    }

    fn believe(&self, found: u64) -> Result<(), ReadError> {
        let expected = self.code_bytes.saturating_add(HEADER_BYTES as u64);
        if expected != found {
            return Err(ReadError::Length { expected, found });
        }
        let damaged = |what| Err(ReadError::Damaged { what });
        if self.text.start < HEADER_BYTES as u64 || self.text.end > found {
            return damaged("its code lies outside");
        }
        let is_page = |at: u64| at.is_multiple_of(HEADER_BYTES as u64);
        if !is_page(self.text.start) || !is_page(self.text.end) {
            return damaged("its code is not whole pages");
        }
        if self.memory_bytes > self.memory_bytes_max {
            return damaged("its memory is larger than it may be");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn artifact(code: &[u8], text: Range<u64>) -> Vec<u8> {
        let header = Header {
            maker: Maker::here(),
            kind: Kind::Component { is_async: true },
            module: [7; 32],
            code_bytes: code.len() as u64,
            resets_by_memory: true,
            memory_bytes: 1 << 16,
            memory_bytes_max: 1 << 20,
            text,
            engine: ENGINE_VERSION.to_owned(),
        };
        [header.encode(), code.to_vec()].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let artifact = artifact(&[1; 5000], 4096..8192);
        let header = Header::read(&artifact).unwrap();
        assert_eq!((header.code_bytes, header.text.clone()), (5000, 4096..8192));
        assert_eq!((header.memory_bytes, header.memory_bytes_max), (1 << 16, 1 << 20));
        assert_eq!(header.kind, Kind::Component { is_async: true });
        assert!(header.resets_by_memory && header.engine == ENGINE_VERSION && header.module == [7; 32]);
        assert_eq!(header.encode(), artifact[..HEADER_BYTES]);
    }

    #[test]
    fn others_are_refused_with_a_reason() {
        let good = artifact(&[1; 5000], 4096..8192);
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            Header::read(&bytes).unwrap_err().to_string()
        };
        assert!(refused(&|bytes| bytes[0] = 0).contains("no compiled module"));
        assert!(refused(&|bytes| bytes.truncate(100)).contains("100 bytes"));
        assert!(refused(&|bytes| bytes.push(0)).contains("9097 bytes, its header says 9096"));
        assert!(refused(&|bytes| bytes[8] ^= 1).contains("engine 48.0.8"));
        assert!(refused(&|bytes| bytes[112] = 1).contains("is not whole pages"));
        let mut poorer = Maker::here();
        let feature = poorer.features & poorer.features.wrapping_neg();
        poorer.features ^= feature;
        let error = Header::read_for(&good, &poorer).unwrap_err();
        assert!(matches!(error, ReadError::Processor { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..4096) {
            let mut damaged = artifact(&[1; 4096], 4096..8192);
            for (place, byte) in damaged.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            if let Ok(header) = Header::read(&damaged) {
                prop_assert!(header.text.end <= damaged.len() as u64);
            }
            let _ = Header::read(&bytes);
        }
    }
}
