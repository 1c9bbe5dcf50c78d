//! An answer against what was expected: what differs, in words.

use hyper::HeaderMap;
use serde_json::Value;

use super::cases::{Assertion, Ready};

/// Characters of a text that are shown.
const SHOWN_MAX: usize = 400;

/// What came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) receipt: Option<Value>,
}

/// Everything that is not as it should be; nothing if the case passes.
pub(super) fn differences(ready: &Ready, came: &Came) -> Vec<String> {
    let expect = &ready.case.expect;
    let mut found = Vec::new();
    if let Some(wanted) = expect.status.filter(|wanted| *wanted != came.status) {
        found.push(format!("status: expected {wanted}, got {}\n  body: {}", came.status, shown(&came.body)));
    }
    for (name, wanted) in &expect.headers {
        let got: Vec<_> =
            came.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        match (wanted.is_empty(), got.is_empty()) {
            (true, false) => found.push(format!("header {name}: expected none, got `{}`", got.join("`, `"))),
            (false, true) => found.push(format!("header {name}: expected `{wanted}`, got none")),
            (false, false) if !got.iter().any(|value| value == wanted) => {
                found.push(format!("header {name}: expected `{wanted}`, got `{}`", got.join("`, `")));
            }
            _ => {}
        }
    }
    if let Some(wanted) = ready.wanted_body.as_deref().filter(|wanted| *wanted != came.body.as_slice()) {
        found.push(bodies(wanted, &came.body));
    }
    let text = String::from_utf8_lossy(&came.body);
    for wanted in expect.contains.iter().filter(|wanted| !text.contains(wanted.as_str())) {
        found.push(format!("body: expected `{wanted}` somewhere in\n  {}", shown(&came.body)));
    }
    if let Some(wanted) = &expect.json {
        match serde_json::from_slice::<Value>(&came.body) {
            Ok(got) => inside(wanted, &got, "body", &mut found),
            Err(error) => found.push(format!("body: no JSON ({error}): {}", shown(&came.body))),
        }
    }
    found.extend(ready.receipt.iter().filter_map(|assertion| unmet(assertion, came.receipt.as_ref())));
    found
}

/// Why an assertion does not hold.
fn unmet(assertion: &Assertion, receipt: Option<&Value>) -> Option<String> {
    let Some(receipt) = receipt else {
        return Some(format!("receipt: `{}`: there is no receipt of this request", assertion.text));
    };
    let value = match assertion.field {
        "hops" => receipt.get("hops").and_then(Value::as_array).map(|hops| hops.len() as u64),
        field => receipt.get(field).and_then(Value::as_u64),
    };
    match value {
        Some(value) if assertion.relation.holds(value, assertion.number) => None,
        Some(value) => Some(format!("receipt: `{}`: {} is {value}", assertion.text, assertion.field)),
        None => Some(format!("receipt: `{}`: {} is not known", assertion.text, assertion.field)),
    }
}

/// Where `got` does not have what `wanted` has.
fn inside(wanted: &Value, got: &Value, at: &str, found: &mut Vec<String>) {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            for (key, wanted) in wanted {
                let at = format!("{at}.{key}");
                match got.get(key) {
                    Some(got) => inside(wanted, got, &at, found),
                    None => found.push(format!("{at}: expected {wanted}, got nothing")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            for (index, (wanted, got)) in wanted.iter().zip(got).enumerate() {
                inside(wanted, got, &format!("{at}[{index}]"), found);
            }
        }
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        _ if wanted == got => {}
        _ => found.push(format!("{at}: expected {wanted}, got {got}")),
    }
}

/// Where two bodies first differ: line and text, or byte.
fn bodies(wanted: &[u8], got: &[u8]) -> String {
    let (Ok(wanted), Ok(got)) = (std::str::from_utf8(wanted), std::str::from_utf8(got)) else {
        let at = wanted.iter().zip(got).take_while(|(one, other)| one == other).count();
        return format!(
            "body: expected {} bytes, got {}; they differ from byte {at} on",
            wanted.len(),
            got.len()
        );
    };
    let (mut ours, mut theirs) = (wanted.split('\n'), got.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        let (one, other) = (ours.next(), theirs.next());
        if one != other || one.is_none() {
            let line = |side: Option<&str>| side.map_or_else(|| "(no such line)".to_owned(), cut);
            return format!("body: line {number} differs\n  - {}\n  + {}", line(one), line(other));
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
    }
}

fn shown(body: &[u8]) -> String {
    std::str::from_utf8(body).map_or_else(|_| format!("({} bytes, not text)", body.len()), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_objects_only_what_is_named_counts() {
        let mut found = Vec::new();
        inside(
            &json!({"a": 1, "b": {"c": [1, 2]}}),
            &json!({"a": 1.0, "b": {"c": [1, 3], "d": 0}}),
            "body",
            &mut found,
        );
        assert_eq!(found, ["body.b.c[1]: expected 2, got 3"]);
        found.clear();
        inside(&json!({"a": [1]}), &json!({"a": [1, 2]}), "body", &mut found);
        assert_eq!(found, ["body.a: expected [1], got [1,2]"]);
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(bodies(b"a\nb\nc", b"a\nx\nc"), "body: line 2 differs\n  - b\n  + x");
        assert_eq!(bodies(b"a", b"a\nb"), "body: line 2 differs\n  - (no such line)\n  + b");
        assert!(bodies(&[0xff, 1], &[0xff, 2]).contains("from byte 1 on"));
    }

    #[test]
    fn what_a_receipt_does_not_say_meets_no_assertion() {
        let of = |text: &str| Assertion::parse(text).unwrap();
        let receipt = json!({"copies": 0, "hops": [{}, {}]});
        assert_eq!(unmet(&of("copies == 0"), Some(&receipt)), None);
        assert_eq!(unmet(&of("hops <= 1"), Some(&receipt)).unwrap(), "receipt: `hops <= 1`: hops is 2");
        assert!(unmet(&of("cpu_ns < 1"), Some(&receipt)).unwrap().ends_with("not known"));
        assert!(unmet(&of("copies == 0"), None).is_some());
    }
}
