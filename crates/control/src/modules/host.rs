//! The programs in which the executables of Wasm functions go on: one for all modules, and one for all components.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};

use baton_cell::elf::Image;
use baton_flow::Patch;

use super::{ModuleError, Modules};
use crate::artifacts::{ArtifactHash, VetError, Vetted, vet, vet_module};

const PREFIX: &str = "host-";

/// The program as it was when this node first needed it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: blake3::Hash,
    /// Where this node keeps it.
    pub(crate) path: PathBuf,
    /// What lies behind this many bytes is loaded nowhere.
    loaded: usize,
    vetted: OnceLock<Result<Vetted, VetError>>,
}

impl Host {
    /// What a cell writes over the code of a Wasm function: over this program's, which is found out once, and over the module's
    /// own.
    pub(crate) fn patches_with(&self, executable: &[u8]) -> Result<Vec<Patch>, VetError> {
        let mut patches = self.vetted.get_or_init(|| vet(&self.bytes)).clone()?.patches;
        patches.extend(vet_module(&self.behind(executable))?.patches);
        Ok(patches)
    }

    /// An executable and what is loaded of this program, as one file. `executable` is without its seal.
    pub(crate) fn behind(&self, executable: &[u8]) -> Vec<u8> {
        let loaded = self.bytes.get(..self.loaded).unwrap_or(&self.bytes);
        let border = executable.len().next_multiple_of(baton_wasm::HEADER_BYTES);
        let mut whole = Vec::with_capacity(border + loaded.len());
        whole.extend_from_slice(executable);
        whole.resize(border, 0);
        whole.extend_from_slice(loaded);
        whole
    }
}

/// How much of a program's file is loaded; all of what is no program.
fn loaded(program: &[u8]) -> usize {
    let ends = |image: Image| image.segments().iter().map(|one| one.offset + one.file_bytes).max();
    let end = Image::parse(program).ok().and_then(ends);
    end.and_then(|end| usize::try_from(end).ok()).unwrap_or(program.len())
}

/// What a program is called in the directory.
pub(super) fn name(hash: &blake3::Hash) -> String {
    format!("{PREFIX}{}", hash.to_hex())
}

/// Whether a name is a program's.
pub(super) fn is_one(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|hash| blake3::Hash::from_hex(hash).is_ok())
}

/// Whether a file has a component in it.
fn is_component(module: &Path) -> io::Result<bool> {
    let mut first = [0; 8];
    let is_whole = File::open(module)?.read_exact(&mut first).is_ok();
    Ok(is_whole && baton_wasm::is_component(&first))
}

impl Modules {
    /// The program that runs what is in a file.
    pub(crate) fn host_of(&self, module: &Path) -> Result<Arc<Host>, ModuleError> {
        let is_component = is_component(module).map_err(|error| self.io(module, error))?;
        self.host(usize::from(is_component))
    }

    /// All programs.
    pub(super) fn hosts(&self) -> Result<[Arc<Host>; 2], ModuleError> {
        Ok([self.host(0)?, self.host(1)?])
    }

    /// A program, as it is known. It is read once.
    fn host(&self, which: usize) -> Result<Arc<Host>, ModuleError> {
        self.programs.check()?;
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let [module, component] = &mut *hosts;
        let (known, installed) = match which {
            0 => (module, &self.programs.host),
            _ => (component, &self.programs.component_host),
        };
        if let Some(host) = known {
            return Ok(Arc::clone(host));
        }
        let bytes = fs::read(installed).map_err(|error| self.io(installed, error))?;
        let hash = blake3::hash(&bytes);
        let path = self.directory.join(name(&hash));
        let loaded = loaded(&bytes);
        let host = Arc::new(Host { bytes, hash, path, loaded, vetted: OnceLock::new() });
        Ok(Arc::clone(known.insert(host)))
    }

    /// Has a program lie where it is kept, for cells to load: what is there has just been compared with what is known.
    pub(crate) fn keep_host(&self, host: &Host) -> Result<(), ModuleError> {
        match ArtifactHash::of_file(&host.path) {
            Ok(kept) if kept.bytes() == host.hash.as_bytes() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.io(&host.path, error));
            }
            _ => self.write(&host.path, &[&host.bytes]).map_err(|error| self.io(&host.path, error))?,
        }
        Ok(())
    }
}
