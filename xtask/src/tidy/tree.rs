//! All files that git would commit, read once: what every check looks at.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{fmt, fs, io};

/// Files as checks see them: paths relative to the repository, with `/`, in order.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
    /// Every file and every directory above one.
    paths: BTreeSet<String>,
}

/// One file; `text` is empty if it is not UTF-8.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Why the tree could not be had.
#[derive(Debug)]
pub(crate) enum TreeError {
    /// `git ls-files` could not be started.
    Git(io::Error),
    /// `git ls-files` failed, most likely because this is not a clone.
    NotAClone { stderr: String },
    /// A listed file could not be read.
    Read { path: String, source: io::Error },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(source) => write!(f, "cannot start git to list the files: {source}"),
            Self::NotAClone { stderr } => write!(f, "git cannot list the files: {}", stderr.trim()),
            Self::Read { path, source } => write!(f, "cannot read {path}: {source}"),
        }
    }
}

impl Tree {
    /// The files of the clone at `root`: tracked, and new ones that are not ignored. A file that is tracked but deleted
    /// in the working tree is left out, since the next commit will not have it.
    pub(crate) fn from_git(root: &Path) -> Result<Self, TreeError> {
        let listing = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(TreeError::Git)?;
        if !listing.status.success() {
            return Err(TreeError::NotAClone { stderr: String::from_utf8_lossy(&listing.stderr).into() });
        }
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let mut files = Vec::new();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            match fs::read(root.join(path)) {
                Ok(bytes) => files.push((path.to_owned(), String::from_utf8(bytes).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A symbolic link to a directory is listed like a file.
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    files.push((path.to_owned(), String::new()));
                }
                Err(source) => return Err(TreeError::Read { path: path.to_owned(), source }),
            }
        }
        Ok(Self::from_pairs(files))
    }

    /// A tree out of `(path, text)` pairs.
    pub(crate) fn from_pairs<P: Into<String>, T: Into<String>>(
        pairs: impl IntoIterator<Item = (P, T)>,
    ) -> Self {
        let mut tree = Self::default();
        for (path, text) in pairs {
            let path = path.into();
            for (end, _) in path.match_indices('/') {
                tree.paths.insert(path.get(..end).unwrap_or_default().to_owned());
            }
            tree.paths.insert(path.clone());
            tree.files.push(File { path, text: text.into() });
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    /// Every file.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// The Rust sources.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The Markdown pages.
    pub(crate) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".md"))
    }

    /// One file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or a directory of this path exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.contains(path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_above_a_file_exist() {
        let tree = Tree::from_pairs([("crates/pool/src/lib.rs", "")]);
        assert!(tree.has("crates/pool/src/lib.rs"));
        assert!(tree.has("crates/pool/"));
        assert!(tree.has("crates"));
        assert!(!tree.has("crates/po"));
    }
}
