//! Tokens that are forged, old, too long or for others; keys that come, go, and are garbage.

use std::path::Path;

use ::ring::hmac;
use ::ring::rand::SystemRandom;
use ::ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use baton_abi::head::{Field, record_bytes, write_record};

use super::*;
use crate::Client;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: Now = Now { ns: 0, unix_s: 1_700_000_000 };

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", text(header.as_bytes()), text(claims.as_bytes()));
    format!("{message}.{}", text(&sign(message.as_bytes())))
}

fn by_secret(header: &str, claims: &str) -> String {
    signed(header, claims, |message| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message).as_ref().to_vec()
    })
}

fn oct(kid: &str) -> String {
    format!(r#"{{"kty":"oct","kid":"{kid}","alg":"HS256","k":"{}"}}"#, text(SECRET))
}

fn tokens(algorithms: &str, keys: &str) -> Tokens {
    let settings = format!(
        r#"{{"jwks":"/keys","algorithms":{algorithms},"audiences":["shop"],"issuers":["me"],"size":"1KiB","cache":4,"leeway":"10s"}}"#
    );
    let file = Rc::new(KeyFile::new(Path::new("/keys")));
    let _ = file.load(format!(r#"{{"keys":[{keys}]}}"#).as_bytes());
    Tokens::new(&serde_json::from_str(&settings).unwrap(), file)
}

fn ask_at(tokens: &mut Tokens, token: &str, now: Now) -> Result<Option<String>, (u16, String)> {
    let value = format!("Bearer {token}");
    let mut head = vec![0; record_bytes("authorization", value.as_bytes())];
    write_record(&mut head, 0, Field::Header, "authorization", value.as_bytes()).unwrap();
    let mut request = Request::of(&head, Client::default());
    let verdict = tokens.admit(&mut request, now);
    verdict.map_err(|refusal| (refusal.status, refusal.message.into_owned()))?;
    Ok(request.token.and_then(|token| token.claim("sub")))
}

fn ask(tokens: &mut Tokens, token: &str) -> Result<Option<String>, (u16, String)> {
    ask_at(tokens, token, NOW)
}

const HS: &str = r#"{"alg":"HS256","kid":"k"}"#;

fn claims(more: &str) -> String {
    format!(r#"{{"sub":"ada","aud":"shop","iss":"me","exp":1700000100{more}}}"#)
}

#[test]
fn a_good_token_is_verified_once_and_no_longer_than_it_lasts() {
    let mut tokens = tokens(r#"["HS256"]"#, &oct("k"));
    let token = by_secret(HS, &claims(""));
    for _ in 0..3 {
        assert_eq!(ask(&mut tokens, &token), Ok(Some("ada".to_owned())));
    }
    assert_eq!(tokens.remembered.len(), 1);
    let at = |unix_s| Now { ns: 0, unix_s };
    assert!(ask_at(&mut tokens, &token, at(1_700_000_109)).is_ok(), "within the leeway");
    assert!(ask_at(&mut tokens, &token, at(1_700_000_110)).unwrap_err().1.contains("expired"));
}

#[test]
fn what_is_not_good_is_refused_and_never_remembered() {
    let mut tokens = tokens(r#"["HS256"]"#, &oct("k"));
    let forged = by_secret(HS, &claims("")).replace('.', ".x");
    for (token, why) in [
        (by_secret(HS, r#"{"aud":"shop","iss":"me","exp":1699999900}"#), "expired"),
        (by_secret(HS, r#"{"aud":"shop","iss":"me"}"#), "never expires"),
        (by_secret(HS, r#"{"aud":"shop","iss":"me","exp":"soon"}"#), "a time of the token"),
        (by_secret(HS, r#"{"aud":"shop","iss":"me","exp":-1}"#), "a time of the token"),
        (by_secret(HS, &claims(r#","nbf":1700000050"#)), "not good yet"),
        (by_secret(HS, &claims(r#","iat":1700000050"#)), "not good yet"),
        (by_secret(HS, r#"{"aud":["bank"],"iss":"me","exp":1700000100}"#), "another service"),
        (by_secret(HS, r#"{"iss":"me","exp":1700000100}"#), "another service"),
        (by_secret(HS, r#"{"aud":"shop","iss":"you","exp":1700000100}"#), "issuer"),
        (by_secret(r#"{"alg":"HS256","kid":"other"}"#, &claims("")), "key is not known"),
        (by_secret(r#"{"alg":"HS512","kid":"k"}"#, &claims("")), "signed in a way"),
        (by_secret(r#"{"alg":"HS256","kid":"k","crit":["b64"]}"#, &claims("")), "critical"),
        (by_secret(r#"{"alg":"none"}"#, &claims("")), "malformed"),
        (signed(r#"{"alg":"none"}"#, &claims(""), |_| Vec::new()), "malformed"),
        (signed(HS, &claims(""), |_| Vec::new()), "signature"),
        (signed(HS, &claims(""), |_| vec![0; 32]), "signature"),
        (forged, "signature"),
        ("x".repeat(1025), "larger"),
        ("..".to_owned(), "malformed"),
    ] {
        let (status, message) = ask(&mut tokens, &token).unwrap_err();
        assert!(status == 401 && message.contains(why), "{token}: {message}, not {why}");
    }
    assert_eq!(tokens.remembered.len(), 0);
}

#[test]
fn a_public_key_is_no_secret() {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    let (x, y) = (text(&public[1..33]), text(&public[33..]));
    let jwk = format!(r#"{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}"#);
    let es = r#"{"alg":"ES256","kid":"k"}"#;
    let good = signed(es, &claims(""), |message| pair.sign(&random, message).unwrap().as_ref().to_vec());
    assert!(ask(&mut tokens(r#"["ES256"]"#, &jwk), &good).is_ok());
    let forge =
        |message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), message).as_ref().to_vec();
    let forged = signed(HS, &claims(""), forge);
    assert!(ask(&mut tokens(r#"["ES256"]"#, &jwk), &forged).unwrap_err().1.contains("signed in a way"));
    assert!(ask(&mut tokens(r#"["HS256"]"#, &jwk), &forged).unwrap_err().1.contains("key is not known"));
}

#[test]
fn keys_of_before_stay_until_a_good_file_lacks_them() {
    let mut tokens = tokens(r#"["HS256"]"#, &oct("k"));
    let token = by_secret(HS, &claims(""));
    assert!(ask(&mut tokens, &token).is_ok());
    let file = Rc::clone(&tokens.file);
    for garbage in [
        "",
        "{",
        "[]",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#,
        r#"{"keys":[7,{"kty":"x"}]}"#,
    ] {
        assert!(file.load(garbage.as_bytes()).is_err(), "{garbage}");
        assert!(ask(&mut tokens, &token).is_ok(), "{garbage}");
    }
    file.is_unreadable("gone");
    assert!(ask(&mut tokens, &token).is_ok());
    file.load(format!(r#"{{"keys":[{},{{"kty":"new kind"}}]}}"#, oct("k2")).as_bytes()).unwrap();
    assert!(
        ask(&mut tokens, &token).unwrap_err().1.contains("key is not known"),
        "remembered under a key that is gone"
    );
    let empty = Tokens::new(
        &serde_json::from_str(r#"{"jwks":"/none","algorithms":["HS256"],"audiences":["shop"]}"#).unwrap(),
        Rc::new(KeyFile::new(Path::new("/none"))),
    );
    assert_eq!(ask(&mut { empty }, &token).unwrap_err().0, 503, "neither good nor bad");
}

#[test]
fn no_more_tokens_are_remembered_than_may_be() {
    let mut tokens = tokens(r#"["HS256"]"#, &oct("k"));
    for number in 0..50 {
        let token = by_secret(HS, &claims(&format!(r#","n":{number}"#)));
        assert!(ask(&mut tokens, &token).is_ok());
        assert!(tokens.remembered.len() <= 4);
    }
}

#[test]
fn scopes_and_nested_claims_are_found() {
    let token = Token {
        claims: serde_json::from_str(r#"{"a":{"b":["x","y"]},"n":7,"t":"z"}"#).unwrap(),
        scopes: scopes(&serde_json::from_str(r#"{"scope":"a b","scp":["c"]}"#).unwrap()),
        good_until: 0,
    };
    assert!(token.has("a.b", &["y".to_owned()]) && !token.has("a.b", &["z".to_owned()]));
    assert!(token.has("n", &["7".to_owned()]) && token.has("t", &["z".to_owned()]));
    assert_eq!(token.scopes(), ["a", "b", "c"]);
}
