//! Heads on their way out: method, path and headers as records.

use baton_abi::head::{Field, Record, record_bytes, records, write_record};

use crate::context::TRACEPARENT;
use crate::error::Error;

/// The head of a call or of an answer, as it is written.
#[derive(Debug, Default)]
pub(crate) struct Heading {
    bytes: Vec<u8>,
    /// What was too long to be encoded. Whatever has this head is not sent.
    overflow: Option<Field>,
}

impl Heading {
    pub(crate) const EMPTY: Heading = Heading { bytes: Vec::new(), overflow: None };

    /// A head that is encoded already; `None` if it is not well-formed, or longer than a head may be.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn encoded(bytes: Vec<u8>) -> Option<Heading> {
        let is_good =
            bytes.len() <= baton_abi::limits::HEAD_MAX_BYTES && records(&bytes).all(|record| record.is_ok());
        is_good.then_some(Heading { bytes, overflow: None })
    }

    /// The encoded head; empty if there is none.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a header; its name in lower case.
    pub(crate) fn header(&mut self, name: &str, value: &[u8]) {
        if name.eq_ignore_ascii_case(TRACEPARENT) {
            // A request has one; the last one given counts.
            self.keep(|record| record.field != Field::Header || record.name != TRACEPARENT);
        }
        let at = self.bytes.len();
        self.write(Field::Header, name, value);
        let from = at + record_bytes("", b"");
        if let Some(name) = self.bytes.get_mut(from..from + name.len()) {
            name.make_ascii_lowercase();
        }
    }

    /// Sets what a head has once.
    pub(crate) fn set(&mut self, field: Field, value: &str) {
        let is_there = records(&self.bytes).flatten().any(|record| record.field == field);
        if is_there {
            self.keep(|record| record.field != field);
        }
        self.write(field, "", value.as_bytes());
    }

    /// Takes out all but what `stays`.
    fn keep(&mut self, stays: impl Fn(&Record<'_>) -> bool) {
        let before = core::mem::take(&mut self.bytes);
        for record in records(&before).flatten().filter(|record| stays(record)) {
            self.write(record.field, record.name, record.value);
        }
    }

    fn write(&mut self, field: Field, name: &str, value: &[u8]) {
        let at = self.bytes.len();
        self.bytes.resize(at + record_bytes(name, value), 0);
        if write_record(&mut self.bytes, at, field, name, value).is_err() {
            self.bytes.truncate(at);
            self.overflow = Some(field);
        }
    }

    /// Whether everything could be encoded.
    ///
    /// # Errors
    /// [`Error::Handler`] with status 500 that names what is too long.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.overflow {
            None => Ok(()),
            Some(field) => Err(too_long(field)),
        }
    }
}

#[cold]
fn too_long(field: Field) -> Error {
    let what = match field {
        Field::Method => "a method",
        Field::Path => "a path",
        Field::Query => "a query",
        Field::Param => "a parameter",
        Field::Header => "a header",
        Field::Identity | Field::Stream => "a record",
    };
    Error::new(
        500,
        format!(
            "{what} cannot be sent: names have at most 255 bytes, values 65,535, and a head altogether 128 KiB"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(heading: &Heading) -> Vec<(Field, String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = records(heading.bytes()).map(Result::unwrap);
        all.map(|record| (record.field, record.name.to_owned(), text(record.value))).collect()
    }

    #[test]
    fn what_is_set_twice_is_there_once_and_headers_add_up() {
        let mut heading = Heading::EMPTY;
        heading.set(Field::Method, "GET");
        heading.header("Accept", b"a");
        heading.set(Field::Path, "/x");
        heading.set(Field::Method, "POST");
        heading.header("accept", b"b");
        let header = |value: &str| (Field::Header, "accept".to_owned(), value.to_owned());
        let plain = |field, value: &str| (field, String::new(), value.to_owned());
        assert_eq!(
            read(&heading),
            [header("a"), plain(Field::Path, "/x"), plain(Field::Method, "POST"), header("b")]
        );
        assert_eq!(heading.check(), Ok(()));
    }

    #[test]
    fn what_is_too_long_is_left_out_and_told() {
        let mut heading = Heading::EMPTY;
        heading.header("a", b"b");
        heading.set(Field::Path, &"/".repeat(65_536));
        assert_eq!(read(&heading).len(), 1);
        let failed = heading.check().unwrap_err();
        assert!(failed.status() == 500 && failed.to_string().contains("a path"), "{failed}");
        let mut heading = Heading::EMPTY;
        (0..3).for_each(|_| heading.header("a", &[b'x'; 60_000]));
        assert_eq!(read(&heading).len(), 2);
        assert!(heading.check().is_err());
    }
}
