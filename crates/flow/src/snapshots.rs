//! Snapshots of compartments on the disk: `$BATON_HOME/snapshots`.
//!
//! ```text
//!   secret        32 random bytes, mode 0600, made once
//!   <key>         32 bytes of authentication, then the snapshot as its template wrote it
//! ```
//! A snapshot is memory that will run: it is used only if the node itself stored these very bytes under this very
//! key. The key covers all that the memory depends on: executable, plan, seat, processor, runtime. One that does not
//! bear checking is removed and made anew. Everything here blocks: not for the data-plane thread.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{MemfdFlags, SealFlags};

/// Largest snapshot that is stored, bytes.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Snapshots that are stored: as many functions as a node is meant to have, and half as many that have been there.
const SNAPSHOTS_MAX: usize = 16_384;
/// Bytes that they may have together. Pages of zeros are holes in their files.
const ALL_BYTES_MAX: u64 = 8 << 30;
/// Where there are too many, so much of them stays: the rest is removed at once, not one with each new one.
const KEPT_EIGHTHS: u64 = 7;

const SECRET: &str = "secret";
const INCOMING: &str = ".incoming-";
const MAC_BYTES: usize = blake3::OUT_LEN;
const CHUNK_BYTES: usize = 256 * 1024;
const PAGE_BYTES: usize = 4096;

/// What a snapshot's bytes depend on, as one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotKey([u8; blake3::OUT_LEN]);

impl fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// What makes a snapshot's bytes what they are.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) executable: &'a Path,
    /// The program in which it goes on, if it does.
    pub(crate) host: Option<&'a Path>,
    /// The bundle of the function's files, if it has any: the snapshot has read them.
    pub(crate) files: Option<&'a Path>,
    /// The program of cells.
    pub(crate) program: &'a Path,
    /// The function's entry in the plan.
    pub(crate) plan: &'a [u8],
    /// What the template was told beside it, the seat included.
    pub(crate) setting: &'a [u8],
    pub(crate) processor: &'a [u8],
}

impl Origin<'_> {
    /// The key. Reads all of these files, but for programs that are known already.
    pub(crate) fn key(&self, known: &Hashes) -> io::Result<SnapshotKey> {
        let mut hasher = blake3::Hasher::new_derive_key("baton 2026 key of a compartment's snapshot");
        hasher.update(hash(self.executable)?.as_bytes());
        hasher.update(known.of(self.program)?.as_bytes());
        let host = self.host.map(|host| known.of(host)).transpose()?;
        for file in [host, self.files.map(hash).transpose()?] {
            hasher.update(&[u8::from(file.is_some())]);
            hasher.update(file.as_ref().map_or(&[], |hash| hash.as_bytes().as_slice()));
        }
        for part in [self.plan, self.setting, self.processor] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Ok(SnapshotKey(*hasher.finalize().as_bytes()))
    }
}

fn hash(file: &Path) -> io::Result<blake3::Hash> {
    Ok(blake3::Hasher::new().update_reader(File::open(file)?)?.finalize())
}

/// Hashes of the programs that many functions have in common: no more of them are kept than there are such.
#[derive(Debug, Default)]
pub(crate) struct Hashes(Mutex<Vec<(Identity, blake3::Hash)>>);

/// What a file cannot keep while its bytes change: device, number, length, times of change.
type Identity = [i64; 7];

/// The node's program of cells and that of Wasm functions, and what they were before.
const HASHES_MAX: usize = 8;

impl Hashes {
    fn of(&self, path: &Path) -> io::Result<blake3::Hash> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let identity = [
            about.dev().cast_signed(),
            about.ino().cast_signed(),
            about.size().cast_signed(),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        ];
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, hash)) = known.iter().find(|(other, _)| *other == identity) {
            return Ok(*hash);
        }
        let hash = blake3::Hasher::new().update_reader(file)?.finalize();
        if known.len() >= HASHES_MAX {
            known.remove(0);
        }
        known.push((identity, hash));
        Ok(hash)
    }
}

/// A snapshot in memory whose bytes cannot change.
#[derive(Debug)]
pub(crate) struct Image {
    fd: OwnedFd,
}

impl Image {
    /// Takes a memory file over, if nobody can change it any more.
    pub(crate) fn sealed(fd: OwnedFd) -> Option<Image> {
        let fixed = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
        rustix::fs::fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(fixed)).then_some(Image { fd })
    }

    /// The memory file.
    pub(crate) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The same image once more.
    pub(crate) fn try_clone(&self) -> io::Result<Image> {
        Ok(Image { fd: self.fd.try_clone()? })
    }
}

/// The directory.
#[derive(Debug)]
pub(crate) struct Snapshots {
    directory: PathBuf,
    secret: [u8; blake3::KEY_LEN],
    /// Hashes of programs.
    pub(crate) hashes: Hashes,
    /// Most snapshots that are stored.
    most: usize,
    /// How many are stored, and their bytes; unknown before the first one is.
    stored: Mutex<Option<(usize, u64)>>,
}

impl Snapshots {
    /// Makes the directory and its secret if need be, and removes what was left unfinished.
    pub(crate) fn open(directory: &Path) -> io::Result<Snapshots> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(INCOMING) {
                fs::remove_file(entry.path())?;
            }
        }
        let secret = secret(&directory.join(SECRET))?;
        Ok(Snapshots {
            directory: directory.to_owned(),
            secret,
            hashes: Hashes::default(),
            most: SNAPSHOTS_MAX,
            stored: Mutex::default(),
        })
    }

    fn path(&self, key: SnapshotKey) -> PathBuf {
        self.directory.join(key.to_string())
    }

    fn hasher(&self, key: SnapshotKey) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&key.0);
        hasher
    }

    /// The snapshot under `key`, if there is one that this node stored there. One that is anything else is removed.
    pub(crate) fn fetch(&self, key: SnapshotKey) -> io::Result<Option<Image>> {
        let path = self.path(key);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match self.read(key, &file) {
            Ok(image) => {
                // What is used stays longest; a file system that refuses has snapshots swept by the time of their making.
                let _ = file.set_modified(SystemTime::now());
                Ok(Some(image))
            }
            Err(error) => {
                fs::remove_file(&path)?;
                Err(error)
            }
        }
    }

    /// Removes the snapshot under `key`, if there is one. What cannot be removed is refused again the next time.
    pub(crate) fn forget(&self, key: SnapshotKey) {
        let _ = fs::remove_file(self.path(key));
    }

    /// Copies a file's bytes to memory while it checks them: what is checked is what is used.
    fn read(&self, key: SnapshotKey, mut file: &File) -> io::Result<Image> {
        let bytes = file.metadata()?.len().saturating_sub(MAC_BYTES as u64);
        if bytes == 0 || bytes > SNAPSHOT_BYTES_MAX {
            return Err(io::Error::other("it has no size that a snapshot has"));
        }
        let mut mac = [0; MAC_BYTES];
        file.read_exact(&mut mac)?;
        let memory = File::from(rustix::fs::memfd_create(
            "baton-snapshot",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?);
        memory.set_len(bytes)?;
        let found = copy(self.hasher(key), file, Sparse { file: &memory, at: 0 }, bytes)?;
        // Comparing hashes takes the same time wherever they differ.
        if found != blake3::Hash::from_bytes(mac) {
            return Err(io::Error::other("it is not what this node stored"));
        }
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals)?;
        Ok(Image { fd: memory.into() })
    }

    /// Stores a snapshot, and removes those that were not used for longest if there are too many.
    pub(crate) fn keep(&self, key: SnapshotKey, image: &Image) -> io::Result<()> {
        let memory = File::from(image.fd.try_clone()?);
        let bytes = memory.metadata()?.len();
        if bytes == 0 || bytes > SNAPSHOT_BYTES_MAX {
            return Err(io::Error::other(format!("it has {bytes} bytes, the most is {SNAPSHOT_BYTES_MAX}")));
        }
        let new = self.directory.join(format!("{INCOMING}{key}"));
        let write = || {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            // Positions are this function's own: others use the same open memory file.
            let source = Positioned { file: &memory, at: 0 };
            file.set_len(MAC_BYTES as u64 + bytes)?;
            let into = Sparse { file: &file, at: MAC_BYTES as u64 };
            let mac = copy(self.hasher(key), source, into, bytes)?;
            file.write_all_at(mac.as_bytes(), 0)?;
            fs::rename(&new, self.path(key))
        };
        write().inspect_err(|_| {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&new);
        })?;
        self.count(bytes)
    }

    /// One more is stored. Looks at all of them only if there may be too many.
    fn count(&self, bytes: u64) -> io::Result<()> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, total) = match *stored {
            // One that replaces another is counted twice until the next look.
            Some((count, total)) => (count + 1, total + bytes),
            None => self.sweep(self.most, ALL_BYTES_MAX)?,
        };
        *stored = Some((count, total));
        if count > self.most || total > ALL_BYTES_MAX {
            let part = |most: u64| most / 8 * KEPT_EIGHTHS;
            let most = usize::try_from(part(self.most as u64)).unwrap_or(self.most);
            *stored = Some(self.sweep(most, part(ALL_BYTES_MAX))?);
        }
        Ok(())
    }

    /// Removes those beyond so many and so many bytes that were not used for longest; what is left, and its bytes.
    fn sweep(&self, most: usize, bytes_max: u64) -> io::Result<(usize, u64)> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            // Other names are not this module's to remove.
            if name.to_str().is_some_and(|name| blake3::Hash::from_hex(name).is_ok()) {
                let about = entry.metadata()?;
                kept.push((about.modified()?, about.len(), entry.path()));
            }
        }
        kept.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut left = (0, 0);
        for (_, bytes, path) in kept {
            if left.0 >= most || left.1 + bytes > bytes_max {
                fs::remove_file(path)?;
            } else {
                left = (left.0 + 1, left.1 + bytes);
            }
        }
        Ok(left)
    }
}

/// A file that is read from a position of one's own.
struct Positioned<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A file of zeros that is written where something else is to be, page by page.
struct Sparse<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for page in bytes.chunks(PAGE_BYTES) {
            if page.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(page, self.at)?;
            }
            self.at += page.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies exactly `bytes` and hashes what it copies.
fn copy(
    mut hasher: blake3::Hasher,
    mut from: impl Read,
    mut to: impl Write,
    bytes: u64,
) -> io::Result<blake3::Hash> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let part = chunk.get_mut(..len).unwrap_or_default();
        from.read_exact(part)?;
        hasher.update(part);
        to.write_all(part)?;
        left -= part.len() as u64;
    }
    Ok(hasher.finalize())
}

/// A secret of this node for authenticating what it keeps on the disk: read, or made. Whoever asks holds the node's lock.
///
/// # Errors
/// It can be neither read nor made.
pub fn secret(path: &Path) -> io::Result<[u8; blake3::KEY_LEN]> {
    let mut secret = [0; blake3::KEY_LEN];
    match File::open(path) {
        Ok(mut file) if file.metadata()?.len() == secret.len() as u64 => {
            file.read_exact(&mut secret)?;
            return Ok(secret);
        }
        // One that is damaged is worth nothing: all that it authenticated is made anew under another.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests;
