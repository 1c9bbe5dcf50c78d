//! Signatures: those of the unmodified clients are tried end to end; here is what must not pass.

use axum::body::Body;
use axum::http::Request;
use tempfile::TempDir;

use super::*;

/// 2026-11-27T04:00:00Z.
const NOW_S: u64 = 1_795_752_000;
const STAMP: &str = "20261127T040000Z";

struct Signed {
    method: &'static str,
    target: &'static str,
    stamp: &'static str,
    scope: String,
    body: &'static [u8],
    extra: Vec<(&'static str, String)>,
    signed: &'static str,
}

impl Signed {
    fn new() -> Self {
        Self {
            method: "POST",
            target: "/2015-03-31/functions/echo%3Alive/invocations?Qualifier=a%20b&A=1",
            stamp: STAMP,
            scope: "20261127/eu-west-1/lambda/aws4_request".to_owned(),
            body: b"{}",
            extra: Vec::new(),
            signed: "host;x-amz-date",
        }
    }

    /// The request as a client would sign it: written by the specification, apart from what is tested.
    fn request(&self, key: &str, secret: &str) -> Parts {
        let hash = hex(ring::digest::digest(&ring::digest::SHA256, self.body).as_ref());
        let headers = format!("host:127.0.0.1:9000\nx-amz-date:{}\n", self.stamp);
        let canonical = format!(
            "{}\n/2015-03-31/functions/echo%253Alive/invocations\nA=1&Qualifier=a%20b\n{headers}\n{}\n{hash}",
            self.method, self.signed
        );
        let hashed = hex(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{hashed}", self.stamp, self.scope);
        let mut key_now = format!("AWS4{secret}").into_bytes();
        for part in self.scope.split('/') {
            key_now = sign(&key_now, part.as_bytes()).as_ref().to_vec();
        }
        let signature = hex(sign(&key_now, text.as_bytes()).as_ref());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/{}, SignedHeaders={}, Signature={signature}",
            self.scope, self.signed
        );
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.target)
            .header("host", "127.0.0.1:9000")
            .header("x-amz-date", self.stamp)
            .header("authorization", authorization);
        for (name, value) in &self.extra {
            request = request.header(*name, value);
        }
        request.body(Body::empty()).unwrap().into_parts().0
    }
}

fn keys() -> (TempDir, Keys, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::of(dir.path());
    let (id, secret) = keys.add("").unwrap();
    (dir, keys, id, secret)
}

#[track_caller]
fn refused(head: &Parts, body: &[u8], keys: &Keys, now_s: u64, kind: &str) {
    let fault = check(head, body, keys, now_s).unwrap_err();
    assert_eq!((fault.status.as_u16(), fault.kind), (403, kind), "{}", fault.message);
}

#[test]
fn a_good_signature_passes_within_five_minutes_either_way() {
    let (_dir, keys, id, secret) = keys();
    let head = Signed::new().request(&id, &secret);
    for now_s in [NOW_S, NOW_S - 300, NOW_S + 300] {
        assert_eq!(check(&head, b"{}", &keys, now_s).unwrap().region, "eu-west-1");
    }
    for now_s in [NOW_S - 301, NOW_S + 301, NOW_S + 86_400, 0] {
        refused(&head, b"{}", &keys, now_s, "InvalidSignatureException");
    }
}

#[test]
fn whatever_was_changed_is_noticed() {
    let (_dir, keys, id, secret) = keys();
    let good = || Signed::new().request(&id, &secret);
    refused(&good(), b"{} ", &keys, NOW_S, "InvalidSignatureException");
    let change = |change: &dyn Fn(&mut Parts)| {
        let mut head = good();
        change(&mut head);
        refused(&head, b"{}", &keys, NOW_S, "InvalidSignatureException");
    };
    change(&|head| head.method = axum::http::Method::PUT);
    change(&|head| head.uri = "/2015-03-31/functions/other/invocations?Qualifier=a%20b&A=1".parse().unwrap());
    change(&|head| {
        head.uri = "/2015-03-31/functions/echo%3Alive/invocations?Qualifier=b&A=1".parse().unwrap()
    });
    change(&|head| drop(head.headers.insert("host", "127.0.0.1:9001".parse().unwrap())));
    change(&|head| drop(head.headers.insert("x-amz-date", "20261127T040001Z".parse().unwrap())));
    change(&|head| drop(head.headers.remove("host")));
}

#[test]
fn wrong_keys_and_scopes_are_refused() {
    let (_dir, keys, id, secret) = keys();
    let wrong = |signed: Signed, id: &str, secret: &str, kind| {
        refused(&signed.request(id, secret), b"{}", &keys, NOW_S, kind);
    };
    wrong(Signed::new(), &id, "guess", "InvalidSignatureException");
    wrong(Signed::new(), "BATNAAAAAAAAAAAAAAAA", &secret, "UnrecognizedClientException");
    let scope = |text: &str| Signed { scope: text.to_owned(), ..Signed::new() };
    wrong(scope("20261127/eu-west-1/s3/aws4_request"), &id, &secret, "InvalidSignatureException");
    wrong(scope("20261126/eu-west-1/lambda/aws4_request"), &id, &secret, "InvalidSignatureException");
    wrong(scope("20261127/eu-west-1/lambda"), &id, &secret, "IncompleteSignatureException");
    let unsigned = Signed { signed: "x-amz-date", ..Signed::new() };
    wrong(unsigned, &id, &secret, "InvalidSignatureException");
    let unhashed = vec![("x-amz-content-sha256", "UNSIGNED-PAYLOAD".to_owned())];
    wrong(Signed { extra: unhashed, ..Signed::new() }, &id, &secret, "InvalidSignatureException");
    let session = vec![("x-amz-security-token", "token".to_owned())];
    wrong(Signed { extra: session, ..Signed::new() }, &id, &secret, "UnrecognizedClientException");
}

#[test]
fn what_is_no_signature_at_all_is_told_so() {
    let (_dir, keys, id, secret) = keys();
    let with = |value: Option<&str>| {
        let mut head = Signed::new().request(&id, &secret);
        head.headers.remove("authorization");
        if let Some(value) = value {
            head.headers.insert("authorization", value.parse().unwrap());
        }
        head
    };
    refused(&with(None), b"{}", &keys, NOW_S, "MissingAuthenticationTokenException");
    for value in ["Bearer x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x", "AWS4-HMAC-SHA256 a=b,,="]
    {
        refused(&with(Some(value)), b"{}", &keys, NOW_S, "IncompleteSignatureException");
    }
}

#[test]
fn times_are_read_as_they_are_written() {
    assert_eq!(seconds(STAMP), Some(NOW_S));
    for text in
        ["", "20261127", "20261327T040000Z", "20261127T040000", "2026-11-27T04:00:00Z", "20261127T0400001Z"]
    {
        assert_eq!(seconds(text), None, "{text}");
    }
    assert_eq!(percent_decoded("a%2Fb"), Some(b"a/b".to_vec()));
    assert!(percent_decoded("%").is_none() && percent_decoded("%zz").is_none());
}
