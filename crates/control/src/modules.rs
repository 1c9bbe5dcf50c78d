//! Wasm modules as executables: `$BATON_HOME/wasm`.
//!
//! ```text
//!   artifact (a module) ── baton-wasmc, a process ──▶ code ── weld ──▶ <key>: an executable, then 32 bytes of authentication
//!                          baton-wasm-host ──▶ host-<hash>: the program in which all of them go on
//! ```
//! The key covers the module, the engine and its settings, the processor and the program that runs modules. So what is stale
//! has another name, and is made anew where it is missing. An executable is used only if this node stored these very bytes
//! under this very key; one that does not bear checking is removed and made anew. The program is taken once in a node's
//! life: that its file is replaced meanwhile changes nothing for what runs. Everything here blocks.

mod child;
mod error;
mod host;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use baton_wasm::{Header, Maker, SEAL_BYTES, weld, welded};

pub use self::error::ModuleError;
pub(crate) use self::host::Host;
use crate::artifacts::{ArtifactError, ArtifactHash, INCOMING, open_directory};

const SECRET: &str = "secret";
const MAC_BYTES: usize = SEAL_BYTES;
const MODE: u32 = 0o400;

/// The programs without which there are no Wasm functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Compiles modules and components.
    pub compiler: PathBuf,
    /// Runs a module as a guest of a compartment.
    pub host: PathBuf,
    /// Runs a component as a guest of a compartment.
    pub component_host: PathBuf,
}

impl Programs {
    /// The compiler's name.
    pub const COMPILER: &str = "baton-wasmc";
    /// The name of the program that runs modules.
    pub const HOST: &str = "baton-wasm-host";
    /// The name of the program that runs components.
    pub const COMPONENT_HOST: &str = "baton-component-host";
    /// Names the compiler, where it is not beside the running program.
    pub const COMPILER_ENV: &str = "BATON_WASMC";
    /// Names the program that runs modules, where it is not beside the running one.
    pub const HOST_ENV: &str = "BATON_WASM_HOST";
    /// Names the program that runs components, where it is not beside the running one.
    pub const COMPONENT_HOST_ENV: &str = "BATON_COMPONENT_HOST";

    /// What the environment names, or what lies beside the running program.
    #[must_use]
    pub fn of_this_node() -> Self {
        let find = |name: &str, env: &str| {
            let beside = || Some(std::env::current_exe().ok()?.with_file_name(name));
            std::env::var_os(env).map(PathBuf::from).or_else(beside).unwrap_or_else(|| PathBuf::from(name))
        };
        Self {
            compiler: find(Self::COMPILER, Self::COMPILER_ENV),
            host: find(Self::HOST, Self::HOST_ENV),
            component_host: find(Self::COMPONENT_HOST, Self::COMPONENT_HOST_ENV),
        }
    }

    /// # Errors
    /// The first of them that is not there.
    pub fn check(&self) -> Result<(), ModuleError> {
        let programs = [
            (&self.compiler, Self::COMPILER, Self::COMPILER_ENV),
            (&self.host, Self::HOST, Self::HOST_ENV),
            (&self.component_host, Self::COMPONENT_HOST, Self::COMPONENT_HOST_ENV),
        ];
        let missing = programs.into_iter().find(|(path, ..)| !path.is_file());
        missing
            .map_or(Ok(()), |(path, name, env)| Err(ModuleError::NoProgram { name, env, path: path.clone() }))
    }
}

/// A module that can run.
#[derive(Debug)]
pub(crate) struct Executable {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: Header,
}

/// The directory of compiled modules, and what compiles them.
#[derive(Debug)]
pub struct Modules {
    directory: PathBuf,
    secret: [u8; blake3::KEY_LEN],
    programs: Programs,
    /// The programs that run modules and components, as they were when they were first needed.
    hosts: Mutex<[Option<Arc<Host>>; 2]>,
    /// How many compilers may run at once, and how many more may now.
    cores: usize,
    free: Mutex<usize>,
    freed: Condvar,
    incoming: AtomicU64,
}

impl Modules {
    /// Makes the directory and its secret if need be, and removes what an earlier node left unfinished.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(directory: &Path, programs: Programs) -> Result<Self, ArtifactError> {
        let io = |source| ArtifactError::io(directory, source);
        open_directory(directory, |left| fs::remove_file(left)).map_err(io)?;
        let secret = baton_flow::secret(&directory.join(SECRET)).map_err(io)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            directory: directory.to_owned(),
            secret,
            programs,
            hosts: Mutex::default(),
            cores,
            free: Mutex::new(cores),
            freed: Condvar::new(),
            incoming: AtomicU64::new(0),
        })
    }

    /// The executable of a module, compiled if it has to be. `module` is the file whose content has the hash.
    pub(crate) fn executable(
        &self,
        host: &Host,
        hash: &ArtifactHash,
        module: &Path,
    ) -> Result<Executable, ModuleError> {
        let key = Self::key(hash, host);
        if let Some(found) = self.stored(&key)? {
            return Ok(found);
        }
        let code = {
            let _slot = self.slot();
            child::compile(&self.programs.compiler, module)?
        };
        let bytes = weld(&host.bytes, &code).map_err(ModuleError::Weld)?;
        let header = Header::read(&code).map_err(ModuleError::Code)?;
        if header.module != *hash.bytes() {
            return Err(ModuleError::Other);
        }
        let path = self.keep(&key, &bytes).map_err(|error| self.io(&self.path(&key), error))?;
        Ok(Executable { path, bytes, header })
    }

    /// Compiles those of some modules that are missing, as many at once as there are cores. What goes wrong is told when
    /// their executables are asked for.
    pub(crate) fn compile_missing(&self, modules: &[(Arc<Host>, ArtifactHash, PathBuf)]) {
        let is_missing = |(host, hash, _): &&(Arc<Host>, ArtifactHash, PathBuf)| {
            !self.path(&Self::key(hash, host)).is_file()
        };
        let missing: Vec<_> = modules.iter().filter(is_missing).collect();
        if missing.len() < 2 {
            return;
        }
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((host, hash, module)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let _ = self.executable(host, hash, module);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.cores.min(missing.len()) {
                scope.spawn(work);
            }
        });
    }

    /// Removes what belongs to no module of `named`, or is stale, and is older than `spared`; says how many.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn sweep(
        &self,
        named: &BTreeSet<ArtifactHash>,
        spared: Duration,
    ) -> Result<usize, ArtifactError> {
        let io = |source| ArtifactError::io(&self.directory, source);
        // Other names are not this module's to remove.
        let is_ours = |name: &str| host::is_one(name) || blake3::Hash::from_hex(name).is_ok();
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            kept.extend(
                entry.file_name().into_string().ok().filter(|name| is_ours(name)).map(|name| (name, entry)),
            );
        }
        if kept.is_empty() {
            // The programs are large, and a node without Wasm functions never needs them in its memory.
            return Ok(0);
        }
        // Without the programs nobody knows what is stale.
        let Ok(hosts) = self.hosts() else { return Ok(0) };
        let keys = named.iter().flat_map(|hash| hosts.iter().map(|host| name(&Self::key(hash, host))));
        let wanted: BTreeSet<String> = keys.chain(hosts.iter().map(|host| host::name(&host.hash))).collect();
        let mut removed = 0;
        for (_, entry) in kept.iter().filter(|(name, _)| !wanted.contains(name)) {
            let age = entry.metadata().and_then(|about| about.modified()).map_err(io)?.elapsed();
            if age.unwrap_or_default() >= spared {
                fs::remove_file(entry.path()).map_err(io)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn key(hash: &ArtifactHash, host: &Host) -> [u8; blake3::OUT_LEN] {
        let mut hasher = blake3::Hasher::new_derive_key("baton 2026 key of a Wasm function's executable");
        hasher.update(&Maker::here().key(hash.bytes())).update(host.hash.as_bytes());
        *hasher.finalize().as_bytes()
    }

    fn path(&self, key: &[u8; blake3::OUT_LEN]) -> PathBuf {
        self.directory.join(name(key))
    }

    fn io(&self, path: &Path, error: io::Error) -> ModuleError {
        ModuleError::Disk(ArtifactError::io(path, error))
    }

    fn mac(&self, key: &[u8; blake3::OUT_LEN], bytes: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.secret).update(key).update(bytes).finalize()
    }

    /// What this node stored under a key. Anything else there is removed.
    fn stored(&self, key: &[u8; blake3::OUT_LEN]) -> Result<Option<Executable>, ModuleError> {
        let path = self.path(key);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(&path, error)),
        };
        let header = self.believe(key, &mut bytes);
        if header.is_none() {
            tracing::warn!(path = %path.display(), "a compiled module is not what this node stored: made anew");
            fs::remove_file(&path).map_err(|error| self.io(&path, error))?;
        }
        Ok(header.map(|header| Executable { path, bytes, header }))
    }

    /// Takes the authentication off, and believes the rest if it is right.
    fn believe(&self, key: &[u8; blake3::OUT_LEN], bytes: &mut Vec<u8>) -> Option<Header> {
        let mac = *bytes.last_chunk::<MAC_BYTES>()?;
        bytes.truncate(bytes.len() - MAC_BYTES);
        // Comparing hashes takes the same time wherever they differ.
        (self.mac(key, bytes) == blake3::Hash::from_bytes(mac)).then_some(())?;
        Header::read(welded(bytes)?).ok()
    }

    fn keep(&self, key: &[u8; blake3::OUT_LEN], bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(key);
        self.write(&path, &[bytes, self.mac(key, bytes).as_bytes()])?;
        Ok(path)
    }

    /// Brings a file to the disk, whole or not at all.
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let new = self.directory.join(format!("{INCOMING}{number}"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().inspect_err(|_| {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&new);
        })
    }

    /// Waits until another compiler may run.
    fn slot(&self) -> Slot<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

fn name(key: &[u8; blake3::OUT_LEN]) -> String {
    blake3::Hash::from_bytes(*key).to_hex().to_string()
}

/// The right to run a compiler, given back when it is dropped.
struct Slot<'a>(&'a Modules);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
pub(crate) mod tests;
