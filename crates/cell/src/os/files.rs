//! What there is to open: the files of the function, and the few that runtimes look for. All of it can only be read.

use baton_abi::boot::FILES_AT;

use super::Errno;
use crate::bundle::{Bundle, PARTS_MAX};

/// The directory of the function's files.
pub(super) const MOUNT: &[u8] = FILES_AT.to_bytes();
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
        /// Length of its path, [`MOUNT`] included; 0 for the root.
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

/// At most `len` of some bytes, from `from` on.
pub(super) fn part(bytes: &[u8], from: u64, len: u64) -> &[u8] {
    let rest = bytes.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest)
}

/// The entry of a directory that is there at some place of the list of files.
pub(super) struct Entry {
    pub(super) name: &'static [u8],
    pub(super) is_directory: bool,
    /// Its first file.
    pub(super) at: usize,
    /// The first file behind it.
    pub(super) next: usize,
}

/// The files of a function, in the order of their paths. Their bytes are the cell's one mapping of the bundle, which no
/// guest can reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files(Bundle<'static>);

impl Files {
    pub(super) fn new(bundle: Bundle<'static>) -> Files {
        Files(bundle)
    }

    /// What an absolute path that [`resolve`] gave leads to.
    pub(super) fn find(&self, path: &[u8]) -> Result<Node, Errno> {
        if path.is_empty() {
            return Ok(Node::Directory { sample: 0, len: 0 });
        }
        if let Some((_, node)) = DEVICES.iter().find(|(name, _)| name.as_bytes() == path) {
            return Ok(*node);
        }
        if let Some(index) = TEXTS.iter().position(|(name, _)| name.as_bytes() == path) {
            return u8::try_from(index).map(Node::Text).map_err(|_| Errno::NOENT);
        }
        let below_mount = path.strip_prefix(MOUNT).filter(|_| !self.0.is_empty()).ok_or(Errno::NOENT)?;
        let len = u32::try_from(path.len()).map_err(|_| Errno::NAMETOOLONG)?;
        let name = match below_mount.split_first() {
            None => return Ok(Node::Directory { sample: 0, len }),
            Some((b'/', name)) => name,
            Some(_) => return Err(Errno::NOENT),
        };
        let place = |at: usize| u32::try_from(at).map_err(|_| Errno::NOENT);
        let at = self.first_from(name, b"");
        if at < self.0.count() && self.0.raw_name(at) == name {
            return Ok(Node::File(place(at)?));
        }
        let below = self.first_from(name, b"/");
        match self.0.raw_name(below).strip_prefix(name) {
            Some([b'/', ..]) => Ok(Node::Directory { sample: place(below)?, len }),
            // A file that is gone through as if it were a directory.
            _ if self.is_below_file(name) => Err(Errno::NOTDIR),
            _ => Err(Errno::NOENT),
        }
    }

    fn is_below_file(&self, name: &[u8]) -> bool {
        let parents = (0..name.len()).filter(|at| name.get(*at) == Some(&b'/'));
        // No file is deeper: a guest's path may be.
        parents.take(PARTS_MAX).filter_map(|at| name.get(..at)).any(|parent| {
            let at = self.first_from(parent, b"");
            at < self.0.count() && self.0.raw_name(at) == parent
        })
    }

    /// The first file whose name is not before `name` and `more`, one behind the other.
    fn first_from(&self, name: &[u8], more: &[u8]) -> usize {
        self.0.partition(|other| other.strip_prefix(name).map_or(other < name, |rest| rest < more))
    }

    /// The path of a directory, without a slash at its end.
    pub(super) fn directory(&self, sample: u32, len: u32) -> Vec<u8> {
        let mut path = [MOUNT, b"/", self.0.raw_name(sample as usize)].concat();
        path.truncate(len as usize);
        path
    }

    /// The entry of directory `path` that begins with file `from`, or the first one behind that.
    pub(super) fn entry(&self, path: &[u8], from: usize) -> Option<Entry> {
        let count = self.0.count();
        if path.is_empty() {
            let name = MOUNT.get(1..).unwrap_or_default();
            return (from < count).then_some(Entry { name, is_directory: true, at: 0, next: count });
        }
        // The root's own files have nothing in front of their names.
        let inside = path.get(MOUNT.len() + 1..).map(|name| [name, b"/"].concat()).unwrap_or_default();
        let at = from.max(self.first_from(&inside, b""));
        let rest = self.0.raw_name(at).strip_prefix(inside.as_slice()).filter(|_| at < count)?;
        match rest.iter().position(|&byte| byte == b'/') {
            None => Some(Entry { name: rest, is_directory: false, at, next: at + 1 }),
            Some(end) => {
                let name = rest.get(..end)?;
                // The first byte behind a slash: all that is below the directory comes before.
                let next = self.first_from(&[&inside, name].concat(), b"0");
                Some(Entry { name, is_directory: true, at, next })
            }
        }
    }

    /// Whether there is such a node.
    pub(super) fn has(&self, node: Node) -> bool {
        match node {
            Node::File(index) => (index as usize) < self.0.count(),
            Node::Text(index) => usize::from(index) < TEXTS.len(),
            Node::Directory { len: 0, .. } | Node::Null | Node::Zero | Node::Random => true,
            Node::Directory { sample, len } => {
                let Some(rest) = (len as usize).checked_sub(MOUNT.len()) else { return false };
                let is_there = (sample as usize) < self.0.count();
                let ends_there = || rest > 1 && self.0.raw_name(sample as usize).get(rest - 1) == Some(&b'/');
                is_there && (rest == 0 || ends_there())
            }
        }
    }

    /// What is in a node; `None` if it is not a file.
    pub(super) fn bytes(&self, node: Node) -> Option<&'static [u8]> {
        match node {
            Node::File(index) => Some(self.0.content(index as usize)),
            Node::Text(index) => TEXTS.get(usize::from(index)).map(|(_, text)| text.as_bytes()),
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
