//! `--watch`: builds and deploys again when a source changes.
//!
//! Modification times are polled: it needs no descriptors, works on every file system, and costs a few milliseconds
//! for trees of the size of an app.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use baton_catalog::Build;

use crate::app::App;
use crate::build::workspace_root;

/// Between two looks at the sources.
const POLL: Duration = Duration::from_millis(300);
/// Files that are looked at; a tree with more is watched in part.
const FILES_MAX: usize = 50_000;
/// Directories below each other.
const DEPTH_MAX: usize = 32;
/// Directories that builds write into.
const BUILD_DIRECTORIES: [&str; 2] = ["target", "node_modules"];

/// The sources of an app.
#[derive(Debug)]
pub(crate) struct Sources {
    roots: BTreeSet<PathBuf>,
    /// What commands write: a change of these is the build's own doing.
    outputs: BTreeSet<PathBuf>,
    /// What is bundled, whatever its name, and although a build may have written it.
    bundled: BTreeSet<PathBuf>,
    seen: u64,
}

impl Sources {
    /// The sources as they are now.
    pub(crate) fn of(app: &App) -> Self {
        let own = (!app.is_file).then(|| app.directory.clone());
        let mut roots: BTreeSet<PathBuf> = own.into_iter().collect();
        let mut outputs = BTreeSet::new();
        let functions = || app.manifest.functions.values();
        let bundled = functions().filter_map(|function| Some(app.directory.join(function.bundled()?)));
        let bundled = bundled.collect();
        for function in functions() {
            match &function.build {
                Build::Cargo { dir } => {
                    let directory = app.directory.join(dir);
                    // A package that cargo does not understand right now is watched by itself.
                    roots.insert(workspace_root(&directory).unwrap_or(directory));
                }
                Build::Command { output, .. } => {
                    outputs.insert(app.directory.join(output));
                }
                Build::Artifact { path } => {
                    roots.insert(app.directory.join(path));
                }
                Build::Files => {}
            }
        }
        let mut sources = Self { roots, outputs, bundled, seen: 0 };
        sources.seen = sources.fingerprint();
        sources
    }

    /// Waits until something is not as it was seen last, and then until it stays as it is.
    pub(crate) fn changed(&mut self) {
        loop {
            thread::sleep(POLL);
            let mut now = self.fingerprint();
            if now == self.seen {
                continue;
            }
            // An editor or a checkout writes more than one file.
            loop {
                thread::sleep(POLL / 3);
                let next = self.fingerprint();
                if next == now {
                    break;
                }
                now = next;
            }
            self.seen = now;
            return;
        }
    }

    /// After a build by a command: files that it wrote beside its output are no change.
    pub(crate) fn settle(&mut self, app: &App) {
        if app.manifest.functions.values().any(|function| matches!(function.build, Build::Command { .. })) {
            self.seen = self.fingerprint();
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut left = FILES_MAX;
        for root in &self.roots {
            self.walk(root, 0, &mut left, &mut hasher);
        }
        for root in &self.bundled {
            self.walk_bundled(root, 0, &mut left, &mut hasher);
        }
        hasher.finish()
    }

    fn walk(&self, path: &Path, depth: usize, left: &mut usize, hasher: &mut DefaultHasher) {
        let Ok(about) = fs::symlink_metadata(path) else { return };
        if about.is_dir() {
            if depth == DEPTH_MAX {
                return;
            }
            let is_watched = |entry: &fs::DirEntry| watched(&entry.file_name().to_string_lossy());
            for entry in entries(path).into_iter().filter(is_watched) {
                self.walk(&entry.path(), depth + 1, left, hasher);
            }
        } else if *left > 0 && !self.outputs.contains(path) {
            *left -= 1;
            mark(path, &about, hasher);
        }
    }

    /// As `walk`, without an exception.
    fn walk_bundled(&self, path: &Path, depth: usize, left: &mut usize, hasher: &mut DefaultHasher) {
        let Ok(about) = fs::symlink_metadata(path) else { return };
        if about.is_dir() && depth < DEPTH_MAX {
            entries(path).iter().for_each(|entry| self.walk_bundled(&entry.path(), depth + 1, left, hasher));
        } else if *left > 0 {
            *left -= 1;
            mark(path, &about, hasher);
        }
    }
}

/// The entries of a directory by their names.
fn entries(path: &Path) -> Vec<fs::DirEntry> {
    let mut entries: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().collect();
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    entries
}

fn mark(path: &Path, about: &fs::Metadata, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    about.len().hash(hasher);
    about.modified().ok().hash(hasher);
}

fn watched(name: &str) -> bool {
    let hidden = name.starts_with('.') && name != ".cargo";
    // Cargo writes the lock file while it builds.
    !hidden && !name.ends_with('~') && name != "Cargo.lock" && !BUILD_DIRECTORIES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_bundled_counts() {
        let dir = tempfile::tempdir().unwrap();
        let manifest =
            "[app]\nname = \"shop\"\n[functions.hello]\nartifact = \"x\"\nfiles = \"target/site\"\n";
        fs::write(dir.path().join("baton.toml"), manifest).unwrap();
        fs::create_dir_all(dir.path().join("target/site/node_modules")).unwrap();
        let sources = Sources::of(&App::load(dir.path()).unwrap());
        let mut before = sources.fingerprint();
        for name in ["target/site/index.html", "target/site/.hidden", "target/site/node_modules/a.js"] {
            fs::write(dir.path().join(name), name).unwrap();
            let now = sources.fingerprint();
            assert_ne!(now, before, "{name}");
            before = now;
        }
        fs::write(dir.path().join("target/other"), "x").unwrap();
        assert_eq!(sources.fingerprint(), before);
    }

    #[test]
    fn sources_count_and_what_builds_write_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let manifest =
            "[app]\nname = \"shop\"\n[functions.hello]\nbuild = { command = \"make\", output = \"out\" }\n";
        fs::write(dir.path().join("baton.toml"), manifest).unwrap();
        fs::create_dir(dir.path().join("target")).unwrap();
        let sources = Sources::of(&App::load(dir.path()).unwrap());
        let before = sources.fingerprint();
        for quiet in ["out", "target/x", ".hidden", "Cargo.lock", "main.rs~"] {
            fs::write(dir.path().join(quiet), quiet).unwrap();
            assert_eq!(sources.fingerprint(), before, "{quiet}");
        }
        fs::write(dir.path().join("main.c"), "int main;").unwrap();
        let with = sources.fingerprint();
        assert_ne!(with, before);
        fs::write(dir.path().join("main.c"), "int main ;").unwrap();
        assert_ne!(sources.fingerprint(), with);
        fs::remove_file(dir.path().join("main.c")).unwrap();
        assert_eq!(sources.fingerprint(), before);
    }
}
