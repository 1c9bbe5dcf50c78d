//! `baton.test.toml`: the cases of an app.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;

/// Cases of one file.
const CASES_MAX: usize = 10_000;
/// How long a case may take, unless it says otherwise, and at most.
const TIMEOUT_MS: u64 = 30_000;
const TIMEOUT_MS_MAX: u64 = 600_000;
/// What a receipt says that can be held against a number.
const FIELDS: [&str; 11] = [
    "hops",
    "copies",
    "bytes_copied",
    "bytes_handed",
    "crossings",
    "switches",
    "cpu_ns",
    "wall_ns",
    "protocol_passes",
    "serialisations",
    "sidecar_ns",
];

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    pub(super) cases: Vec<Case>,
}

/// One request, and what is expected of its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Asked,
    #[serde(default)]
    pub(super) expect: Expected,
    #[serde(default = "usual_timeout")]
    timeout_ms: u64,
}

fn usual_timeout() -> u64 {
    TIMEOUT_MS
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    method: Option<String>,
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    /// A file with the body, beside the cases.
    #[serde(default)]
    file: Option<String>,
}

/// What an answer should be. What is left out is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    pub(super) status: Option<u16>,
    /// Header and value; an empty value: the header is not there.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
    /// A file with the body, beside the cases.
    pub(super) file: Option<String>,
    /// Texts that the body has somewhere.
    #[serde(default)]
    pub(super) contains: Vec<String>,
    /// What the body has as JSON: of objects the keys that are named, anything else as it is.
    pub(super) json: Option<Value>,
    /// What holds of the receipt, such as `copies == 0`.
    #[serde(default)]
    receipt: Vec<String>,
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Unequal,
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Something that holds of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) text: String,
    pub(super) field: &'static str,
    pub(super) relation: Relation,
    pub(super) number: u64,
}

impl Relation {
    const ALL: [(&'static str, Relation); 6] = [
        ("==", Relation::Equal),
        ("!=", Relation::Unequal),
        ("<=", Relation::AtMost),
        (">=", Relation::AtLeast),
        ("<", Relation::Below),
        (">", Relation::Above),
    ];

    pub(super) fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Relation::Equal => left == right,
            Relation::Unequal => left != right,
            Relation::Below => left < right,
            Relation::AtMost => left <= right,
            Relation::Above => left > right,
            Relation::AtLeast => left >= right,
        }
    }
}

impl Assertion {
    pub(super) fn parse(text: &str) -> Result<Assertion, String> {
        let split =
            Relation::ALL.iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, *relation)));
        let ((field, number), relation) =
            split.ok_or_else(|| format!("`{text}` compares nothing; write it like `copies == 0`"))?;
        let field = FIELDS.into_iter().find(|known| *known == field.trim()).ok_or_else(|| {
            format!("`{}` is nothing that receipts say; they say {}", field.trim(), FIELDS.join(", "))
        })?;
        let digits = number.trim().replace('_', "");
        let number = digits.parse().map_err(|_| format!("`{}` in `{text}` is no number", number.trim()))?;
        Ok(Assertion { text: text.to_owned(), field, relation, number })
    }
}

fn bad(file: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::bad_input(format_args!("{}: {what}", file.display()), "see docs/testing.md")
}

/// A case that can be run.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) case: Case,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
    pub(super) wanted_body: Option<Vec<u8>>,
    pub(super) receipt: Vec<Assertion>,
    pub(super) timeout: Duration,
}

/// Reads the cases of a file, with the files that they name.
pub(super) fn read(file: &Path) -> Result<Vec<Ready>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::bad_input(
            format_args!("cannot read {}: {error}", file.display()),
            "write the cases there, or name their file with --cases",
        )
    })?;
    let Cases { cases } = toml::from_str(&text).map_err(|error| bad(file, error))?;
    if cases.is_empty() || cases.len() > CASES_MAX {
        return Err(bad(file, format_args!("{} cases; at least one, {CASES_MAX} at most", cases.len())));
    }
    cases.into_iter().map(|case| ready(case, file)).collect()
}

fn ready(case: Case, file: &Path) -> Result<Ready, Failure> {
    let wrong = |what: &dyn std::fmt::Display| bad(file, format_args!("case `{}`: {what}", case.name));
    let load = |name: &str| {
        let path = file.parent().unwrap_or(Path::new(".")).join(name);
        std::fs::read(&path).map_err(|error| wrong(&format_args!("cannot read {}: {error}", path.display())))
    };
    let asked = &case.request;
    let body = match (&asked.body, &asked.file) {
        (Some(_), Some(_)) => return Err(wrong(&"a request has `body` or `file`, not both")),
        (Some(body), None) => Some(body.clone().into_bytes()),
        (None, Some(name)) => Some(load(name)?),
        (None, None) => None,
    };
    let usual = if body.is_some() { "POST" } else { "GET" };
    let method = asked.method.as_deref().unwrap_or(usual);
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| wrong(&format_args!("`{method}` is no method")))?;
    if !asked.path.starts_with('/') {
        return Err(wrong(&format_args!("the path `{}` does not begin with a slash", asked.path)));
    }
    let header = |(name, value): (&String, &String)| {
        let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        parsed.ok_or_else(|| wrong(&format_args!("`{name}` = `{value}` is no header")))
    };
    let headers = asked.headers.iter().map(header).collect::<Result<_, _>>()?;
    let expect = &case.expect;
    expect.headers.iter().try_for_each(|pair| header(pair).map(drop))?;
    let wanted_body = match (&expect.body, &expect.file) {
        (Some(_), Some(_)) => return Err(wrong(&"an answer has `body` or `file`, not both")),
        (Some(body), None) => Some(body.clone().into_bytes()),
        (None, Some(name)) => Some(load(name)?),
        (None, None) => None,
    };
    let parse = |text: &String| Assertion::parse(text).map_err(|what| wrong(&what));
    let receipt = expect.receipt.iter().map(parse).collect::<Result<_, _>>()?;
    if !(1..=TIMEOUT_MS_MAX).contains(&case.timeout_ms) {
        return Err(wrong(&format_args!("`timeout_ms` is between 1 and {TIMEOUT_MS_MAX}")));
    }
    let timeout = Duration::from_millis(case.timeout_ms);
    let body = body.unwrap_or_default();
    Ok(Ready { method, headers, body, wanted_body, receipt, timeout, case })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assertions_are_read_and_hold() {
        let read = Assertion::parse("cpu_ns < 5_000_000").unwrap();
        assert_eq!((read.field, read.relation, read.number), ("cpu_ns", Relation::Below, 5_000_000));
        assert!(read.relation.holds(4, 5) && !read.relation.holds(5, 5));
        assert_eq!(Assertion::parse("hops<=3").unwrap().relation, Relation::AtMost);
        for bad in ["", "copies", "copies = 0", "colour == 1", "copies == none", "copies == -1"] {
            assert!(Assertion::parse(bad).is_err(), "{bad}");
        }
    }

    fn read_text(text: &str) -> Result<Vec<Ready>, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("baton.test.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(directory.path().join("in.bin"), b"bytes").unwrap();
        read(&file)
    }

    #[test]
    fn cases_name_their_files_and_methods() {
        let cases = read_text(
            "[[cases]]\nname = \"a\"\nrequest = { path = \"/x\", file = \"in.bin\" }\n\
             expect = { status = 200, json = { a = 1 }, receipt = [\"copies == 0\"] }\n",
        )
        .unwrap();
        assert_eq!((cases[0].method.as_str(), cases[0].body.as_slice()), ("POST", b"bytes".as_slice()));
        assert_eq!(cases[0].receipt.len(), 1);
    }

    #[test]
    fn faulty_cases_are_refused() {
        for bad in [
            "",
            "cases = []",
            "[[cases]]\nname = \"a\"\nrequest = { path = \"x\" }",
            "[[cases]]\nname = \"a\"\nrequest = { path = \"/\", colour = 1 }",
            "[[cases]]\nname = \"a\"\nrequest = { path = \"/\", body = \"\", file = \"in.bin\" }",
            "[[cases]]\nname = \"a\"\nrequest = { path = \"/\", file = \"none\" }",
            "[[cases]]\nname = \"a\"\nrequest = { path = \"/\", method = \"A B\" }",
            "[[cases]]\nname = \"a\"\nrequest = { path = \"/\" }\nexpect = { receipt = [\"x\"] }",
            "[[cases]]\nname = \"a\"\ntimeout_ms = 0\nrequest = { path = \"/\" }",
        ] {
            assert!(read_text(bad).is_err(), "{bad}");
        }
    }
}
