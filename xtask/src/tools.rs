//! Programs that tests use and cargo does not bring: found on `PATH`, or installed where that is possible.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::{RunError, Runner};

/// How long `apt-get` may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// A Debian package and the programs any one of which makes it unnecessary.
#[derive(Debug)]
pub(crate) struct Tool {
    package: &'static str,
    programs: &'static [&'static str],
    wanted_for: &'static str,
}

/// Walks the shop in the browser check.
pub(crate) const CHROMIUM: Tool = Tool {
    package: "chromium",
    programs: &["chromium", "chromium-browser", "google-chrome"],
    wanted_for: "the browser check of the shop",
};

/// Passes the browser check's commands on to Chromium.
pub(crate) const CHROMEDRIVER: Tool = Tool {
    package: "chromium-driver",
    programs: &["chromedriver"],
    wanted_for: "the browser check of the shop",
};

/// Looks for memory errors in the pool.
pub(crate) const VALGRIND: Tool =
    Tool { package: "valgrind", programs: &["valgrind"], wanted_for: "the memory check of the pool" };

/// Keeps payloads that go the way they go today.
pub(crate) const REDIS: Tool = Tool {
    package: "redis-server",
    programs: &["redis-server"],
    wanted_for: "the comparison of transfers with redis",
};

/// Keeps files that are put and got.
pub(crate) const NGINX: Tool = Tool {
    package: "nginx-light",
    programs: &["nginx"],
    wanted_for: "the comparisons with nginx: of transfers by WebDAV, and of policies",
};

/// Says how much a connection carries.
pub(crate) const IPERF: Tool =
    Tool { package: "iperf3", programs: &["iperf3"], wanted_for: "the bandwidth that transfers are held to" };

/// Checks the metrics, and scrapes them.
pub(crate) const PROMETHEUS: Tool =
    Tool { package: "prometheus", programs: &["promtool"], wanted_for: "the check of the metrics" };

/// What functions talk to over connections of their own.
pub(crate) const POSTGRES: Tool = Tool {
    package: "postgresql",
    programs: &["postgres", "pg_ctlcluster"],
    wanted_for: "the test of functions that talk to a database",
};

/// Builds the programs that run in the kernel.
pub(crate) const CLANG: Tool =
    Tool { package: "clang-14", programs: &["clang-14"], wanted_for: "building the kernel's programs anew" };

impl Tool {
    pub(crate) const fn new(
        package: &'static str,
        programs: &'static [&'static str],
        wanted_for: &'static str,
    ) -> Tool {
        Tool { package, programs, wanted_for }
    }

    /// Where the first of its programs is, if one is there.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        self.programs.iter().find_map(|program| find(program))
    }
}

/// Installs the tools that are missing, if this is Debian and the user may. What cannot be installed is said loudly and is
/// no error: the tests that need it say `SKIP` themselves.
pub(crate) fn install_missing(runner: &Runner, tools: &[&Tool]) -> Result<(), RunError> {
    let missing: Vec<_> = tools.iter().filter(|tool| tool.find().is_none()).collect();
    if missing.is_empty() {
        println!("every tool is there");
        return Ok(());
    }
    let may = rustix::process::geteuid().is_root() && find("apt-get").is_some();
    if may {
        let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
        println!("installing the Debian packages {}", packages.join(", "));
        match install(runner, &packages) {
            Err(RunError::Interrupted) => return Err(RunError::Interrupted),
            Err(error) => println!("{error}"),
            Ok(()) => {}
        }
    }
    for tool in missing.iter().filter(|tool| tool.find().is_none()) {
        let remedy =
            if may { "could not be installed" } else { "is missing (apt-get install as root helps)" };
        println!("SKIP: {}: {} {remedy}", tool.wanted_for, tool.package);
    }
    Ok(())
}

fn install(runner: &Runner, packages: &[&str]) -> Result<(), RunError> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["-qq", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"]);
        command
    };
    runner.run(apt().arg("update"), INSTALL_LIMIT)?;
    runner.run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages), INSTALL_LIMIT)
}

/// An executable of this name in the directories of `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(program, env::split_paths(&path))
}

fn find_in(program: &str, directories: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    directories.map(|directory| directory.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_executables_are_found() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(first.path().join("tool"), "").unwrap();
        let good = second.path().join("tool");
        fs::write(&good, "").unwrap();
        fs::set_permissions(&good, fs::Permissions::from_mode(0o755)).unwrap();
        let directories = || [first.path().to_owned(), second.path().to_owned()].into_iter();
        assert_eq!(find_in("tool", directories()), Some(good));
        assert_eq!(find_in("other", directories()), None);
    }
}
