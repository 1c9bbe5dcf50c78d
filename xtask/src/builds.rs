//! What tasks build: the binaries, the guests, the yardsticks. To be used in release; to be tested in the profile of the tests, so
//! that what both consist of is built once. What runs in cells is built in release for both.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

use crate::child::RunError;
use crate::project::{MetadataError, Project};
use crate::python::package;

/// How long one build may take.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// The programs of cells, of Wasm functions, and in front of programs that know nothing of Baton. They run where no libraries are, so
/// they are linked as guests are.
const STATIC: [&str; 4] = ["baton-cell", "baton-wasm-host", COMPONENTS, "baton-shim"];
/// The program of components: large, so that what only debuggers read is left out.
const COMPONENTS: &str = "baton-component-host";
/// The compiler of Wasm modules, and the package that it is in.
const COMPILER: (&str, &str) = ("baton-wasmc", "baton-wasm");
/// The binaries that make up the product.
pub(crate) const PRODUCT: &[&str] = &["baton", STATIC[0], STATIC[1], STATIC[2], STATIC[3], COMPILER.0];
/// All binaries: the product, the load generator, and the yardstick that needs a gRPC stack.
pub(crate) const ALL_BINARIES: &[&str] =
    &["baton", STATIC[0], STATIC[1], STATIC[2], STATIC[3], COMPILER.0, "baton-bench", "baton-bench-grpc"];

/// Why something could not be built.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// The build failed.
    Run(RunError),
    /// Where to build could not be found out.
    Metadata(MetadataError),
    /// What was built could not be put in its place.
    Copy { path: PathBuf, source: io::Error },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => write!(f, "{error}"),
            Self::Metadata(error) => write!(f, "{error}"),
            Self::Copy { path, source } => write!(f, "cannot write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}

/// What a build is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be used and measured.
    Use,
    /// To be tested: the same programs as the tests are built, in [`TESTS`].
    Test,
}

/// The profile of tests, and of what they test: little optimisation, and the assertions of debug builds.
pub(crate) const TESTS: &str = "ci";

impl Purpose {
    /// The profile, by which the directory below the target directory is called, too.
    pub(crate) fn profile(self) -> &'static str {
        match self {
            Purpose::Use => "release",
            Purpose::Test => TESTS,
        }
    }

    /// Where a build puts a binary.
    pub(crate) fn built(self, project: &Project, name: &str) -> Result<PathBuf, MetadataError> {
        Ok(project.target_dir()?.join(self.profile()).join(name))
    }

    /// Where a binary is to be found, with all that it looks for beside itself. What is tested has a place of its own: a build of the
    /// tests puts programs of the same names where it builds, linked in its own way.
    pub(crate) fn binary(self, project: &Project, name: &str) -> Result<PathBuf, MetadataError> {
        match self {
            Purpose::Use => self.built(project, name),
            Purpose::Test => Ok(project.target_dir()?.join(TESTED).join(name)),
        }
    }
}

/// Where what is tested lies, in the target directory.
const TESTED: &str = "tested";
/// The compiler of Wasm modules as tests use it.
pub(crate) const COMPILER_ONCE: &str = "baton-wasmc-once";

/// Builds some of the workspace's binaries.
pub(crate) fn binaries(project: &Project, names: &[&str], purpose: Purpose) -> Result<(), BuildError> {
    let mut command = project.cargo(&["build", "--profile", purpose.profile()]);
    let is_plain = |name: &&&str| !STATIC.contains(name) && **name != COMPILER.0;
    for package in names.iter().filter(is_plain) {
        command.args(["--package", package]);
    }
    project.runner().run(command.arg("--bins"), BUILD_LIMIT).map_err(BuildError::Run)?;
    for name in STATIC.iter().filter(|name| names.contains(name)) {
        linked_static(project, name, purpose)?;
    }
    if names.contains(&COMPILER.0) {
        compiler(project, purpose)?;
    }
    if purpose == Purpose::Test {
        names.iter().try_for_each(|name| lay(project, name))?;
    }
    if names.contains(&PRODUCT[0]) { package::lay(project, purpose) } else { Ok(()) }
}

/// What the programs of cells do without in tests: the optimisation across packages, which takes longest.
const FOR_TESTS: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// Builds a program that runs in a cell, or is one: static, since a cell sees no file system to load libraries from, and
/// position-independent. Only the program itself is linked so. All of its code is looked at before it runs, so that it is the same
/// for tests.
fn linked_static(project: &Project, name: &str, purpose: Purpose) -> Result<(), BuildError> {
    let mut command = project.cargo(&["rustc", "--release", "--package", name, "--bin", name, "--"]);
    command.args(["-C", "target-feature=+crt-static", "-C", "relocation-model=pie"]);
    // The program of cells is small: nothing of it differs.
    if purpose == Purpose::Test && name != STATIC[0] {
        command.envs(FOR_TESTS);
    }
    if name == COMPONENTS {
        command.args(["-C", "strip=debuginfo"]);
    }
    project.runner().run(&mut command, BUILD_LIMIT).map_err(BuildError::Run)
}

/// Builds the compiler of Wasm modules as tests use it: it compiles each module once for all of them.
pub(crate) fn compiler_once(project: &Project) -> Result<(), BuildError> {
    let args = ["build", "--profile", TESTS, "--package", "baton-e2e", "--bin", COMPILER_ONCE];
    project.runner().run(&mut project.cargo(&args), BUILD_LIMIT).map_err(BuildError::Run)?;
    lay(project, COMPILER_ONCE)
}

/// Puts a program where what is tested lies. Those of cells are the ones that are used.
pub(crate) fn lay(project: &Project, name: &str) -> Result<(), BuildError> {
    let built = if STATIC.contains(&name) { Purpose::Use } else { Purpose::Test };
    let from = built.built(project, name).map_err(BuildError::Metadata)?;
    let to = Purpose::Test.binary(project, name).map_err(BuildError::Metadata)?;
    let new = to.with_extension("new");
    let directory = to.parent().map_or(Ok(()), fs::create_dir_all);
    // Renamed: a program that runs keeps its file.
    let laid = directory.and_then(|()| fs::copy(&from, &new)).and_then(|_bytes| fs::rename(&new, &to));
    laid.map_err(|source| BuildError::Copy { path: to, source })
}

/// How the compiler of Wasm modules is built to be used: it takes longest of all, and compiles a module once in its life.
const QUICKLY: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// Builds the compiler of Wasm modules, by itself: with it, everything else would get the engine's compiler as well.
fn compiler(project: &Project, purpose: Purpose) -> Result<(), BuildError> {
    let (name, package) = COMPILER;
    let mut command = project.cargo(&["build", "--profile", purpose.profile()]);
    command.args(["--package", package, "--features", "compile", "--bin", name]);
    if purpose == Purpose::Use {
        command.envs(QUICKLY);
    }
    project.runner().run(&mut command, BUILD_LIMIT).map_err(BuildError::Run)
}

/// Builds every guest workspace, each in its own directory, since its flags are in its own configuration.
pub(crate) fn guests(project: &Project) -> Result<(), BuildError> {
    project.guests().iter().try_for_each(|directory| guest(project, directory))
}

/// Builds one guest workspace.
pub(crate) fn guest(project: &Project, directory: &Path) -> Result<(), BuildError> {
    println!("{}", project.shown(directory));
    let mut command = project.cargo_in(directory, &["build", "--release"]);
    project.runner().run(&mut command, BUILD_LIMIT).map_err(BuildError::Run)
}
