//! The checks at the TCP door.
//!
//! A page in a browser on this machine can send requests to loopback. Three things keep it out: the token, which it
//! does not know; the `Host` header, which names the page's own site after DNS rebinding; and `Origin` and
//! `Sec-Fetch-Site`, which browsers add to requests of other origins.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::fault::Fault;
use super::page;

pub(super) async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let path = request.uri().path();
    let open = path == "/healthz" || page::is_of_page(path);
    // Somebody follows a link to the dashboard from another site: the page that opens is the node's own, may not be framed,
    // and asks for everything else itself.
    let arrives = path == "/" && request.method() == Method::GET && is_navigation(headers);
    if let Err(fault) = same_site(headers, arrives) {
        return fault.into_response();
    }
    if !open && !token_matches(headers, &api.token) {
        let mut response = Fault::new(
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong",
            "send `Authorization: Bearer TOKEN`; the token is in $BATON_HOME/token",
        )
        .into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return response;
    }
    next.run(request).await
}

fn token_matches(headers: &HeaderMap, token: &str) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, shown)) = value.split_once(' ') else { return false };
    // Hashes compare in constant time, whatever the lengths of what was hashed.
    scheme.eq_ignore_ascii_case("bearer")
        && blake3::hash(shown.trim().as_bytes()) == blake3::hash(token.as_bytes())
}

/// Whether a browser asks for a page to show in place of another, and not for something within one.
fn is_navigation(headers: &HeaderMap) -> bool {
    let says =
        |name, value: &str| headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes());
    says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document")
}

fn same_site(headers: &HeaderMap, arrives: bool) -> Result<(), Fault> {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or(""));
    let Some(host) = text(header::HOST) else {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "there is no Host header", "send one"));
    };
    if !numeric_or_localhost(host) {
        return Err(Fault::new(
            StatusCode::FORBIDDEN,
            "the Host header names another site",
            "use the numeric address or localhost",
        ));
    }
    let foreign_origin =
        text(header::ORIGIN).is_some_and(|origin| origin.strip_prefix("http://") != Some(host));
    let foreign_fetch = !arrives
        && headers.get("sec-fetch-site").is_some_and(|site| {
            !["same-origin", "none"].iter().any(|fits| site.as_bytes() == fits.as_bytes())
        });
    if foreign_origin || foreign_fetch {
        return Err(Fault::new(
            StatusCode::FORBIDDEN,
            "the request comes from a page of another origin",
            "use the CLI or the node's own pages",
        ));
    }
    Ok(())
}

/// A name could be made to point here by somebody else; a number and `localhost` cannot.
fn numeric_or_localhost(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address),
        None => Some(host.split_once(':').map_or(host, |(name, _)| name)),
    };
    bare.is_some_and(|bare| bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_and_localhost_are_hosts() {
        for host in ["127.0.0.1", "127.0.0.1:8081", "localhost:1", "LOCALHOST", "[::1]:8081", "10.0.0.1"] {
            assert!(numeric_or_localhost(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8081", "127.0.0.1.evil.example", "[::1", "::1"] {
            assert!(!numeric_or_localhost(host), "{host}");
        }
    }
}
