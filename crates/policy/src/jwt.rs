//! JSON web tokens: who signed them, for whom, and until when.
//!
//! A token that was found good is remembered, as a whole, until it expires or the keys change: the next request with it costs one
//! look-up and one comparison of all its bytes. What is not good is never remembered, so nobody can fill the memory with it.

mod keyfile;
mod remembered;
mod ring;

use std::rc::Rc;

use baton_catalog::policy::{Algorithm, Jwt};
use jsonwebtoken as jwt;
use serde_json::{Map, Value};

pub use self::keyfile::KeyFile;
use self::remembered::Remembered;
use crate::request::{Now, Request};
use crate::verdict::Refusal;

/// A token that is good.
#[derive(Debug)]
pub(crate) struct Token {
    claims: Map<String, Value>,
    scopes: Vec<String>,
    /// Seconds since the epoch from which on it is not good any more, leeway included.
    good_until: u64,
}

impl Token {
    /// A claim as text; `a.b` leads into an object where no claim is called so.
    pub(crate) fn claim(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.claims.get(name).or_else(|| {
            let (first, rest) = name.split_once('.')?;
            rest.split('.').try_fold(self.claims.get(first)?, |value, step| value.get(step))
        })
    }

    /// Whether a claim is, or has in its list, one of some values.
    pub(crate) fn has(&self, name: &str, values: &[String]) -> bool {
        let is_one =
            |value: &Value| value.as_str().is_some_and(|text| values.iter().any(|good| good == text));
        match self.value(name) {
            Some(Value::Array(list)) => list.iter().any(is_one),
            Some(Value::String(_)) => self.value(name).is_some_and(is_one),
            Some(_) => self.claim(name).is_some_and(|text| values.contains(&text)),
            None => false,
        }
    }

    pub(crate) fn scopes(&self) -> &[String] {
        &self.scopes
    }
}

/// Asks for tokens, and tells good from bad.
#[derive(Debug)]
pub(crate) struct Tokens {
    header: String,
    algorithms: Vec<jwt::Algorithm>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway_s: u64,
    bytes_max: usize,
    file: Rc<KeyFile>,
    remembered: Remembered,
}

const CHALLENGE: &str = "Bearer";
const INVALID: &str = "Bearer error=\"invalid_token\"";

impl Tokens {
    pub(crate) fn new(settings: &Jwt, file: Rc<KeyFile>) -> Self {
        ring::install();
        Self {
            header: settings.header.to_ascii_lowercase(),
            algorithms: settings.algorithms.iter().copied().map(named).collect(),
            issuers: settings.issuers.clone(),
            audiences: settings.audiences.clone(),
            leeway_s: settings.leeway.millis() / 1000,
            bytes_max: usize::try_from(settings.size.bytes()).unwrap_or(usize::MAX),
            file,
            remembered: Remembered::new(settings.cache as usize),
        }
    }

    pub(crate) fn admit(&mut self, request: &mut Request<'_>, now: Now) -> Result<(), Refusal> {
        let missing = |message: &'static str| Refusal::new(401, message).challenging(CHALLENGE);
        let shown = request
            .only_header(&self.header)
            .map_err(|()| missing("the request has two tokens; send one"))?
            .ok_or_else(|| missing("the request has no token; send `authorization: Bearer TOKEN`"))?;
        let token = match self.header.as_str() {
            "authorization" => bearer(shown).ok_or_else(|| missing("authorization is not `Bearer TOKEN`"))?,
            _ => shown,
        };
        if token.len() > self.bytes_max {
            return Err(refuse("the token is larger than this service takes"));
        }
        let generation = self.file.generation();
        if let Some(known) = self.remembered.find(token, generation) {
            if now.unix_s < known.good_until {
                request.token = Some(known);
                return Ok(());
            }
            return Err(refuse("the token has expired"));
        }
        let good = Rc::new(self.verify(token, now)?);
        self.remembered.keep(token, generation, Rc::clone(&good));
        request.token = Some(good);
        Ok(())
    }

    fn verify(&self, token: &[u8], now: Now) -> Result<Token, Refusal> {
        if self.file.count() == 0 {
            // Nothing can be told: neither good nor bad.
            return Err(
                Refusal::new(503, "the keys of tokens are not there at the moment; send it again").after(5)
            );
        }
        // `none` is no algorithm to this parser, nor is anything that it does not know.
        let header = jwt::decode_header(token).map_err(|_| refuse("the token is malformed"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(refuse("the token is signed in a way that is not taken here"));
        }
        if header.crit.is_some() {
            return Err(refuse("the token has critical extensions, of which none is known here"));
        }
        let key = self.file.key(header.kid.as_deref(), header.alg);
        let key = key.ok_or_else(|| refuse("the token's key is not known"))?;
        // Times are looked at below, by the time of whoever calls.
        let mut validation = jwt::Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jwt::decode::<Map<String, Value>>(token, &key, &validation)
            .map_err(|_| refuse("the token's signature is wrong"))?
            .claims;
        self.judge(claims, now)
    }

    /// Whether claims that are signed are good here and now.
    fn judge(&self, claims: Map<String, Value>, now: Now) -> Result<Token, Refusal> {
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => seconds(value).map(Some).ok_or_else(|| refuse("a time of the token is none")),
        };
        let expires =
            time("exp")?.ok_or_else(|| refuse("the token never expires, which is not taken here"))?;
        let good_until = expires.saturating_add(self.leeway_s);
        if now.unix_s >= good_until {
            return Err(refuse("the token has expired"));
        }
        let begins = time("nbf")?.max(time("iat")?).unwrap_or(0);
        if begins > now.unix_s.saturating_add(self.leeway_s) {
            return Err(refuse("the token is not good yet"));
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !self.issuers.is_empty()
            && !issuer.is_some_and(|issuer| self.issuers.iter().any(|good| good == issuer))
        {
            return Err(refuse("the token's issuer is not taken here"));
        }
        let is_ours =
            |value: &Value| value.as_str().is_some_and(|text| self.audiences.iter().any(|a| a == text));
        let has_audience = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if !has_audience {
            return Err(refuse("the token is for another service"));
        }
        Ok(Token { scopes: scopes(&claims), claims, good_until })
    }
}

fn refuse(message: &'static str) -> Refusal {
    Refusal::new(401, message).challenging(INVALID)
}

/// What stands behind `Bearer `, the word in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (word, rest) = value.split_at_checked(7)?;
    (word.eq_ignore_ascii_case(b"Bearer ")).then(|| rest.trim_ascii()).filter(|token| !token.is_empty())
}

/// Whole seconds since the epoch; a fraction is dropped, what is negative or no number is none.
fn seconds(value: &Value) -> Option<u64> {
    if let Some(whole) = value.as_u64() {
        return Some(whole);
    }
    let number = value.as_f64().filter(|number| (0.0..9e15).contains(number))?;
    format!("{number:.0}").parse().ok()
}

/// `scope` as RFC 8693 has it, or `scp` and `scopes` as lists.
fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let of = |value: &Value| match value {
        Value::String(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    ["scope", "scp", "scopes"].iter().filter_map(|name| claims.get(*name)).flat_map(of).collect()
}

fn named(algorithm: Algorithm) -> jwt::Algorithm {
    match algorithm {
        Algorithm::HS256 => jwt::Algorithm::HS256,
        Algorithm::HS384 => jwt::Algorithm::HS384,
        Algorithm::HS512 => jwt::Algorithm::HS512,
        Algorithm::RS256 => jwt::Algorithm::RS256,
        Algorithm::RS384 => jwt::Algorithm::RS384,
        Algorithm::RS512 => jwt::Algorithm::RS512,
        Algorithm::PS256 => jwt::Algorithm::PS256,
        Algorithm::PS384 => jwt::Algorithm::PS384,
        Algorithm::PS512 => jwt::Algorithm::PS512,
        Algorithm::ES256 => jwt::Algorithm::ES256,
        Algorithm::ES384 => jwt::Algorithm::ES384,
        Algorithm::EdDSA => jwt::Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests;
