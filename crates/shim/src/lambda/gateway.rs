//! Requests of HTTP as events of API Gateway, payload format 2.0, and answers of functions as answers of HTTP.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A request, as the event says it.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) params: Vec<(&'a str, &'a str)>,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) body: &'a [u8],
    pub(super) id: &'a str,
    /// Milliseconds since 1970.
    pub(super) at_ms: u64,
}

/// An event, written as it stands: no tree of values is built for it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<&'a str>,
    headers: &'a BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'static str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Line<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: &'a str,
}

/// The event of a request.
pub(super) fn event(asked: &Asked<'_>) -> Vec<u8> {
    let mut headers: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    let mut cookies = Vec::new();
    for (name, value) in &asked.headers {
        if *name == "cookie" {
            cookies.extend(value.split(';').map(str::trim));
            continue;
        }
        joined(&mut headers, name, value);
    }
    let find = |name: &str| headers.get(name).map(|value| &**value);
    let domain = find("host").unwrap_or("localhost");
    let source = find("x-forwarded-for").and_then(|all| all.split(',').next()).unwrap_or("127.0.0.1").trim();
    let (body, is_base64_encoded) = match std::str::from_utf8(asked.body) {
        _ if asked.body.is_empty() => (None, false),
        Ok(text) if is_text(find("content-type").unwrap_or_default()) => (Some(text.into()), false),
        _ => (Some(STANDARD.encode(asked.body).into()), true),
    };
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: asked.path,
        raw_query_string: asked.query,
        cookies,
        headers: &headers,
        query_string_parameters: query(asked.query),
        request_context: RequestContext {
            account_id: "000000000000",
            api_id: "baton",
            domain_name: domain,
            domain_prefix: domain.split(['.', ':']).next().unwrap_or_default(),
            http: Line {
                method: asked.method,
                path: asked.path,
                protocol: "HTTP/1.1",
                source_ip: source,
                user_agent: find("user-agent").unwrap_or_default(),
            },
            request_id: asked.id,
            route_key: "$default",
            stage: "$default",
            time: time(asked.at_ms),
            time_epoch: asked.at_ms,
        },
        path_parameters: asked.params.iter().copied().collect(),
        body,
        is_base64_encoded,
    };
    // Texts and numbers.
    serde_json::to_vec(&event).unwrap_or_default()
}

/// A query's parameters; several of one name are one, with commas between.
fn query(text: &str) -> BTreeMap<String, String> {
    let mut query: BTreeMap<String, String> = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name), decoded(value));
        query.entry(name).and_modify(|all| *all = format!("{all},{value}")).or_insert(value);
    }
    query
}

/// Several headers of one name are one, with commas between.
fn joined<'a>(headers: &mut BTreeMap<&'a str, Cow<'a, str>>, name: &'a str, value: &'a str) {
    headers
        .entry(name)
        .and_modify(|all| *all = format!("{all},{value}").into())
        .or_insert_with(|| Cow::Borrowed(value));
}

/// Whether a body of this type is text to API Gateway.
fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let words = ["json", "xml", "javascript", "x-www-form-urlencoded"];
    kind.is_empty() || kind.starts_with("text/") || words.iter().any(|word| kind.ends_with(word))
}

/// `+` and `%` as forms write them.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (byte, skip) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or(b'%'), 2),
            (b'+', ..) => (b' ', 0),
            _ => (first, 0),
        };
        out.push(byte);
        rest = behind.get(skip..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `12/Mar/2026:19:03:58 +0000`.
fn time(ms: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12);
    let year = era * 400 + year + u64::from(month < 2);
    let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"Jan");
    format!(
        "{date:02}/{name}/{year}:{:02}:{:02}:{:02} +0000",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// An answer of HTTP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Formatted {
    status_code: Value,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// What a function's result is to a client: what it says itself if it has a `statusCode`, else its JSON.
pub(super) fn answer(result: Vec<u8>) -> Result<Answer, String> {
    let formatted = match serde_json::from_slice::<Formatted>(&result) {
        Ok(formatted) => formatted,
        Err(_) if said_status(&result) => {
            return Err("its `headers`, `cookies` or `body` are not as they should be".to_owned());
        }
        Err(_) => {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            return Ok(Answer { status: 200, headers, body: result });
        }
    };
    let body = match formatted.body {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if formatted.is_base64_encoded => {
            STANDARD.decode(text).map_err(|error| format!("its `body` is no base64: {error}"))?
        }
        Some(Value::String(text)) => text.into_bytes(),
        Some(other) => other.to_string().into_bytes(),
    };
    let mut answer = head(&formatted.status_code, formatted.headers, formatted.cookies)?;
    for (name, values) in formatted.multi_value_headers.into_iter().flatten() {
        for value in values.as_array().into_iter().flatten() {
            put(&mut answer.headers, &name, value);
        }
    }
    if !answer.headers.iter().any(|(name, _)| name == "content-type") {
        answer.headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    answer.body = body;
    Ok(answer)
}

fn said_status(result: &[u8]) -> bool {
    serde_json::from_slice::<Map<String, Value>>(result).is_ok_and(|map| map.contains_key("statusCode"))
}

/// The head of an answer that comes in parts: what its first bytes say, up to eight NULs.
pub(super) fn prelude(bytes: &[u8]) -> Result<Answer, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Prelude {
        #[serde(default)]
        status_code: Option<Value>,
        #[serde(default)]
        headers: Option<Map<String, Value>>,
        #[serde(default)]
        cookies: Option<Vec<String>>,
    }
    let Prelude { status_code, headers, cookies } =
        serde_json::from_slice(bytes).map_err(|error| format!("its prelude is no JSON: {error}"))?;
    head(&status_code.unwrap_or_else(|| 200.into()), headers, cookies)
}

fn head(
    status: &Value,
    headers: Option<Map<String, Value>>,
    cookies: Option<Vec<String>>,
) -> Result<Answer, String> {
    let number = status.as_u64().or_else(|| status.as_str().and_then(|text| text.parse().ok()));
    let number =
        number.and_then(|number| u16::try_from(number).ok()).filter(|status| (200..600).contains(status));
    let status = number.ok_or_else(|| format!("its `statusCode` is {status}, and can be 200 to 599"))?;
    let mut answer = Answer { status, ..Answer::default() };
    for (name, value) in headers.into_iter().flatten() {
        put(&mut answer.headers, &name, &value);
    }
    for cookie in cookies.into_iter().flatten() {
        put(&mut answer.headers, "set-cookie", &Value::from(cookie));
    }
    Ok(answer)
}

/// What is no header is left out.
fn put(headers: &mut Vec<(String, String)>, name: &str, value: &Value) {
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Array(_) | Value::Object(_) => return,
        other => other.to_string(),
    };
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    let is_value = value.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
    let name = name.to_ascii_lowercase();
    let is_own = ["connection", "content-length", "transfer-encoding", "keep-alive", "upgrade"]
        .contains(&name.as_str());
    if is_name && is_value && !is_own {
        headers.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(asked: &Asked<'_>) -> Value {
        serde_json::from_slice(&event(asked)).unwrap()
    }

    #[test]
    fn a_request_is_an_event_of_format_two() {
        let event = read(&Asked {
            method: "POST",
            path: "/carts/7",
            query: "a=1&a=2&b=x%20y+z",
            params: vec![("id", "7")],
            headers: vec![
                ("host", "shop.example:8080"),
                ("cookie", "a=1; b=2"),
                ("accept", "text/html"),
                ("accept", "*/*"),
                ("content-type", "application/json; charset=utf-8"),
            ],
            body: br#"{"q":1}"#,
            id: "id-1",
            at_ms: 1_773_342_238_000,
        });
        assert_eq!((&event["version"], &event["rawPath"]), (&json!("2.0"), &json!("/carts/7")));
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["headers"]["accept"], "text/html,*/*");
        assert_eq!(event["queryStringParameters"], json!({ "a": "1,2", "b": "x y z" }));
        assert_eq!(event["pathParameters"], json!({ "id": "7" }));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{\"q\":1}"), &json!(false)));
        let context = &event["requestContext"];
        assert_eq!((&context["http"]["method"], &context["domainPrefix"]), (&json!("POST"), &json!("shop")));
        assert_eq!(context["time"], "12/Mar/2026:19:03:58 +0000");
        let bytes = read(&Asked { body: b"\xff\x00", ..Asked::default() });
        assert_eq!((&bytes["body"], &bytes["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(time(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(time(951_782_400_000), "29/Feb/2000:00:00:00 +0000");
        assert_eq!(time(4_102_444_799_000), "31/Dec/2099:23:59:59 +0000");
    }

    #[test]
    fn a_result_is_an_answer() {
        let plain = answer(b"[1, 2]".to_vec()).unwrap();
        assert_eq!((plain.status, plain.body.as_slice()), (200, &b"[1, 2]"[..]));
        let said = answer(
            br#"{"statusCode": 201, "headers": {"X-A": "b", "n": 1, "bad name": "x", "content-length": "9"},
                "cookies": ["s=1"], "body": "aGk=", "isBase64Encoded": true}"#
                .to_vec(),
        );
        let said = said.unwrap();
        assert_eq!((said.status, said.body.as_slice()), (201, &b"hi"[..]));
        let names: Vec<&str> = said.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-a", "n", "set-cookie", "content-type"]);
    }

    #[test]
    fn an_answer_that_cannot_be_is_told() {
        for bad in [
            &br#"{"statusCode": 99}"#[..],
            br#"{"statusCode": "many"}"#,
            br#"{"statusCode": 200, "headers": 1}"#,
            br#"{"statusCode": 200, "body": "?", "isBase64Encoded": true}"#,
        ] {
            assert!(answer(bad.to_vec()).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(prelude(b"nonsense").is_err());
        assert_eq!(prelude(br#"{"headers":{"a":"b"}}"#).unwrap().status, 200);
    }
}
