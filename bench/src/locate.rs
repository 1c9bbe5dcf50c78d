//! Where things are: the programs beside this one, the apps in the source tree.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A program of the given name beside this one; the bare name, for `PATH` to find, if there is none.
#[must_use]
pub(crate) fn program(name: &str) -> PathBuf {
    let beside = env::current_exe().ok().and_then(|here| Some(here.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// A program that npm installed at or above the working directory; the bare name, for `PATH` to find, if there is none.
#[must_use]
pub(crate) fn npm_program(name: &str) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let installed = here.ancestors().map(|at| at.join("node_modules/.bin").join(name));
    installed.into_iter().find(|path| path.is_file()).unwrap_or_else(|| name.into())
}

/// A program that `cargo xtask` has installed below `tools` of the target directory; the bare name, for `PATH` to find, if it is
/// not there.
#[must_use]
pub(crate) fn tool(name: &str) -> PathBuf {
    let beside = env::current_exe().ok().and_then(|here| Some(here.parent()?.with_file_name("tools")));
    let here = env::current_dir().unwrap_or_default();
    let above = here.ancestors().map(|at| at.join("target/tools"));
    let mut found = beside.into_iter().chain(above).filter_map(|tools| tool_in(&tools, name));
    found.next().unwrap_or_else(|| name.into())
}

/// Programs are in `bin` of the directory, or of one for each package.
fn tool_in(tools: &Path, name: &str) -> Option<PathBuf> {
    let packages = fs::read_dir(tools).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut programs = packages.chain([tools.to_owned()]).map(|package| package.join("bin").join(name));
    programs.find(|program| program.is_file())
}

/// The server of NATS: what the environment names, what is on `PATH`, or what was installed.
#[must_use]
pub(crate) fn nats_server() -> PathBuf {
    const NAME: &str = "nats-server";
    env::var_os("BATON_NATS_SERVER").map_or_else(|| tool(NAME), PathBuf::from)
}

/// nginx, which Debian has where only root looks.
#[must_use]
pub(crate) fn nginx() -> PathBuf {
    let debian = Path::new("/usr/sbin/nginx");
    if debian.is_file() { debian.into() } else { "nginx".into() }
}

/// Where `cargo xtask guests` leaves modules: what the environment names, or the target directory of this program or above the
/// working directory.
#[must_use]
pub(crate) fn modules() -> PathBuf {
    built("wasm32-wasip1/release")
}

/// The same of components.
#[must_use]
pub(crate) fn components() -> PathBuf {
    built("wasm32-wasip2/release")
}

fn built(place: &str) -> PathBuf {
    if let Some(directory) = env::var_os("BATON_MODULES") {
        return Path::new(&directory).join(place);
    }
    let beside = env::current_exe().ok().and_then(|here| Some(here.parent()?.with_file_name("modules")));
    let here = env::current_dir().unwrap_or_default();
    let above = here.ancestors().map(|at| at.join("target/modules"));
    let found = beside.into_iter().chain(above).find(|modules| modules.is_dir());
    found.unwrap_or_else(|| here.join("target/modules")).join(place)
}

/// An app's directory, looked for from the working directory and from this program upwards.
#[must_use]
pub(crate) fn app(relative: &str) -> Option<PathBuf> {
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    starts.into_iter().flatten().find_map(|start| upwards(&start, relative))
}

fn upwards(start: &Path, relative: &str) -> Option<PathBuf> {
    start.ancestors().map(|at| at.join(relative)).find(|path| path.join("baton.toml").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_in_a_directory_for_all_or_for_each() {
        let tools = tempfile::tempdir().unwrap();
        assert_eq!(tool_in(tools.path(), "x"), None);
        let (one, other) = (tools.path().join("bin"), tools.path().join("package/bin"));
        for place in [&one, &other] {
            fs::create_dir_all(place).unwrap();
        }
        fs::write(one.join("x"), "").unwrap();
        fs::write(other.join("y"), "").unwrap();
        assert_eq!(tool_in(tools.path(), "x"), Some(one.join("x")));
        assert_eq!(tool_in(tools.path(), "y"), Some(other.join("y")));
    }

    #[test]
    fn apps_are_found_upwards() {
        let root = tempfile::tempdir().unwrap();
        let (app, below) = (root.path().join("apps/x"), root.path().join("a/b/c"));
        std::fs::create_dir_all(&app).unwrap();
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(upwards(&below, "apps/x"), None);
        std::fs::write(app.join("baton.toml"), "").unwrap();
        assert_eq!(upwards(&below, "apps/x"), Some(app));
    }
}
