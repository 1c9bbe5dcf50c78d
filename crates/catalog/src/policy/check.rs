//! Bounds and contradictions of policies, whatever form they were read from.

use super::handlers::{
    Algorithm, ApiKeys, Authorize, Breaker, Concurrency, Edits, Handler, Headers, Jwt, Only, RateLimit,
    Retry, RouteTo, Schema,
};
use super::terms::{is_header_name, network_of};
use super::{AppPolicies, Policies};
use crate::limits;
use crate::manifest::check::{Misplaced, at_most, fail, within};
use crate::manifest::{Manifest, ManifestFault, Site};
use crate::units::{ByteSize, TimeSpan};

/// Headers that a policy must not touch: those of the connection, and the length, which the gateway counts.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The policies of an app.
pub(crate) fn app(policies: &Policies, site: &Site) -> Result<(), Misplaced> {
    let site = site.then("handlers");
    at_most(&site, "handlers in one list", policies.handlers.len(), limits::HANDLERS_MAX)?;
    for (place, each) in policies.handlers.iter().enumerate() {
        handler(each, &site.then(place))?;
    }
    Ok(())
}

/// Those of functions, and what policies say of functions.
pub(crate) fn functions(manifest: &Manifest, root: &Site) -> Result<(), Misplaced> {
    app(&manifest.policy, &root.then("policy"))?;
    leads_somewhere(manifest, &manifest.policy, &root.then("policy"))?;
    for (name, function) in &manifest.functions {
        let site = root.then("functions").then(name).then("policy");
        app(&function.policy, &site)?;
        leads_somewhere(manifest, &function.policy, &site)?;
    }
    Ok(())
}

/// Policies by themselves.
pub(super) fn all(policies: &AppPolicies) -> Result<(), Misplaced> {
    let root = Site::default();
    app(&policies.policy, &root.then("policy"))?;
    for (name, own) in &policies.functions {
        app(own, &root.then("functions").then(name).then("policy"))?;
    }
    Ok(())
}

/// Whether every function that policies name is there.
fn leads_somewhere(manifest: &Manifest, policies: &Policies, site: &Site) -> Result<(), Misplaced> {
    for (place, handler) in policies.handlers.iter().enumerate() {
        let named: Vec<_> = match handler {
            Handler::RouteTo(route) => route.rules.iter().map(|rule| &rule.to).collect(),
            Handler::Ask(ask) => vec![&ask.function],
            Handler::Authorize(authorize) => authorize.callers.iter().collect(),
            _ => Vec::new(),
        };
        let named = named.into_iter().chain(&handler.only().callers);
        for function in named {
            if manifest.function(function.as_str()).is_none() {
                let message = format!("the app has no function \"{function}\"");
                return fail(site.then("handlers").then(place), bad(handler, message));
            }
        }
    }
    Ok(())
}

fn bad(handler: &Handler, message: impl Into<String>) -> ManifestFault {
    ManifestFault::Handler { handler: handler.kind().as_str().to_owned(), message: message.into() }
}

fn handler(each: &Handler, site: &Site) -> Result<(), Misplaced> {
    only(each.only(), site)?;
    let wrong = |message: String| fail(site.clone(), bad(each, message));
    match each {
        Handler::Forwarded(forwarded) => {
            at_most(&site.then("trusted"), "trusted networks", forwarded.trusted.len(), 64)?;
            match forwarded.trusted.iter().find(|network| network_of(network).is_none()) {
                Some(network) => wrong(format!("{network:?} is no network such as 10.0.0.0/8 or fd00::/8")),
                None => Ok(()),
            }
        }
        Handler::TimeOut(timeout) => {
            within(&site.then("after"), "after", timeout.after, (limits::TIMEOUT_MIN, limits::TIMEOUT_MAX))
        }
        Handler::Retry(settings) => retry(settings, site),
        Handler::RateLimit(settings) => rate_limit(settings, site),
        Handler::Concurrency(Concurrency { max, .. }) => within(&site.then("max"), "max", *max, (1, 65_536)),
        Handler::Breaker(settings) => breaker(settings, site),
        Handler::ApiKeys(settings) => match api_keys(settings, site)? {
            Some(message) => wrong(message),
            None => Ok(()),
        },
        Handler::Jwt(settings) => match jwt(settings, site)? {
            Some(message) => wrong(message),
            None => Ok(()),
        },
        Handler::Identity(identity) => at_most(&site.then("names"), "names", identity.names.len(), 256),
        Handler::Authorize(settings) => match authorize(settings, site)? {
            Some(message) => wrong(message),
            None => Ok(()),
        },
        Handler::Headers(Headers { request, response, .. }) => match edits(request).or(edits(response)) {
            Some(message) => wrong(message),
            None => Ok(()),
        },
        Handler::Schema(settings) => match schema(settings, site)? {
            Some(message) => wrong(message),
            None => Ok(()),
        },
        Handler::RouteTo(settings) => match route(settings, site)? {
            Some(message) => wrong(message),
            None => Ok(()),
        },
        Handler::Log(_) | Handler::Span(_) | Handler::Metrics(_) | Handler::Ask(_) => Ok(()),
    }
}

fn only(only: &Only, site: &Site) -> Result<(), Misplaced> {
    let site = site.then("only");
    at_most(&site, "paths of one handler", only.paths.len(), 64)?;
    at_most(&site, "methods of one handler", only.methods.len(), 16)?;
    at_most(&site, "callers of one handler", only.callers.len(), limits::FUNCTIONS_MAX)
}

fn retry(retry: &Retry, site: &Site) -> Result<(), Misplaced> {
    within(&site.then("attempts"), "attempts", retry.attempts, (2, 5))?;
    within(&site.then("budget"), "budget", retry.budget, (1, 100))?;
    within(&site.then("body"), "body", retry.body, (ByteSize::from_bytes(0), ByteSize::from_mib(1)))?;
    at_most(&site.then("statuses"), "statuses", retry.statuses.len(), 16)?;
    for status in &retry.statuses {
        within(&site.then("statuses"), "statuses", *status, (400, 599))?;
    }
    match retry.per_attempt {
        Some(time) => {
            let bounds = (limits::TIMEOUT_MIN, limits::TIMEOUT_MAX);
            within(&site.then("per_attempt"), "per_attempt", time, bounds)
        }
        None => Ok(()),
    }
}

fn rate_limit(limit: &RateLimit, site: &Site) -> Result<(), Misplaced> {
    within(&site.then("keys"), "keys", limit.keys, (8, 1 << 20))?;
    limit.burst.map_or(Ok(()), |burst| within(&site.then("burst"), "burst", burst, (1, 1_000_000)))
}

fn breaker(breaker: &Breaker, site: &Site) -> Result<(), Misplaced> {
    let times = (TimeSpan::from_millis(100), TimeSpan::from_millis(3_600_000));
    within(&site.then("window"), "window", breaker.window, times)?;
    within(&site.then("open"), "open", breaker.open, times)?;
    within(&site.then("failures"), "failures", breaker.failures, (1, 100))?;
    within(&site.then("least"), "least", breaker.least, (1, 1_000_000))?;
    within(&site.then("probes"), "probes", breaker.probes, (1, 1000))
}

fn api_keys(keys: &ApiKeys, site: &Site) -> Result<Option<String>, Misplaced> {
    at_most(&site.then("keys"), "API keys of one handler", keys.keys.len(), 256)?;
    if !is_header_name(&keys.header) {
        return Ok(Some(format!("{:?} is no name of a header", keys.header)));
    }
    if keys.keys.is_empty() {
        return Ok(Some("no key is good; add { name = \"…\", hash = \"…\" } to keys".to_owned()));
    }
    let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (place, key) in keys.keys.iter().enumerate() {
        if !is_hash(&key.hash) {
            return Ok(Some(format!(
                "the hash of key {:?} is not 64 hexadecimal digits; `baton policy key` makes a key and its hash",
                key.name
            )));
        }
        if key.name.is_empty() || key.name.len() > 64 || !key.name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Ok(Some(format!("{:?} is no name of a key: at most 64 printable characters", key.name)));
        }
        if keys.keys.iter().take(place).any(|other| other.name == key.name) {
            return Ok(Some(format!("two keys are called {:?}", key.name)));
        }
        at_most(&site.then("keys"), "scopes of one key", key.scopes.len(), 64)?;
    }
    Ok(None)
}

fn jwt(jwt: &Jwt, site: &Site) -> Result<Option<String>, Misplaced> {
    within(
        &site.then("size"),
        "size",
        jwt.size,
        (ByteSize::from_bytes(64), ByteSize::from_bytes(48 * 1024)),
    )?;
    within(&site.then("cache"), "cache", jwt.cache, (0, 65_536))?;
    let hour = TimeSpan::from_millis(3_600_000);
    within(&site.then("leeway"), "leeway", jwt.leeway, (TimeSpan::from_millis(0), hour))?;
    at_most(&site.then("issuers"), "issuers", jwt.issuers.len(), 64)?;
    at_most(&site.then("audiences"), "audiences", jwt.audiences.len(), 64)?;
    let is_secret = |a: &Algorithm| matches!(a, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    Ok(if !is_header_name(&jwt.header) {
        Some(format!("{:?} is no name of a header", jwt.header))
    } else if !jwt.jwks.is_absolute() {
        Some(format!("jwks = {:?} is not absolute; it is a file of the node's machine", jwt.jwks))
    } else if jwt.algorithms.is_empty() || jwt.algorithms.len() > 12 {
        Some("algorithms names none; write those that the issuer uses, such as [\"RS256\"]".to_owned())
    } else if jwt.algorithms.iter().any(is_secret) && !jwt.algorithms.iter().all(is_secret) {
        // A public key must never be taken for a secret.
        Some("algorithms has both secrets (HS…) and key pairs; use two handlers".to_owned())
    } else if jwt.audiences.is_empty() {
        Some("audiences names none; a token for another service would be good here".to_owned())
    } else {
        None
    })
}

fn authorize(authorize: &Authorize, site: &Site) -> Result<Option<String>, Misplaced> {
    let Authorize { scopes, claims, identities, keys, callers, .. } = authorize;
    for (list, len) in [("scopes", scopes.len()), ("identities", identities.len()), ("keys", keys.len())] {
        at_most(&site.then(list), "entries of one list", len, 256)?;
    }
    at_most(&site.then("claims"), "claims", claims.len(), 64)?;
    if claims.values().any(|values| values.is_empty() || values.len() > 256) {
        return Ok(Some("a claim needs 1 to 256 values, of which the token must have one".to_owned()));
    }
    let lists =
        [scopes.is_empty(), claims.is_empty(), identities.is_empty(), keys.is_empty(), callers.is_empty()];
    Ok(lists
        .iter()
        .all(|empty| *empty)
        .then(|| "it asks for nothing; name scopes, claims, identities, keys or callers".to_owned()))
}

fn edits(edits: &Edits) -> Option<String> {
    let names = edits.remove.iter().chain(edits.set.keys()).chain(edits.add.keys());
    for (place, name) in names.enumerate() {
        let lower = name.to_ascii_lowercase();
        if place >= 64 {
            return Some("more than 64 headers are changed".to_owned());
        }
        if !is_header_name(name) {
            return Some(format!("{name:?} is no name of a header"));
        }
        if FRAMING.contains(&lower.as_str()) || lower.starts_with("x-baton-") {
            return Some(format!("{name:?} is the gateway's own; take it away"));
        }
    }
    None
}

fn schema(schema: &Schema, site: &Site) -> Result<Option<String>, Misplaced> {
    let sizes = (ByteSize::from_bytes(1), ByteSize::from_mib(4));
    within(&site.then("size"), "size", schema.size, sizes)?;
    at_most(&site.then("schema"), "bytes of a schema", schema.schema.len(), limits::MANIFEST_BYTES_MAX)?;
    Ok(match (&schema.file, schema.schema.is_empty()) {
        (None, true) => Some("no schema is given; write file = \"FILE\" or schema = '''JSON'''".to_owned()),
        (Some(file), true) if file.is_absolute() => {
            Some(format!("file = {file:?} is absolute; it lies in the manifest's directory"))
        }
        _ => None,
    })
}

fn route(route: &RouteTo, site: &Site) -> Result<Option<String>, Misplaced> {
    at_most(&site.then("rules"), "rules of one handler", route.rules.len(), 64)?;
    if route.rules.is_empty() {
        return Ok(Some("it has no rule".to_owned()));
    }
    for rule in &route.rules {
        match (&rule.header, &rule.field) {
            (Some(header), None) if is_header_name(header) => {}
            (Some(header), None) => return Ok(Some(format!("{header:?} is no name of a header"))),
            (None, Some(field)) if field.starts_with('/') && field.len() <= 256 => {}
            (None, Some(field)) => {
                return Ok(Some(format!("{field:?} is no JSON pointer such as \"/plan\"")));
            }
            _ => return Ok(Some("a rule has either header or field".to_owned())),
        }
    }
    Ok(None)
}
