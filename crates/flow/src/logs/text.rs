//! What a line says: a text as it was written, or what is told of a request, which is put into words only for who reads it.

use std::fmt::{self, Display, Formatter};

use baton_policy::Line;

use super::cut;

/// What is told of a request, beside its texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    status: u16,
    method_len: u16,
    path_len: u16,
    has_key: bool,
    us: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text<'a> {
    Plain(&'a str),
    Served(Served, &'a str, &'a str, &'a str),
}

fn len(text: &str) -> u16 {
    // What is kept of a text is shorter.
    u16::try_from(text.len()).unwrap_or(u16::MAX)
}

impl<'a> Text<'a> {
    pub(super) fn of(line: &Line<'a>) -> Self {
        let (method, path) = (cut(line.method), cut(line.path));
        let key = line.key.map(cut);
        let served = Served {
            status: line.status,
            method_len: len(method),
            path_len: len(path),
            has_key: key.is_some(),
            us: line.duration_ns / 1000,
            bytes_in: line.bytes_in,
            bytes_out: line.bytes_out,
        };
        Text::Served(served, method, path, key.unwrap_or_default())
    }

    /// A line that was kept.
    pub(super) fn kept(served: Option<Served>, text: &'a str) -> Self {
        let Some(served) = served else { return Text::Plain(text) };
        let (method, rest) = text.split_at_checked(served.method_len.into()).unwrap_or_default();
        let (path, key) = rest.split_at_checked(served.path_len.into()).unwrap_or_default();
        Text::Served(served, method, path, key)
    }

    /// What is kept of it: its numbers, and its texts one behind the other.
    pub(super) fn parts(&self) -> (Option<Served>, [&'a str; 3]) {
        match *self {
            Text::Plain(text) => (None, [text, "", ""]),
            Text::Served(served, method, path, key) => (Some(served), [method, path, key]),
        }
    }
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Text::Plain(text) => f.write_str(text),
            Text::Served(served, method, path, key) => {
                let Served { status, us, bytes_in, bytes_out, .. } = served;
                write!(f, "{method} {path} status={status} us={us} in={bytes_in} out={bytes_out}")?;
                if served.has_key { write!(f, " key={key}") } else { Ok(()) }
            }
        }
    }
}
