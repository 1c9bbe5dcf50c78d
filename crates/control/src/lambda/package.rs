//! Packages: a zip becomes a bundle of files, in memory, without a name of it ever touching the disk.
//!
//! What a package says of its size is not believed: bytes are counted as they come out, and reading stops at the bound.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Cursor, Read};

use baton_cell::bundle::{self, BundleError, CONTENT_BYTES_MAX, FILES_MAX, NameFault};
use zip::ZipArchive;
use zip::result::ZipError;

/// Why a package is not taken.
#[derive(Debug)]
pub enum PackageError {
    /// It is no zip, or a damaged one.
    Broken {
        /// What the reader found.
        source: ZipError,
    },
    /// There is no file in it.
    Empty,
    /// More files than there may be.
    TooMany,
    /// Its files hold more bytes than they may, whatever it says.
    TooLarge,
    /// A name that leads out of it, or that no file may have.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Two files of one name.
    Twice {
        /// The name.
        name: String,
    },
    /// A symbolic link, a device, a pipe.
    Special {
        /// Its name.
        name: String,
    },
    /// A file that is locked by a password.
    Locked {
        /// Its name.
        name: String,
    },
    /// A file whose bytes are not what it says.
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        source: io::Error,
    },
    /// What was found makes no bundle: one name is the directory of another.
    Bundle(BundleError),
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { source } => write!(f, "the package is no zip that can be read: {source}"),
            Self::Empty => f.write_str("there is no file in the package"),
            Self::TooMany => write!(f, "there are more than {FILES_MAX} files in the package"),
            Self::TooLarge => write!(
                f,
                "the package's files hold more than {} MiB together when unpacked",
                CONTENT_BYTES_MAX >> 20
            ),
            Self::Name { name, fault } => write!(f, "the name {name:?} in the package {fault}"),
            Self::Twice { name } => write!(f, "{name:?} is in the package twice"),
            Self::Special { name } => write!(f, "{name:?} in the package is neither a file nor a directory"),
            Self::Locked { name } => write!(f, "{name:?} in the package is encrypted"),
            Self::Damaged { name, source } => write!(f, "{name:?} in the package is damaged: {source}"),
            Self::Bundle(source) => write!(f, "the package's files cannot be bundled: {source}"),
        }
    }
}

impl std::error::Error for PackageError {}

impl PackageError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Broken { .. } | Self::Damaged { .. } => "zip the function's directory again",
            Self::Empty => "put the function's files at the top of the zip",
            Self::TooMany | Self::TooLarge => "leave out what the function does not need",
            Self::Name { .. } | Self::Twice { .. } | Self::Bundle(_) => {
                "zip from within the function's directory, so that names start there"
            }
            Self::Special { .. } => "put the files themselves there, in place of links (zip without -y)",
            Self::Locked { .. } => "zip without a password",
        }
    }
}

/// File type bits of a Unix mode, and those of what a package may hold.
const TYPE_MASK: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// The bundle of a package's files.
///
/// # Errors
/// What is wrong with the package.
pub fn unzip(package: &[u8]) -> Result<Vec<u8>, PackageError> {
    let mut archive =
        ZipArchive::new(Cursor::new(package)).map_err(|source| PackageError::Broken { source })?;
    if archive.len() > 2 * FILES_MAX {
        return Err(PackageError::TooMany);
    }
    let mut files = BTreeMap::new();
    let mut left = CONTENT_BYTES_MAX;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|source| match source {
            ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
                PackageError::Locked { name: format!("file {index}") }
            }
            source => PackageError::Broken { source },
        })?;
        let lossy = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if entry.encrypted() {
            return Err(PackageError::Locked { name: lossy });
        }
        let kind = entry.unix_mode().map_or(0, |mode| mode & TYPE_MASK);
        if entry.is_dir() || kind == DIRECTORY {
            continue;
        }
        if entry.is_symlink() || !matches!(kind, 0 | FILE) {
            return Err(PackageError::Special { name: lossy });
        }
        let raw = entry.name_raw();
        let raw = raw.strip_prefix(b"./").unwrap_or(raw);
        let name =
            bundle::check_name(raw).map_err(|fault| PackageError::Name { name: lossy.clone(), fault })?;
        let name = name.to_owned();
        if files.len() == FILES_MAX {
            return Err(PackageError::TooMany);
        }
        // Room for what it says it has, if that is within reason; the bound holds for what comes.
        let mut content = Vec::with_capacity(usize::try_from(entry.size().min(1 << 20)).unwrap_or(0));
        let read = entry.take(left + 1).read_to_end(&mut content);
        let read = read.map_err(|source| PackageError::Damaged { name: lossy.clone(), source })?;
        left = left.checked_sub(read as u64).ok_or(PackageError::TooLarge)?;
        if files.insert(name, content).is_some() {
            return Err(PackageError::Twice { name: lossy });
        }
    }
    bundled(&files)
}

fn bundled(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, PackageError> {
    if files.is_empty() {
        return Err(PackageError::Empty);
    }
    let lens: Vec<(&str, u64)> =
        files.iter().map(|(name, content)| (name.as_str(), content.len() as u64)).collect();
    let mut out = bundle::head(&lens).map_err(PackageError::Bundle)?;
    out.reserve_exact(files.values().map(Vec::len).sum());
    files.values().for_each(|content| out.extend_from_slice(content));
    Ok(out)
}

#[cfg(test)]
mod tests;
