//! Records of heads, put one behind the other.

use baton_abi::head::{Field, close_record, record_prefix};

/// Puts a record behind others. Says whether a record holds it; if none does, they are left as they are.
pub(crate) fn append(head: &mut Vec<u8>, field: Field, name: &[u8], value: &[u8]) -> bool {
    let Ok(prefix) = record_prefix(head.len(), field, name, value) else { return false };
    for part in [&prefix, name, value] {
        head.extend_from_slice(part);
    }
    true
}

/// As [`append`], of a value that is written where it goes.
pub(crate) fn append_with(
    head: &mut Vec<u8>,
    field: Field,
    name: &[u8],
    write: impl FnOnce(&mut Vec<u8>),
) -> bool {
    let at = head.len();
    if !append(head, field, name, b"") {
        return false;
    }
    write(head);
    let fits = close_record(head, at).is_ok();
    if !fits {
        head.truncate(at);
    }
    fits
}
