//! Unpacked bundles: `$BATON_HOME/files/<blake3>`, each a directory that processes see as theirs.
//!
//! A directory gets its name when it is complete, and is compared with its bundle before each use: a disk may change what
//! it holds, and a node may have died over it. The directory of all has mode 0700; what is in it can be read by all, since
//! functions run as nobody and have no other way to it than the mount that they are given.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use baton_cell::bundle::{Bundle, FILES_MAX};

use crate::artifacts::{ArtifactError, ArtifactHash, INCOMING, open_directory};
use crate::limits::TREE_KEPT;

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o444;
/// Of programs, which the sandboxes of native functions do not let anybody execute all the same.
const PROGRAM_MODE: u32 = 0o555;
/// Bytes that are compared at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// The directory of unpacked bundles.
#[derive(Debug)]
pub struct Trees {
    directory: PathBuf,
    /// Since when nothing names them any more. A version that drains still reads its files.
    unnamed: Mutex<HashMap<ArtifactHash, Instant>>,
}

impl Trees {
    /// Makes the directory if need be and removes what an earlier node left unfinished.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(directory: &Path) -> Result<Self, ArtifactError> {
        let io = |source| ArtifactError::io(directory, source);
        open_directory(directory, |left| fs::remove_dir_all(left)).map_err(io)?;
        // Processes are shown a directory by its whole path.
        let directory = directory.canonicalize().map_err(io)?;
        Ok(Self { directory, unnamed: Mutex::default() })
    }

    /// The directory of a bundle's files, which is as the bundle says.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn tree(&self, hash: &ArtifactHash, bundle: Bundle<'_>) -> Result<PathBuf, ArtifactError> {
        let path = self.directory.join(hash.to_string());
        let io = |source| ArtifactError::io(&path, source);
        if is_as_packed(&path, bundle).unwrap_or(false) {
            return Ok(path);
        }
        let new = self.directory.join(format!("{INCOMING}{hash}"));
        for stale in [&path, &new] {
            match fs::remove_dir_all(stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        unpack(&new, bundle).map_err(io)?;
        fs::rename(&new, &path).map_err(io)?;
        Ok(path)
    }

    /// Removes what nothing has named for a while; says how many.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn sweep(&self, named: &BTreeSet<ArtifactHash>) -> Result<usize, ArtifactError> {
        self.sweep_after(named, TREE_KEPT)
    }

    pub(super) fn sweep_after(
        &self,
        named: &BTreeSet<ArtifactHash>,
        kept: Duration,
    ) -> Result<usize, ArtifactError> {
        let io = |source| ArtifactError::io(&self.directory, source);
        let mut unnamed = self.unnamed.lock().unwrap_or_else(PoisonError::into_inner);
        unnamed.retain(|hash, _| !named.contains(hash));
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            // Other names are not this module's to remove.
            let Some(hash) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let is_due = |since: &mut Instant| since.elapsed() >= kept;
            if !named.contains(&hash) && is_due(unnamed.entry(hash).or_insert_with(Instant::now)) {
                fs::remove_dir_all(entry.path()).map_err(io)?;
                unnamed.remove(&hash);
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Writes every file of a bundle below a directory that is not there yet. Names lead nowhere else: a bundle has no others.
fn unpack(root: &Path, bundle: Bundle<'_>) -> io::Result<()> {
    make_directory(root)?;
    let mut made = BTreeSet::new();
    for index in 0..bundle.count() {
        let name = bundle.name(index);
        for (end, _) in name.match_indices('/') {
            let directory = name.get(..end).unwrap_or_default();
            if made.insert(directory) {
                make_directory(&root.join(directory))?;
            }
        }
        let mut options = OpenOptions::new();
        let mode = mode_of(bundle.content(index));
        let mut file = options.write(true).create_new(true).mode(mode).open(root.join(name))?;
        file.write_all(bundle.content(index))?;
        file.set_permissions(Permissions::from_mode(mode))?;
        // As compartments see it.
        file.set_modified(SystemTime::UNIX_EPOCH)?;
    }
    Ok(())
}

/// A bundle says nothing of rights: what begins as an executable or a script does is one.
fn mode_of(content: &[u8]) -> u32 {
    if content.starts_with(b"\x7fELF") || content.starts_with(b"#!") { PROGRAM_MODE } else { FILE_MODE }
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    // Whatever the node's mask is.
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

/// Whether a directory has the files of a bundle, with their bytes, and nothing else.
fn is_as_packed(root: &Path, bundle: Bundle<'_>) -> io::Result<bool> {
    let mut left = FILES_MAX;
    if count(root, &mut left)? != Some(bundle.count()) {
        return Ok(false);
    }
    for index in 0..bundle.count() {
        let path = root.join(bundle.name(index));
        let (about, content) = (fs::symlink_metadata(&path)?, bundle.content(index));
        let is_marked = about.permissions().mode() & 0o777 == mode_of(content);
        if !about.is_file() || !is_marked || !holds(&path, content)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file has these bytes and no others.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != bytes.len() as u64 {
        return Ok(false);
    }
    let mut chunk = vec![0; CHUNK_BYTES.min(bytes.len())];
    for expected in bytes.chunks(CHUNK_BYTES) {
        let read = chunk.get_mut(..expected.len()).unwrap_or_default();
        file.read_exact(read)?;
        if read != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many things that are no directories are below a directory; `None` if they are too many. A link is one of them.
fn count(path: &Path, left: &mut usize) -> io::Result<Option<usize>> {
    let mut found = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let Some(below) = count(&entry.path(), left)? else { return Ok(None) };
            found += below;
        } else {
            let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
            *left = fewer;
            found += 1;
        }
    }
    Ok(Some(found))
}
