//! How an [`Os`](super::Os) is written beside a snapshot, and read again.
//!
//! Fixed little-endian words, in an order that only this version knows. Whoever keeps them checks that they come back
//! as they were; what would break an invariant is refused all the same.

/// What identifies this version.
const MAGIC: u64 = 0x0001_534f_4e54_4142;

/// Writes words.
#[derive(Debug, Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn new() -> Out {
        let mut out = Out::default();
        out.word(MAGIC);
        out
    }

    pub(super) fn word(&mut self, word: u64) {
        self.0.extend(word.to_le_bytes());
    }

    pub(super) fn words(&mut self, words: impl IntoIterator<Item = u64>) {
        words.into_iter().for_each(|word| self.word(word));
    }

    pub(super) fn count(&mut self, count: usize) {
        self.word(count as u64);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.word(u64::from(flag));
    }

    /// A word that may be missing.
    pub(super) fn maybe(&mut self, word: Option<u64>) {
        self.flag(word.is_some());
        self.word(word.unwrap_or(0));
    }
}

/// Reads what [`Out`] wrote; `None` where it did not write that.
#[derive(Debug)]
pub(super) struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<In<'a>> {
        let mut saved = In(bytes);
        (saved.word()? == MAGIC).then_some(saved)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn word(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    pub(super) fn words<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.word()?;
        }
        Some(words)
    }

    /// A number of things, of which there are at most `most`.
    pub(super) fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.word()?).ok().filter(|&count| count <= most)
    }

    /// A number of a smaller type.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.word()?).ok()
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.word()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn maybe(&mut self) -> Option<Option<u64>> {
        let (is_some, word) = (self.flag()?, self.word()?);
        Some(is_some.then_some(word))
    }
}
