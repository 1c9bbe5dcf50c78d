//! The Python package, laid out beside the binaries as a node looks for it: `python/baton`, with its native module.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use crate::builds::{self, BUILD_LIMIT, BuildError, Purpose};
use crate::project::Project;
use crate::tools::{self, Tool};

/// The directory beside the binaries.
pub(crate) const PLACE: &str = "python";
/// The package in it, and in `sdk/python`.
const PACKAGE: &str = "baton";
/// The native module: one for all versions of CPython from 3.10 on.
const MODULE: &str = "_native.abi3.so";
/// What functions that are no Rust are linked with.
const LIBRARY: &str = "libbaton.a";
/// Compiles the native module.
const GCC: Tool = Tool::new("gcc", &["cc", "gcc"], "functions in Python");
/// What the module is compiled with: the stable ABI of CPython 3.11, of which it uses what 3.10 has.
const FLAGS: [&str; 12] = [
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-shared",
    "-fPIC",
    "-DPy_LIMITED_API=0x030b0000",
    "-Wl,--exclude-libs,ALL",
    "-Wl,--gc-sections",
    "-Wl,-z,now",
    "-Wl,-s",
    "-o",
];

/// The file of the package that could not be put in its place, and why.
#[derive(Debug)]
pub(crate) struct CopyError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot copy {}: {}", self.path.display(), self.source)
    }
}

/// Builds libbaton, and lays the package beside the binaries. A machine without a C compiler or Python's headers has no functions
/// in Python: that is said loudly, and no error.
pub(crate) fn lay(project: &Project, purpose: Purpose) -> Result<(), BuildError> {
    let mut cargo = project.cargo(&["build", "--profile", purpose.profile(), "--package", "baton-lib"]);
    project.runner().run(&mut cargo, BUILD_LIMIT).map_err(BuildError::Run)?;
    if purpose == Purpose::Test {
        builds::lay(project, LIBRARY)?;
    }
    let (Some(headers), Some(compiler)) = (headers(), GCC.find()) else {
        println!(
            "SKIP: functions in Python: there is no C compiler, or no Python.h (apt-get install gcc python3-dev)"
        );
        return Ok(());
    };
    let beside = |name: &str| purpose.binary(project, name).map_err(BuildError::Metadata);
    let source = project.root().join("sdk/python");
    let to = beside(PLACE)?.join(PACKAGE);
    let laid = fs::create_dir_all(&to)
        .map_err(|source| CopyError { path: to.clone(), source })
        .and_then(|()| sources(&source.join(PACKAGE)).try_for_each(|file| put(&file, &to)));
    if let Err(error) = laid {
        println!("{error}");
        return Ok(());
    }
    let module = to.join(MODULE);
    let new = to.join(format!(".{MODULE}.new"));
    let mut compile = Command::new(compiler);
    compile.args(FLAGS).arg(&new).arg("-I").arg(headers).arg("-I").arg(project.root().join("sdk/c/include"));
    compile.arg(source.join("src/native.c")).arg(beside(LIBRARY)?);
    project.runner().run(&mut compile, BUILD_LIMIT).map_err(BuildError::Run)?;
    // Renamed: a process that has the old one mapped keeps it.
    fs::rename(&new, &module).unwrap_or_else(|error| println!("cannot put {}: {error}", module.display()));
    Ok(())
}

/// Copies the package that was laid out to a directory, beside binaries that are installed there.
pub(crate) fn install(project: &Project, directory: &Path) -> Result<Option<PathBuf>, CopyError> {
    let Ok(target) = project.target_dir() else { return Ok(None) };
    let laid = target.join("release").join(PLACE).join(PACKAGE);
    if !laid.join(MODULE).is_file() {
        return Ok(None);
    }
    let to = directory.join(PLACE).join(PACKAGE);
    let made = fs::create_dir_all(&to).map_err(|source| CopyError { path: to.clone(), source });
    made.and_then(|()| sources(&laid).chain([laid.join(MODULE)]).try_for_each(|file| put(&file, &to)))?;
    Ok(Some(directory.join(PLACE)))
}

/// The files of the package that are no module of C.
fn sources(package: &Path) -> impl Iterator<Item = PathBuf> {
    let is_source = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("py" | "pyi" | "typed"))
    };
    let entries = fs::read_dir(package).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_source)
}

/// Copies beside the place and renames.
fn put(file: &Path, directory: &Path) -> Result<(), CopyError> {
    let name = file.file_name().unwrap_or_default();
    let new = directory.join(format!(".{}.new", name.to_string_lossy()));
    let copied = fs::copy(file, &new).and_then(|_| fs::rename(&new, directory.join(name)));
    copied.map_err(|source| CopyError { path: file.to_owned(), source })
}

/// Where the interpreter's headers are.
fn headers() -> Option<PathBuf> {
    let python = tools::find("python3")?;
    let ask = "import sysconfig; print(sysconfig.get_paths()['include'])";
    let told = Command::new(python).args(["-c", ask]).output().ok()?;
    let directory = PathBuf::from(String::from_utf8(told.stdout).ok()?.trim());
    directory.join("Python.h").is_file().then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_copied_without_what_python_leaves_behind() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a.py", "b.pyi", "py.typed", "c.so", "d.pyc"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        fs::create_dir(from.path().join("__pycache__")).unwrap();
        sources(from.path()).try_for_each(|file| put(&file, to.path())).unwrap();
        let mut there: Vec<_> =
            fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        there.sort();
        assert_eq!(there, ["a.py", "b.pyi", "py.typed"]);
    }
}
