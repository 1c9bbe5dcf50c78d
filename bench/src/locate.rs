//! Where things are: the programs beside this one, the apps in the source tree.

use std::env;
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

/// A program that `cargo xtask bench` has installed into `tools` of the target directory; the bare name, for `PATH` to find, if it is
/// not there.
#[must_use]
pub(crate) fn tool(name: &str) -> PathBuf {
    let beside = env::current_exe().ok().and_then(|here| Some(here.parent()?.with_file_name("tools")));
    let here = env::current_dir().unwrap_or_default();
    let above = here.ancestors().map(|at| at.join("target/tools"));
    let tools = beside.into_iter().chain(above);
    let mut programs =
        tools.flat_map(|tools| [tools.join("bin").join(name), tools.join(name).join("bin").join(name)]);
    programs.find(|path| path.is_file()).unwrap_or_else(|| name.into())
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
