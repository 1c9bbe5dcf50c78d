//! Packing: a directory or a file becomes a bundle, the same one wherever and whenever it is done.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use baton_cell::bundle::{self, BundleError, CONTENT_BYTES_MAX, FILES_MAX, NameFault, PARTS_MAX};

/// Why files cannot be bundled.
#[derive(Debug)]
pub enum PackError {
    /// There is nothing of that name.
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// It lies outside the manifest's directory, by way of a link.
    Outside {
        /// What the manifest names.
        path: PathBuf,
        /// Where that leads.
        target: PathBuf,
    },
    /// A symbolic link below what the manifest names.
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Neither a file nor a directory: a socket, a pipe, a device.
    Special {
        /// What it is.
        path: PathBuf,
    },
    /// A directory in which there is no file.
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A name that a bundle cannot have.
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        fault: NameFault,
    },
    /// More files than there may be.
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// More bytes than there may be.
    TooLarge {
        /// The file with which it became too much.
        path: PathBuf,
    },
    /// A file that became longer or shorter while it was read.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file system refuses.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was found makes no bundle: a bug.
    Bundle(BundleError),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "{} is not there", path.display()),
            Self::Outside { path, target } => {
                write!(f, "{} leads to {}, outside the app's directory", path.display(), target.display())
            }
            Self::Link { path } => write!(f, "{} is a symbolic link", path.display()),
            Self::Special { path } => write!(f, "{} is neither a file nor a directory", path.display()),
            Self::Empty { path } => write!(f, "there is no file in {}", path.display()),
            Self::Name { path, fault } => write!(f, "the name of {} {fault}", path.display()),
            Self::TooMany { path } => {
                write!(f, "there are more than {FILES_MAX} files in {}", path.display())
            }
            Self::TooLarge { path } => write!(
                f,
                "the files hold more than {} MiB together, reached at {}",
                CONTENT_BYTES_MAX >> 20,
                path.display()
            ),
            Self::Changed { path } => write!(f, "{} changed while it was read", path.display()),
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Bundle(source) => write!(f, "the files cannot be bundled: {source}"),
        }
    }
}

impl std::error::Error for PackError {}

impl PackError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "correct `files` in the manifest: its path starts in the manifest's directory"
            }
            Self::Outside { .. } | Self::Link { .. } => {
                "put the files themselves there, in place of the link"
            }
            Self::Special { .. } => "move it elsewhere: a function gets files and directories only",
            Self::Empty { .. } => "put a file there, or remove `files` from the manifest",
            Self::Name { .. } => "rename it",
            Self::TooMany { .. } | Self::TooLarge { .. } => {
                "name a smaller directory in `files`, or pack what is in it together"
            }
            Self::Changed { .. } => "deploy again when nothing writes to it",
            Self::Io { .. } => "check its rights",
            Self::Bundle(_) => "report this as a bug",
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A file on its way into a bundle.
struct Found {
    name: String,
    path: PathBuf,
    bytes: u64,
}

/// The bundle of what `files`, a path from the app's `directory`, names.
///
/// # Errors
/// It is not there, or it is nothing that can be bundled.
pub fn pack(directory: &Path, files: &Path) -> Result<Vec<u8>, PackError> {
    let path = directory.join(files);
    let io = |source| PackError::io(&path, source);
    let target = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PackError::Missing { path: path.clone() },
        _ => io(error),
    })?;
    if !target.starts_with(directory.canonicalize().map_err(io)?) {
        return Err(PackError::Outside { path, target });
    }
    let mut walk = Walk { root: target.clone(), found: Vec::new(), bytes: 0 };
    let about = fs::symlink_metadata(&target).map_err(io)?;
    if about.is_dir() {
        walk.directory(&target, &mut Vec::new())?;
    } else {
        let name = target.file_name().unwrap_or_default().as_bytes().to_vec();
        walk.entry(&target, &about, &mut vec![name])?;
    }
    if walk.found.is_empty() {
        return Err(PackError::Empty { path });
    }
    walk.found.sort_by(|one, other| one.name.cmp(&other.name));
    written(&walk.found)
}

/// Head and contents.
fn written(found: &[Found]) -> Result<Vec<u8>, PackError> {
    let lens: Vec<(&str, u64)> = found.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    let mut out = bundle::head(&lens).map_err(PackError::Bundle)?;
    for Found { path, bytes, .. } in found {
        let io = |source| PackError::io(path, source);
        let file = File::open(path).map_err(io)?;
        // One more than it had would be seen.
        let read = file.take(bytes + 1).read_to_end(&mut out).map_err(io)?;
        if read as u64 != *bytes {
            return Err(PackError::Changed { path: path.clone() });
        }
    }
    Ok(out)
}

struct Walk {
    root: PathBuf,
    found: Vec<Found>,
    bytes: u64,
}

impl Walk {
    /// Looks at everything in a directory whose name from the root has these parts.
    fn directory(&mut self, path: &Path, parts: &mut Vec<Vec<u8>>) -> Result<(), PackError> {
        if parts.len() >= PARTS_MAX {
            return Err(PackError::Name { path: path.to_owned(), fault: NameFault::TooLong });
        }
        for entry in fs::read_dir(path).map_err(|source| PackError::io(path, source))? {
            let entry = entry.map_err(|source| PackError::io(path, source))?;
            let path = entry.path();
            let about = fs::symlink_metadata(&path).map_err(|source| PackError::io(&path, source))?;
            parts.push(entry.file_name().as_bytes().to_vec());
            self.entry(&path, &about, parts)?;
            parts.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        about: &fs::Metadata,
        parts: &mut Vec<Vec<u8>>,
    ) -> Result<(), PackError> {
        let owned = || path.to_owned();
        if about.is_symlink() {
            return Err(PackError::Link { path: owned() });
        }
        let name = parts.join(&b'/');
        let name = bundle::check_name(&name).map_err(|fault| PackError::Name { path: owned(), fault })?;
        if about.is_dir() {
            return self.directory(path, parts);
        }
        if !about.is_file() {
            return Err(PackError::Special { path: owned() });
        }
        self.bytes = self.bytes.saturating_add(about.len());
        if self.bytes > CONTENT_BYTES_MAX {
            return Err(PackError::TooLarge { path: owned() });
        }
        if self.found.len() == FILES_MAX {
            return Err(PackError::TooMany { path: self.root.clone() });
        }
        self.found.push(Found { name: name.to_owned(), path: owned(), bytes: about.len() });
        Ok(())
    }
}
