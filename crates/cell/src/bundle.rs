//! Bundles: the files of a function in one piece, as they are stored, and as a cell maps them.
//!
//! ```text
//!   0    magic │ count u32 │ bytes of all names u32
//!   16   count × { end of the name u32 │ 0 u32 │ end of the content u64 }      ends count from the first name, first content
//!        names, one behind the other                                           relative, ascending, each once
//!        contents, one behind the other, to the end
//! ```
//! A tree has one bundle and no other: there are no times, owners, gaps or paddings. Nothing is unpacked to read it, and
//! nothing is allocated: [`Bundle`] looks things up in the bytes. They come from whoever deploys, so that [`Bundle::parse`]
//! refuses what it would not have written, and what is read later is looked up with care all the same.

use core::fmt;

#[cfg(test)]
mod tests;

/// What a bundle begins with; the last character counts formats.
const MAGIC: [u8; 8] = *b"BATONFS1";
const HEAD_BYTES: usize = 16;
const RECORD_BYTES: usize = 16;

/// Most files of a bundle.
pub const FILES_MAX: usize = 4096;
/// Most bytes that they hold together.
pub const CONTENT_BYTES_MAX: u64 = 256 << 20;
/// Longest name of a file with the directories that it is in, bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest part of a name, bytes.
pub const PART_BYTES_MAX: usize = 255;
/// Most parts of a name.
pub const PARTS_MAX: usize = 32;
/// Largest bundle.
pub const BUNDLE_BYTES_MAX: u64 =
    CONTENT_BYTES_MAX + (HEAD_BYTES + FILES_MAX * (RECORD_BYTES + NAME_BYTES_MAX)) as u64;

/// Why bytes are no bundle, or files cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// It does not begin as a bundle does.
    Magic,
    /// It ends too early, or too late.
    Length,
    /// No files, or more than [`FILES_MAX`].
    Count {
        /// How many.
        count: usize,
    },
    /// The files hold more than [`CONTENT_BYTES_MAX`] together.
    TooLarge,
    /// Names or contents do not lie one behind the other.
    Order {
        /// Which file.
        index: usize,
    },
    /// A name that no file may have.
    Name {
        /// Which file.
        index: usize,
        /// What is wrong with it.
        fault: NameFault,
    },
}

/// What is wrong with the name of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// It is not UTF-8.
    Encoding,
    /// It has a part that is empty, `.`, `..` or has a NUL in it.
    Part,
    /// It, or a part of it, is too long, or it has too many parts.
    TooLong,
    /// It is not behind the name before it.
    Order,
    /// Another file has the name of a directory that this one is in.
    Parent,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::Magic => f.write_str("it does not begin as a bundle of files does"),
            BundleError::Length => f.write_str("it is not as long as it says"),
            BundleError::Count { count } => {
                write!(f, "{count} files: there are 1 to {FILES_MAX} in a bundle")
            }
            BundleError::TooLarge => {
                write!(f, "its files hold more than {} MiB together", CONTENT_BYTES_MAX >> 20)
            }
            BundleError::Order { index } => write!(f, "file {index} does not lie behind the one before it"),
            BundleError::Name { index, fault } => write!(f, "the name of file {index} {fault}"),
        }
    }
}

impl core::error::Error for BundleError {}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::Encoding => f.write_str("is not UTF-8"),
            NameFault::Part => f.write_str("has a part that is empty, `.`, `..` or has a NUL in it"),
            NameFault::TooLong => write!(
                f,
                "is too long: {NAME_BYTES_MAX} bytes in {PARTS_MAX} parts of {PART_BYTES_MAX} bytes are the most"
            ),
            NameFault::Order => f.write_str("is not behind the one before it"),
            NameFault::Parent => f.write_str("goes through another file"),
        }
    }
}

/// Whether a file may have this name.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &[u8]) -> Result<&str, NameFault> {
    let text = core::str::from_utf8(name).map_err(|_| NameFault::Encoding)?;
    if name.len() > NAME_BYTES_MAX {
        return Err(NameFault::TooLong);
    }
    let mut parts = 0;
    for part in name.split(|&byte| byte == b'/') {
        parts += 1;
        if matches!(part, b"" | b"." | b"..") || part.contains(&0) {
            return Err(NameFault::Part);
        }
        if part.len() > PART_BYTES_MAX || parts > PARTS_MAX {
            return Err(NameFault::TooLong);
        }
    }
    Ok(text)
}

/// The bytes of a bundle in front of its contents, for files by name and length in the order of their names.
///
/// # Errors
/// They cannot be one bundle.
pub fn head(files: &[(&str, u64)]) -> Result<Vec<u8>, BundleError> {
    let mut out = MAGIC.to_vec();
    let names: usize = files.iter().map(|(name, _)| name.len()).sum();
    let word = |len: usize| u32::try_from(len).map(u32::to_le_bytes).map_err(|_| BundleError::Length);
    out.extend(word(files.len())?);
    out.extend(word(names)?);
    let (mut name_end, mut content_end) = (0, 0u64);
    for (name, len) in files {
        name_end += name.len();
        content_end = content_end.checked_add(*len).ok_or(BundleError::TooLarge)?;
        out.extend(word(name_end)?);
        out.extend([0; 4]);
        out.extend(content_end.to_le_bytes());
    }
    files.iter().for_each(|(name, _)| out.extend(name.as_bytes()));
    Bundle::check(&out, (out.len() as u64).saturating_add(content_end))?;
    Ok(out)
}

/// The files of a function, in the order of their names.
#[derive(Clone, Copy, Default)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    count: usize,
    names_at: usize,
    contents_at: usize,
}

impl fmt::Debug for Bundle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundle {{ {} files, {} bytes }}", self.count, self.bytes.len())
    }
}

impl<'a> Bundle<'a> {
    /// No files at all, which no bytes say.
    pub const NONE: Bundle<'static> = Bundle { bytes: &[], count: 0, names_at: 0, contents_at: 0 };

    /// Checks everything that `bytes` say.
    ///
    /// # Errors
    /// They are no bundle.
    pub fn parse(bytes: &'a [u8]) -> Result<Bundle<'a>, BundleError> {
        Bundle::check(bytes, bytes.len() as u64)
    }

    /// Checks a bundle of `len` bytes, whose contents may be missing in `bytes`.
    fn check(bytes: &'a [u8], len: u64) -> Result<Bundle<'a>, BundleError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(BundleError::Magic);
        }
        let word = |at| u32_at(bytes, at).and_then(|word| usize::try_from(word).ok());
        let count = word(8).ok_or(BundleError::Length)?;
        let names = word(12).ok_or(BundleError::Length)?;
        if count == 0 || count > FILES_MAX {
            return Err(BundleError::Count { count });
        }
        let names_at = HEAD_BYTES + count * RECORD_BYTES;
        let contents_at = names_at.checked_add(names).ok_or(BundleError::Length)?;
        if bytes.len() < contents_at {
            return Err(BundleError::Length);
        }
        let bundle = Bundle { bytes, count, names_at, contents_at };
        let mut before = (0, 0);
        for index in 0..count {
            let ends = bundle.ends(index).filter(|ends| ends.0 >= before.0 && ends.1 >= before.1);
            let padding = u32_at(bytes, HEAD_BYTES + index * RECORD_BYTES + 4);
            before = ends.filter(|_| padding == Some(0)).ok_or(BundleError::Order { index })?;
            let fault = |fault| BundleError::Name { index, fault };
            check_name(bundle.raw_name(index)).map_err(fault)?;
            bundle.check_place(index).map_err(fault)?;
        }
        let content_bytes = before.1;
        if content_bytes > CONTENT_BYTES_MAX {
            return Err(BundleError::TooLarge);
        }
        if before.0 != names as u64 || contents_at as u64 + content_bytes != len {
            return Err(BundleError::Length);
        }
        Ok(bundle)
    }

    /// Whether a name is behind the one before it, and below no file.
    fn check_place(&self, index: usize) -> Result<(), NameFault> {
        let name = self.raw_name(index);
        if index.checked_sub(1).is_some_and(|before| self.raw_name(before) >= name) {
            return Err(NameFault::Order);
        }
        let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (at, _) in slashes {
            // All before this one are in order already, and so is what a directory's name would come among.
            let directory = name.get(..at).unwrap_or_default();
            let place = partition(index, |before| self.raw_name(before) < directory);
            if place < index && self.raw_name(place) == directory {
                return Err(NameFault::Parent);
            }
        }
        Ok(())
    }

    /// How many files there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The name of a file, without a slash in front; empty if there is no such file.
    #[must_use]
    pub fn name(&self, index: usize) -> &'a str {
        core::str::from_utf8(self.raw_name(index)).unwrap_or_default()
    }

    pub(crate) fn raw_name(&self, index: usize) -> &'a [u8] {
        let (from, to) = (self.start(index).0, self.ends(index).unwrap_or_default().0);
        self.slice(self.names_at, from, to)
    }

    /// What is in a file; nothing if there is no such file.
    #[must_use]
    pub fn content(&self, index: usize) -> &'a [u8] {
        let (from, to) = (self.start(index).1, self.ends(index).unwrap_or_default().1);
        self.slice(self.contents_at, from, to)
    }

    /// The first file of which `is_before` is not true, where that holds of all before it and of none behind.
    pub(crate) fn partition(&self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        partition(self.count, |index| is_before(self.raw_name(index)))
    }

    /// Where the name and the content of a file end, from the first of each.
    fn ends(&self, index: usize) -> Option<(u64, u64)> {
        let at = HEAD_BYTES + Some(index).filter(|index| *index < self.count)? * RECORD_BYTES;
        let record = self.bytes.get(at..at + RECORD_BYTES)?;
        let content = record.last_chunk().map(|bytes| u64::from_le_bytes(*bytes))?;
        Some((u64::from(u32_at(record, 0)?), content))
    }

    fn start(&self, index: usize) -> (u64, u64) {
        index.checked_sub(1).and_then(|before| self.ends(before)).unwrap_or_default()
    }

    fn slice(&self, base: usize, from: u64, to: u64) -> &'a [u8] {
        let place = |at: u64| usize::try_from(at).ok().and_then(|at| base.checked_add(at));
        let range = place(from).zip(place(to));
        range.and_then(|(from, to)| self.bytes.get(from..to)).unwrap_or_default()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// The first number below `end` of which `is_before` is not true.
fn partition(end: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, end);
    while from < to {
        let middle = from + (to - from) / 2;
        if is_before(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
