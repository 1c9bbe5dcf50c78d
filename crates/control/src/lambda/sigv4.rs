//! Signature version 4: who sent a request, and that nobody changed it.
//!
//! Checked as AWS does: the signature over method, path, query, signed headers and the body's hash; a clock that is at most five
//! minutes off; a scope of this service and day. Stricter than AWS: the body is always hashed here, whatever the client says of it
//! (`UNSIGNED-PAYLOAD` and chunked signatures are refused), and signatures in the query are not taken. As with AWS, a request that
//! is sent again as it was counts again while its time is within the five minutes.

use axum::http::HeaderMap;
use axum::http::request::Parts;
use ring::hmac;

use super::fault::Fault;
use super::keys::{Keys, KeysError};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "lambda";
/// How far a client's clock may be off, seconds.
const SKEW_S: u64 = 300;
/// Headers that must be signed: without them a signature could be carried to another host, or another day.
const ALWAYS_SIGNED: [&str; 2] = ["host", "x-amz-date"];

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// The region that it takes this for: ARNs name it.
    pub(super) region: String,
}

/// What the header says.
struct Shown<'a> {
    key: &'a str,
    day: &'a str,
    region: &'a str,
    scope: &'a str,
    headers: &'a str,
    signature: &'a str,
}

/// Checks who sent a request with this body, by a clock in seconds since 1970.
///
/// # Errors
/// As AWS tells them.
pub(super) fn check(head: &Parts, body: &[u8], keys: &Keys, now_s: u64) -> Result<Sender, Fault> {
    let shown = shown(head)?;
    let stamp = text(&head.headers, "x-amz-date")?;
    let then_s =
        seconds(stamp).ok_or_else(|| signature_fault("X-Amz-Date is not of the form 20260102T030405Z"))?;
    if then_s.abs_diff(now_s) > SKEW_S {
        let what = if then_s < now_s { "Signature expired" } else { "Signature not yet current" };
        return Err(signature_fault(format!(
            "{what}: {stamp} is more than 5 min. off the time of this node"
        )));
    }
    if stamp.get(..8) != Some(shown.day) {
        return Err(signature_fault("Date in Credential scope does not match YYYYMMDD from X-Amz-Date"));
    }
    let secret = keys.secret(shown.key).map_err(|error| told(&error))?;
    let unknown = || {
        Fault::denied(
            "UnrecognizedClientException",
            "The security token included in the request is invalid. (`baton lambda keys` lists and makes keys)",
        )
    };
    if head.headers.contains_key("x-amz-security-token") {
        return Err(unknown());
    }
    let secret = secret.ok_or_else(unknown)?;
    let hash = hex(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
    if let Some(said) = head.headers.get("x-amz-content-sha256")
        && said.as_bytes() != hash.as_bytes()
    {
        return Err(signature_fault("x-amz-content-sha256 is not the hash of the body"));
    }
    let canonical = canonical(head, &shown, &hash)?;
    let canonical = hex(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{}\n{canonical}", shown.scope);
    let expected = from_hex(shown.signature).ok_or_else(mismatch)?;
    let mut key = sign(format!("AWS4{secret}").as_bytes(), shown.day.as_bytes());
    for part in [shown.region, SERVICE, "aws4_request"] {
        key = sign(key.as_ref(), part.as_bytes());
    }
    // In constant time.
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    hmac::verify(&key, to_sign.as_bytes(), &expected).map_err(|_| mismatch())?;
    Ok(Sender { region: shown.region.to_owned() })
}

fn told(error: &KeysError) -> Fault {
    tracing::warn!(%error, "the keys of the Lambda API cannot be used");
    Fault::service(format!("{error}: {}", error.hint()))
}

fn signature_fault(message: impl Into<String>) -> Fault {
    Fault::denied("InvalidSignatureException", message)
}

fn mismatch() -> Fault {
    signature_fault(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method.",
    )
}

fn sign(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

/// What the `Authorization` header says.
fn shown(head: &Parts) -> Result<Shown<'_>, Fault> {
    let missing = || {
        Fault::denied(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token: sign the request (AWS signature version 4, in its header)",
        )
    };
    if !head.headers.contains_key("authorization") {
        return Err(missing());
    }
    let broken =
        |what: &str| Fault::denied("IncompleteSignatureException", format!("Authorization header {what}"));
    let text = text(&head.headers, "authorization")?;
    let rest = text.strip_prefix(ALGORITHM).ok_or_else(|| broken("does not begin with AWS4-HMAC-SHA256"))?;
    let (mut credential, mut headers, mut signature) = (None, None, None);
    for part in rest.split(',') {
        match part.trim().split_once('=') {
            Some(("Credential", value)) => credential = Some(value),
            Some(("SignedHeaders", value)) => headers = Some(value),
            Some(("Signature", value)) => signature = Some(value),
            _ => return Err(broken("has a part that is none of Credential, SignedHeaders and Signature")),
        }
    }
    let credential = credential.ok_or_else(|| broken("requires 'Credential' parameter"))?;
    let headers = headers.ok_or_else(|| broken("requires 'SignedHeaders' parameter"))?;
    let signature = signature.ok_or_else(|| broken("requires 'Signature' parameter"))?;
    let (key, scope) = credential.split_once('/').ok_or_else(|| broken("has no scope in its Credential"))?;
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, region, service, "aws4_request"] = parts.as_slice() else {
        return Err(broken("has a Credential that is not KEY/DAY/REGION/lambda/aws4_request"));
    };
    let is_region = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
    if *service != SERVICE {
        return Err(signature_fault("Credential should be scoped to correct service: 'lambda'."));
    }
    if region.is_empty() || region.len() > 32 || !region.bytes().all(is_region) {
        return Err(broken("names no region"));
    }
    Ok(Shown { key, day, region, scope, headers, signature })
}

/// The request as it was signed.
fn canonical(head: &Parts, shown: &Shown<'_>, hash: &str) -> Result<String, Fault> {
    let names: Vec<&str> = shown.headers.split(';').collect();
    if let Some(missing) = ALWAYS_SIGNED.iter().find(|name| !names.contains(name)) {
        return Err(signature_fault(format!(
            "'{missing}' must be a 'SignedHeader' in the AWS Authorization."
        )));
    }
    let mut headers = String::new();
    for name in &names {
        let mut values = head.headers.get_all(*name).iter().peekable();
        if values.peek().is_none() {
            return Err(signature_fault(format!("the signed header {name} is not there")));
        }
        let values: Result<Vec<String>, Fault> = values
            .map(|value| {
                let value = value.to_str().map_err(|_| signature_fault(format!("{name} is no text")))?;
                Ok(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
            })
            .collect();
        headers.push_str(&format!("{name}:{}\n", values?.join(",")));
    }
    let path = encoded(head.uri.path(), b"/");
    let query = canonical_query(head.uri.query().unwrap_or_default())?;
    let (method, signed) = (&head.method, shown.headers);
    Ok(format!("{method}\n{path}\n{query}\n{headers}\n{signed}\n{hash}"))
}

fn canonical_query(query: &str) -> Result<String, Fault> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            let text = percent_decoded(text);
            text.map(|bytes| encoded_bytes(&bytes, b""))
                .ok_or_else(|| Fault::content("the query is badly encoded"))
        };
        pairs.push((plain(name)?, plain(value)?));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(pairs.join("&"))
}

/// Bytes behind `%`; `None` if there is something else behind one.
pub(super) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

fn encoded(text: &str, kept: &[u8]) -> String {
    encoded_bytes(text.as_bytes(), kept)
}

fn encoded_bytes(bytes: &[u8], kept: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Fault> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value
        .ok_or_else(|| Fault::denied("IncompleteSignatureException", format!("the header {name} is missing")))
}

/// Seconds since 1970 of `20260102T030405Z`.
fn seconds(stamp: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    // The form allows fewer digits in places.
    if stamp.len() != "20260102T030405Z".len() {
        return None;
    }
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|letter| letter.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair.iter().fold(0, |sum, digit| sum * 16 + digit)).ok())
        .collect()
}

#[cfg(test)]
mod tests;
