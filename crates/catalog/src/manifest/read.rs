//! Typed reading of one TOML table, with the place of every value.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::fault::ManifestFault;
use crate::limits;
use crate::nearest::nearest;
use crate::units::{ByteSize, TimeSpan};
use crate::words::Word;

/// A fault and the bytes of the text where it stands.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) span: Range<usize>,
    pub(crate) fault: Box<ManifestFault>,
}

impl Located {
    pub(crate) fn new(span: Range<usize>, fault: ManifestFault) -> Self {
        Self { span, fault: Box::new(fault) }
    }
}

/// A text and the place of it.
pub(crate) type Placed<'d> = (Range<usize>, &'d str);

/// A whole text, if it is no larger than a manifest may be.
pub(crate) fn document(text: &str) -> Result<Spanned<DeTable<'_>>, Located> {
    if text.len() > limits::MANIFEST_BYTES_MAX {
        return Err(Located::new(0..0, ManifestFault::FileTooLarge { bytes: text.len() }));
    }
    DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        Located::new(span, ManifestFault::Syntax { message: error.message().to_owned() })
    })
}

/// A table whose keys are known to be known.
pub(crate) struct Reader<'d, 'i> {
    name: String,
    table: &'d DeTable<'i>,
    span: Range<usize>,
}

impl<'d, 'i> Reader<'d, 'i> {
    /// Opens a table; its first unknown key, in the order of the text, is refused.
    pub(crate) fn open(
        name: String,
        table: &'d DeTable<'i>,
        span: Range<usize>,
        known: &'static [&'static str],
    ) -> Result<Self, Located> {
        let unknown = table.keys().filter(|key| !known.contains(&&**key.get_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let nearest = nearest(key.get_ref(), known.iter().copied());
            let fault =
                ManifestFault::UnknownKey { table: name, key: key.get_ref().to_string(), nearest, known };
            return Err(Located::new(key.span(), fault));
        }
        Ok(Self { name, table, span })
    }

    /// Opens a table inside this one, if it is there.
    pub(crate) fn table(
        &self,
        key: &'static str,
        known: &'static [&'static str],
    ) -> Result<Option<Reader<'d, 'i>>, Located> {
        let Some((place, value)) = self.table.get_key_value(key) else { return Ok(None) };
        let name = self.key(key);
        let table = value.get_ref().as_table().ok_or_else(|| wrong_type(&name, "a table", value))?;
        Reader::open(name, table, place.span(), known).map(Some)
    }

    /// The span of the table's own name.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value of a key, as it stands.
    pub(crate) fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// The value of a key that must be there.
    pub(crate) fn required<V>(
        &self,
        value: Option<V>,
        key: &'static str,
        example: &'static str,
    ) -> Result<V, Located> {
        let missing = || ManifestFault::MissingKey { table: self.name.clone(), key, example };
        value.ok_or_else(|| Located::new(self.span(), missing()))
    }

    pub(crate) fn text(&self, key: &'static str) -> Result<Option<Placed<'d>>, Located> {
        self.get(key).map(|value| text(&self.key(key), value)).transpose()
    }

    pub(crate) fn bool(&self, key: &'static str) -> Result<Option<bool>, Located> {
        let read = |value: &Spanned<DeValue<'i>>| {
            value.get_ref().as_bool().ok_or_else(|| wrong_type(&self.key(key), "true or false", value))
        };
        self.get(key).map(read).transpose()
    }

    pub(crate) fn count(&self, key: &'static str) -> Result<Option<u32>, Located> {
        let read = |value: &Spanned<DeValue<'i>>| {
            let number =
                value.get_ref().as_integer().and_then(|i| u32::from_str_radix(i.as_str(), i.radix()).ok());
            number.ok_or_else(|| wrong_type(&self.key(key), "a whole number from 0 to 4294967295", value))
        };
        self.get(key).map(read).transpose()
    }

    pub(crate) fn float(&self, key: &'static str) -> Result<Option<(Range<usize>, f64)>, Located> {
        let read = |value: &Spanned<DeValue<'i>>| {
            let number = match value.get_ref() {
                DeValue::Float(float) => float.as_str().parse().ok(),
                DeValue::Integer(whole) => {
                    u32::from_str_radix(whole.as_str(), whole.radix()).ok().map(f64::from)
                }
                _ => None,
            };
            let number =
                number.ok_or_else(|| wrong_type(&self.key(key), "a positive number such as 0.5", value))?;
            Ok((value.span(), number))
        };
        self.get(key).map(read).transpose()
    }

    pub(crate) fn word<W: Word + Default>(&self, key: &'static str) -> Result<W, Located> {
        let Some((span, word)) = self.text(key)? else { return Ok(W::default()) };
        W::from_word(word).ok_or_else(|| {
            let nearest = nearest(word, W::WORDS.iter().copied());
            let (key, word) = (self.key(key), word.to_owned());
            Located::new(span, ManifestFault::UnknownWord { key, word, nearest, known: W::WORDS })
        })
    }

    /// A size: a text such as `"256MiB"`, or a bare number of bytes.
    pub(crate) fn size(&self, key: &'static str) -> Result<Option<ByteSize>, Located> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(bytes) => match u64::from_str_radix(bytes.as_str(), bytes.radix()) {
                Ok(bytes) => return Ok(Some(ByteSize::from_bytes(bytes))),
                Err(_) => bytes.to_string(),
            },
            _ => return Err(wrong_type(&self.key(key), "a size such as \"256MiB\"", value)),
        };
        let bad = |fault| ManifestFault::Size { key: self.key(key), text: text.clone(), fault };
        text.parse().map(Some).map_err(|fault| Located::new(value.span(), bad(fault)))
    }

    pub(crate) fn time(&self, key: &'static str) -> Result<Option<TimeSpan>, Located> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let expected = "a time such as \"2s\"";
        let text = value.get_ref().as_str().ok_or_else(|| wrong_type(&self.key(key), expected, value))?;
        let bad = |fault| ManifestFault::Time { key: self.key(key), text: text.to_owned(), fault };
        text.parse().map(Some).map_err(|fault| Located::new(value.span(), bad(fault)))
    }

    /// A list of texts; an absent list is nothing.
    pub(crate) fn texts(&self, key: &'static str) -> Result<Option<Vec<Placed<'d>>>, Located> {
        let Some(items) = self.list(key, "a list of texts")? else { return Ok(None) };
        let name = self.key(key);
        items.iter().map(|item| text(&name, item)).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn list(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<&'d DeArray<'i>>, Located> {
        let read = |value: &'d Spanned<DeValue<'i>>| {
            value.get_ref().as_array().ok_or_else(|| wrong_type(&self.key(key), expected, value))
        };
        self.get(key).map(read).transpose()
    }

    /// A key with its table, as messages name it.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// A value that must be text.
pub(crate) fn text<'d>(key: &str, value: &'d Spanned<DeValue<'_>>) -> Result<Placed<'d>, Located> {
    let text = value.get_ref().as_str().ok_or_else(|| wrong_type(key, "text in quotes", value))?;
    Ok((value.span(), text))
}

pub(crate) fn wrong_type(key: &str, expected: &'static str, value: &Spanned<DeValue<'_>>) -> Located {
    let found = match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(integer) if integer.as_str().starts_with('-') => "a negative number",
        DeValue::Integer(_) => "this number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Located::new(value.span(), ManifestFault::WrongType { key: key.to_owned(), expected, found })
}
