//! Records of heads, put one behind the other.

use baton_abi::head::{Field, close_record, record_bytes, write_record};

/// Puts a record behind others. Says whether a record holds it; if none does, they are left as they are.
pub(crate) fn append(head: &mut Vec<u8>, field: Field, name: &str, value: &[u8]) -> bool {
    append_with(head, field, name, |to| to.extend_from_slice(value))
}

/// As [`append`], of a value that is written where it goes.
pub(crate) fn append_with(
    head: &mut Vec<u8>,
    field: Field,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>),
) -> bool {
    let at = head.len();
    head.resize(at + record_bytes(name, b""), 0);
    let begun = write_record(head, at, field, name, b"");
    write(head);
    let fits = begun.and_then(|_| close_record(head, at)).is_ok();
    if !fits {
        head.truncate(at);
    }
    fits
}
