//! `cargo xtask install`: builds the binaries and copies them to a directory on `PATH`.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use clap::Args;

use crate::builds::{self, BuildError, Purpose};
use crate::project::{MetadataError, Project};
use crate::python::package::{self, CopyError};

/// What to install where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the binaries go
    #[arg(long, value_name = "DIR", default_value_os_t = cargo_bin())]
    to: PathBuf,
    /// Also the load generator and the gRPC yardstick
    #[arg(long)]
    bench: bool,
}

/// Why nothing, or not everything, was installed.
#[derive(Debug)]
pub(crate) enum InstallError {
    /// A build failed.
    Build(BuildError),
    /// Where builds go could not be found out.
    Metadata(MetadataError),
    /// The Python package could not be put in its place.
    Python(CopyError),
    /// A binary could not be put in its place.
    Copy { to: PathBuf, source: io::Error },
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => write!(f, "{error}"),
            Self::Metadata(error) => write!(f, "{error}"),
            Self::Python(error) => write!(f, "{error}"),
            Self::Copy { to, source } => write!(f, "cannot install {}: {source}", to.display()),
        }
    }
}

impl std::error::Error for InstallError {}

/// Builds, copies, and says whether the place is on `PATH`.
pub(crate) fn run(project: &Project, options: &Options) -> Result<(), InstallError> {
    // Each package's binary has the package's name.
    let names = if options.bench { builds::ALL_BINARIES } else { builds::PRODUCT };
    builds::binaries(project, names, Purpose::Use).map_err(InstallError::Build)?;
    for name in names {
        let built = project.release_binary(name).map_err(InstallError::Metadata)?;
        let to = put(&built, &options.to, name)?;
        println!("installed {}", to.display());
    }
    if let Some(place) = package::install(project, &options.to).map_err(InstallError::Python)? {
        println!("installed {}", place.display());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|directory| directory == options.to) {
        println!("{} is not on PATH: add it, or call the binaries by their full path", options.to.display());
    }
    Ok(())
}

/// Copies beside the place and renames, so that a running binary of the same name is replaced and never written into.
fn put(built: &Path, directory: &Path, name: &str) -> Result<PathBuf, InstallError> {
    let to = directory.join(name);
    let new = directory.join(format!(".{name}.new"));
    let copy = || {
        fs::create_dir_all(directory)?;
        fs::copy(built, &new)?;
        fs::rename(&new, &to)
    };
    match copy() {
        Ok(()) => Ok(to),
        Err(source) => Err(InstallError::Copy { to, source }),
    }
}

/// Where cargo puts binaries: on every Rust user's `PATH`.
fn cargo_bin() -> PathBuf {
    let home = || env::home_dir().unwrap_or_default().join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from).join("bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_binary_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let built = directory.path().join("built");
        let bin = directory.path().join("bin");
        for content in ["old", "new"] {
            fs::write(&built, content).unwrap();
            put(&built, &bin, "baton").unwrap();
        }
        assert_eq!(fs::read_to_string(bin.join("baton")).unwrap(), "new");
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 1);
    }
}
