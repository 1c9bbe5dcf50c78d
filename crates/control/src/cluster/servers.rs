//! What servers of NATS are like: their addresses, their versions, and what they mean by an error.

use async_nats::jetstream::context::{
    AccountError, AccountErrorKind, CreateStreamError, CreateStreamErrorKind,
};
use async_nats::jetstream::{self, ErrorCode};

/// Whether a server lacks what is asked of it, as far as its version can be read.
pub(super) fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    matches!((numbers.next().flatten(), numbers.next().flatten()), (Some(major), Some(minor)) if (major, minor) < (2, 10))
}

/// A server without the user and the password that may stand in its URL.
pub(super) fn shown(server: &str) -> String {
    match (server.split_once("://"), server.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => server.to_owned(),
    }
}

/// The user and the password in a server's URL, as they are written there; all servers are told the first.
pub(super) fn login(server: &str) -> Option<(&str, &str)> {
    let (user, _) = server.split_once("://")?.1.rsplit_once('@')?;
    user.split_once(':')
}

/// Whether the server stands alone and so keeps one copy only.
pub(super) fn stands_alone(error: &(dyn std::error::Error + 'static)) -> bool {
    code_of(error).is_some_and(|code| code == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED)
}

/// Whether what the server says passes by itself: servers that have not found together yet.
pub(super) fn passes(code: ErrorCode) -> bool {
    const PASSING: [ErrorCode; 6] = [
        ErrorCode::CLUSTER_NO_PEERS,
        ErrorCode::CLUSTER_NOT_AVAILABLE,
        ErrorCode::CLUSTER_NOT_LEADER,
        ErrorCode::CLUSTER_NOT_ACTIVE,
        ErrorCode::CLUSTER_INCOMPLETE,
        ErrorCode::INSUFFICIENT_RESOURCES,
    ];
    PASSING.contains(&code)
}

/// The server's own number for what went wrong, from wherever in the chain it stands.
pub(super) fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<jetstream::Error>() {
            return Some(error.error_code());
        }
        if let Some(CreateStreamErrorKind::JetStream(error)) =
            error.downcast_ref::<CreateStreamError>().map(|error| error.kind())
        {
            return Some(error.error_code());
        }
        if let Some(AccountErrorKind::JetStream(error)) =
            error.downcast_ref::<AccountError>().map(|error| error.kind())
        {
            return Some(error.error_code());
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{is_too_old, login, shown};

    #[test]
    fn old_servers_are_told_by_their_version() {
        assert!(is_too_old("2.9.10") && is_too_old("1.4"));
        assert!(!is_too_old("2.10.0") && !is_too_old("3.0.0-beta") && !is_too_old("main"));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("nats://user:p@ss@127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(shown("tls://127.0.0.1:4222"), "tls://127.0.0.1:4222");
        assert_eq!(login("nats://user:p@ss@127.0.0.1:4222"), Some(("user", "p@ss")));
        assert_eq!(login("nats://127.0.0.1:4222"), None);
    }
}
