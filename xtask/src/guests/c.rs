//! Functions in C as modules: compilers that bring a C library for WASI, and what they compile.
//!
//! | | the compiler | its C library |
//! |---|---|---|
//! | Zig's | `zig`, or PyPI's `ziglang`, got below `target` if it is missing | comes with it, compiled when it is first needed |
//! | clang | on `PATH` | Debian's `wasi-libc` and `libclang-rt-dev-wasm32`, installed |

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::RunError;
use crate::project::Project;
use crate::tools;

use super::toolchain::try_run;

/// What is compiled, each to a module of its name.
pub(super) const SOURCES: &[&str] = &["examples/c/words.c"];
/// The SDK.
const HEADERS: &str = "sdk/c/include";
const SDK: &str = "sdk/c/src/baton.c";
const FLAGS: &[&str] =
    &["-O2", "-g0", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wl,-z,stack-size=1048576"];
/// PyPI's package, and where it goes below the modules' directory.
const PACKAGE: &str = "ziglang==0.17.1";
const PLACE: &str = "zig";
/// How long getting it may take; it has 100 MB.
const PACKAGE_LIMIT: Duration = Duration::from_secs(300);
/// How long one source may take, with the C library before the first.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);

/// A compiler of modules.
pub(super) enum Compiler {
    Zig,
    /// Python's package, in this directory if Python does not find it by itself.
    ZigOfPython(Option<PathBuf>),
    Clang,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zig => write!(f, "zig cc"),
            Self::ZigOfPython(None) => write!(f, "Python's ziglang"),
            Self::ZigOfPython(Some(place)) => write!(f, "PyPI's ziglang in {}", place.display()),
            Self::Clang => write!(f, "clang with wasi-libc"),
        }
    }
}

impl Compiler {
    fn command(&self) -> Command {
        let mut command = Command::new(match self {
            Self::Zig => "zig",
            Self::ZigOfPython(_) => "python3",
            Self::Clang => "clang",
        });
        match self {
            Self::Zig => command.args(["cc", "-target", "wasm32-wasi"]),
            Self::ZigOfPython(place) => {
                if let Some(place) = place {
                    command.env("PYTHONPATH", place);
                }
                command.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi"])
            }
            Self::Clang => command.arg("--target=wasm32-wasi"),
        };
        command
    }

    /// Compiles a source with the SDK to `module`.
    pub(super) fn compile(&self, project: &Project, source: &str, module: &Path) -> Result<(), RunError> {
        let root = project.root();
        let mut command = self.command();
        command.args(FLAGS).arg("-I").arg(root.join(HEADERS)).arg("-o").arg(module);
        project.runner().run(command.args([root.join(source), root.join(SDK)]), COMPILE_LIMIT)
    }
}

/// Finds a compiler, or gets one below `directory`. `None`: there is none, and none can be had.
///
/// # Errors
/// [`RunError::Interrupted`] alone.
pub(super) fn find(project: &Project, directory: &Path) -> Result<Option<Compiler>, RunError> {
    if tools::find("zig").is_some() {
        return Ok(Some(Compiler::Zig));
    }
    if tools::find("python3").is_some() {
        let place = directory.join(PLACE);
        for place in [None, Some(place.clone())] {
            let mut ask = Command::new("python3");
            if let Some(place) = &place {
                ask.env("PYTHONPATH", place);
            }
            // Quietly: that a package is not there is what is asked.
            let there =
                ask.args(["-c", "import importlib.util as u, sys; sys.exit(u.find_spec('ziglang') is None)"]);
            if there.status().is_ok_and(|status| status.success()) {
                return Ok(Some(Compiler::ZigOfPython(place)));
            }
        }
        let mut get = Command::new("python3");
        get.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        if try_run(project.runner(), get.arg(&place).arg(PACKAGE), PACKAGE_LIMIT)? {
            return Ok(Some(Compiler::ZigOfPython(Some(place))));
        }
    }
    let has_clang = tools::find("clang").is_some() && Path::new("/usr/include/wasm32-wasi/stdio.h").is_file();
    Ok(has_clang.then_some(Compiler::Clang))
}
