//! From a module to an artifact.

mod grow;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod smith;

use std::fmt;
use std::ops::Range;

use wasmtime::Engine;

use crate::artifact::{HEADER_BYTES, Header, Kind};
use crate::check::{CheckError, check};
use crate::elf::{EXECUTABLE, Elf};
use crate::maker::{ENGINE_VERSION, Maker};
use crate::settings::settings;

/// Why there is no artifact.
#[derive(Debug)]
pub enum CompileError {
    /// The module is refused.
    Check(CheckError),
    /// Its instructions that ask for memory cannot be replaced.
    Grow(grow::GrowError),
    /// The compiler gives up.
    Engine(wasmtime::Error),
    /// The compiler made something that cannot be laid into memory.
    Layout,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(error) => write!(f, "{error}"),
            Self::Grow(error) => {
                write!(f, "the module's `memory.grow` cannot be led to the host: {error}; build it without")
            }
            Self::Engine(error) => write!(f, "it cannot be compiled: {error:#}"),
            Self::Layout => f.write_str("the compiler made code that is not whole pages: use another build"),
        }
    }
}

impl std::error::Error for CompileError {}

/// Checks and compiles a module or a component.
///
/// # Errors
/// It is refused, or the compiler gives up.
pub fn compile(module: &[u8]) -> Result<Vec<u8>, CompileError> {
    let checked = check(module).map_err(CompileError::Check)?;
    let engine = Engine::new(&settings(checked.kind)).map_err(CompileError::Engine)?;
    let code = match checked.kind {
        Kind::Module => {
            let by_host = grow::by_host(module).map_err(CompileError::Grow)?;
            engine.precompile_module(by_host.as_deref().unwrap_or(module))
        }
        Kind::Component { .. } => engine.precompile_component(module),
    };
    let code = code.map_err(CompileError::Engine)?;
    let text = text(&code).ok_or(CompileError::Layout)?;
    let header = Header {
        maker: Maker::here(),
        kind: checked.kind,
        module: *blake3::hash(module).as_bytes(),
        code_bytes: code.len() as u64,
        resets_by_memory: checked.resets_by_memory,
        memory_bytes: checked.memory_bytes,
        memory_bytes_max: checked.memory_bytes_max,
        text: text.start + HEADER_BYTES as u64..text.end + HEADER_BYTES as u64,
        engine: ENGINE_VERSION.to_owned(),
    };
    let mut artifact = header.encode();
    artifact.extend_from_slice(&code);
    Ok(artifact)
}

/// The executable section of the ELF file that the engine makes: whole pages.
fn text(code: &[u8]) -> Option<Range<u64>> {
    const PAGE: u64 = HEADER_BYTES as u64;
    let mut found = Elf(code).sections()?.filter(|section| section.flags & EXECUTABLE != 0);
    let text = found.next()?.file;
    let is_right = found.next().is_none() && text.start.is_multiple_of(PAGE) && text.end.is_multiple_of(PAGE);
    is_right.then_some(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: &str = r#"(module
        (import "baton" "gate" (func (param i32 i64 i64 i64) (result i64)))
        (memory (export "memory") 2 4)
        (func (export "baton_parcel") (result i32) i32.const 64)
        (func (export "baton_event")))"#;

    #[test]
    fn a_module_becomes_an_artifact_that_the_engine_takes() {
        let module = wat::parse_str(SMALL).unwrap();
        let artifact = compile(&module).unwrap();
        let header = Header::read(&artifact).unwrap();
        assert_eq!(header.module, *blake3::hash(&module).as_bytes());
        assert_eq!((header.memory_bytes, header.memory_bytes_max), (2 << 16, 4 << 16));
        assert!(header.resets_by_memory);
        let text = Elf(&artifact).bytes(&header.text).unwrap();
        assert!(!text.is_empty() && text.iter().any(|byte| *byte != 0));
        let kind = Engine::detect_precompiled(&artifact[HEADER_BYTES..]);
        assert_eq!(kind, Some(wasmtime::Precompiled::Module));
        assert_eq!(artifact, compile(&module).unwrap(), "the same module gives the same artifact");
    }

    #[test]
    fn a_refused_module_is_not_compiled() {
        assert!(matches!(compile(b"\x7fELF"), Err(CompileError::Check(_))));
    }
}
