//! What there is to open: the files of the function, and the few that runtimes look for. All of it can only be read.

use std::sync::Arc;

use super::{ConfigError, Errno, File};

/// What [`SELF_EXECUTABLE`] is a link to.
pub(super) const EXECUTABLE: &str = "/function";
/// The only link.
pub(super) const SELF_EXECUTABLE: &[u8] = b"/proc/self/exe";
const DEVICES: [(&str, Node); 4] = [
    ("/dev/null", Node::Null),
    ("/dev/zero", Node::Zero),
    ("/dev/random", Node::Random),
    ("/dev/urandom", Node::Random),
];
/// Where runtimes look for the number of processors.
const TEXTS: [(&str, &str); 2] =
    [("/sys/devices/system/cpu/online", "0\n"), ("/sys/devices/system/cpu/possible", "0\n")];

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A directory: of the path of that file, so many bytes. Its own path does not end with a slash.
    Directory {
        /// Place of any file below it.
        sample: u32,
        /// Length of its path; 0 for the root.
        len: u32,
    },
    /// A file of the function, by its place.
    File(u32),
    /// A file of a fixed text, by its place.
    Text(u8),
    /// Takes everything, gives nothing.
    Null,
    /// Gives zeros.
    Zero,
    /// Gives random bytes.
    Random,
}

/// What is in a file.
pub(super) enum Bytes {
    Bundled(Arc<[File]>, usize),
    Fixed(&'static str),
}

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Bundled(files, index) => files.get(*index).map_or(&[], |file| &file.bytes),
            Bytes::Fixed(text) => text.as_bytes(),
        }
    }

    /// At most `len` of them, from `from` on.
    pub(super) fn part(&self, from: u64, len: u64) -> &[u8] {
        let rest = self.as_slice().get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
        rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest)
    }
}

/// The entry of a directory that is there at some place of the list of files.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) is_directory: bool,
    /// Its first file.
    pub(super) at: usize,
    /// The first file behind it.
    pub(super) next: usize,
}

/// The files of a function, in the order of their paths.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<[File]>);

impl Files {
    pub(super) fn new(files: &Arc<[File]>) -> Result<Files, ConfigError> {
        let mut last = "";
        for (index, file) in files.iter().enumerate() {
            let is_normal = resolve(b"", file.path.as_bytes()) == file.path.as_bytes() && file.path.len() > 1;
            if !is_normal || file.path.as_str() <= last || u32::try_from(index).is_err() {
                return Err(ConfigError::File { index });
            }
            last = &file.path;
        }
        Ok(Files(Arc::clone(files)))
    }

    /// What an absolute path that [`resolve`] gave leads to.
    pub(super) fn find(&self, path: &[u8]) -> Result<Node, Errno> {
        let path = if path == SELF_EXECUTABLE { EXECUTABLE.as_bytes() } else { path };
        if path.is_empty() {
            return Ok(Node::Directory { sample: 0, len: 0 });
        }
        if let Some((_, node)) = DEVICES.iter().find(|(name, _)| name.as_bytes() == path) {
            return Ok(*node);
        }
        if let Some(index) = TEXTS.iter().position(|(name, _)| name.as_bytes() == path) {
            return u8::try_from(index).map(Node::Text).map_err(|_| Errno::NOENT);
        }
        let at = self.first_from(path, b"");
        let place = u32::try_from(at).map_err(|_| Errno::NOENT)?;
        if self.0.get(at).is_some_and(|file| file.path.as_bytes() == path) {
            return Ok(Node::File(place));
        }
        let below = self.first_from(path, b"/");
        let is_directory = self.path(below).strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
        if !is_directory {
            return Err(Errno::NOENT);
        }
        let sample = u32::try_from(below).map_err(|_| Errno::NOENT)?;
        Ok(Node::Directory { sample, len: u32::try_from(path.len()).map_err(|_| Errno::NAMETOOLONG)? })
    }

    fn path(&self, index: usize) -> &[u8] {
        self.0.get(index).map_or(&[], |file| file.path.as_bytes())
    }

    /// The first file whose path is not before `path` and `more`, one behind the other.
    fn first_from(&self, path: &[u8], more: &[u8]) -> usize {
        self.0.partition_point(|file| file.path.bytes().lt(path.iter().chain(more).copied()))
    }

    /// The path of a directory, without a slash at its end.
    pub(super) fn directory(&self, sample: u32, len: u32) -> &[u8] {
        self.path(sample as usize).get(..len as usize).unwrap_or_default()
    }

    /// The entry of directory `path` that begins with file `from`, or the first one behind that.
    pub(super) fn entry(&self, path: &[u8], from: usize) -> Option<Entry<'_>> {
        let at = from.max(self.first_from(path, b"/"));
        let rest = self.0.get(at)?.path.get(path.len()..)?.strip_prefix('/')?;
        if !self.path(at).starts_with(path) {
            return None;
        }
        match rest.split_once('/') {
            None => Some(Entry { name: rest, is_directory: false, at, next: at + 1 }),
            Some((name, _)) => {
                let whole = self.path(at).get(..path.len() + 1 + name.len())?;
                // The first byte behind a slash: all that is below it comes before.
                let next = self.first_from(whole, b"0");
                Some(Entry { name, is_directory: true, at, next })
            }
        }
    }

    /// Whether there is such a node.
    pub(super) fn has(&self, node: Node) -> bool {
        match node {
            Node::File(index) => (index as usize) < self.0.len(),
            Node::Text(index) => usize::from(index) < TEXTS.len(),
            Node::Directory { len: 0, .. } | Node::Null | Node::Zero | Node::Random => true,
            Node::Directory { sample, len } => self.path(sample as usize).get(len as usize) == Some(&b'/'),
        }
    }

    /// What is in a node; `None` if it is not a file.
    pub(super) fn bytes(&self, node: Node) -> Option<Bytes> {
        match node {
            Node::File(index) => Some(Bytes::Bundled(Arc::clone(&self.0), index as usize)),
            Node::Text(index) => TEXTS.get(usize::from(index)).map(|(_, text)| Bytes::Fixed(text)),
            _ => None,
        }
    }
}

/// The path that `path` means in directory `base`: without `.`, `..`, doubled slashes, and a slash at its end. The root
/// is empty. (There are no links, so that `..` can be taken at its word.)
pub(super) fn resolve(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut whole = if path.starts_with(b"/") { Vec::new() } else { base.to_vec() };
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => whole.truncate(whole.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            _ => {
                whole.push(b'/');
                whole.extend_from_slice(part);
            }
        }
    }
    whole
}
