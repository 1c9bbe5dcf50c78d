//! The handlers, each with its settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::terms::{Rate, Source, Template};
use crate::names::FunctionName;
use crate::routes::{Method, RoutePattern};
use crate::units::{ByteSize, TimeSpan};

macro_rules! handlers {
    ($($(#[$meta:meta])* $name:ident($settings:ident) = $word:literal),+ $(,)?) => {
        /// One handler and its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "use")]
        pub enum Handler { $($(#[$meta])* #[serde(rename = $word)] $name($settings)),+ }

        /// What a handler does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$meta])* $name),+ }

        impl Kind {
            /// The words of the manifest.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the manifest.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }

        impl Handler {
            /// What it does.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name),+ }
            }

            /// Which requests it is for.
            #[must_use]
            pub const fn only(&self) -> &Only {
                match self { $(Self::$name(settings) => &settings.only),+ }
            }

            /// The handler of a word, its settings read from `from`.
            pub(super) fn read<'de, D>(word: &str, from: D) -> Option<Result<Self, D::Error>>
            where
                D: serde::Deserializer<'de>,
            {
                match word {
                    $($word => Some($settings::deserialize(from).map(Self::$name)),)+
                    _ => None,
                }
            }
        }
    };
}

handlers! {
    /// Writes a line for each request.
    Log(Log) = "log",
    /// Opens a span for each request.
    Span(SpanOf) = "span",
    /// Counts requests by outcome.
    Metrics(Metrics) = "metrics",
    /// Says who the client was.
    Forwarded(Forwarded) = "forwarded",
    /// Bounds the time of a request.
    TimeOut(TimeOut) = "timeout",
    /// Makes a failed call again.
    Retry(Retry) = "retry",
    /// Bounds requests in a time.
    RateLimit(RateLimit) = "rate-limit",
    /// Bounds requests at once.
    Concurrency(Concurrency) = "concurrency",
    /// Keeps requests from a function that fails.
    Breaker(Breaker) = "breaker",
    /// Asks for an API key.
    ApiKeys(ApiKeys) = "api-key",
    /// Asks for a JSON web token.
    Jwt(Jwt) = "jwt",
    /// Asks for a certificate.
    Identity(Identity) = "identity",
    /// Asks what the client may do.
    Authorize(Authorize) = "authorize",
    /// Changes headers.
    Headers(Headers) = "headers",
    /// Checks bodies.
    Schema(Schema) = "schema",
    /// Leads to another function.
    RouteTo(RouteTo) = "route",
    /// Asks a function of the app.
    Ask(Ask) = "ask",
}

macro_rules! settings {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Which requests it is for; all by default.
            #[serde(default, skip_serializing_if = "Only::is_all")]
            pub only: Only,
            $($(#[$field_meta])* pub $field: $type),*
        }
    )+};
}

/// Which requests a handler is for: those that match everything that is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Only {
    /// Those whose path matches one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<RoutePattern>,
    /// Those with one of these methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Calls of these functions that leave their node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<FunctionName>,
}

impl Only {
    /// Whether it is for all requests.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.paths.is_empty() && self.methods.is_empty() && self.callers.is_empty()
    }
}

settings! {
    /// A line for each request.
    Log {
        /// A text of the request that stands in the line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Source>,
    }

    /// A span for each request.
    SpanOf {}

    /// Requests by outcome.
    Metrics {}

    /// `Forwarded` and `X-Forwarded-*`.
    Forwarded {
        /// Networks whose own `Forwarded` is believed and added to, such as `10.0.0.0/8`; of others it is dropped.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        trusted: Vec<String>,
    }

    /// A bound on the time of a request.
    TimeOut {
        /// From the complete request to its answer.
        after: TimeSpan,
    }

    /// Calls made again.
    Retry {
        /// Attempts, the first among them.
        #[serde(default = "three")]
        attempts: u32,
        /// Attempts beyond the first, as a share of requests in percent.
        #[serde(default = "twenty")]
        budget: u32,
        /// How long one attempt may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_attempt: Option<TimeSpan>,
        /// The function's answers that count as failed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        statuses: Vec<u16>,
        /// The largest body that is kept for another attempt.
        #[serde(default = "body_kept")]
        body: ByteSize,
    }

    /// Requests in a time.
    RateLimit {
        /// What has a rate of its own.
        #[serde(default = "by_address")]
        key: Source,
        /// How many in a time.
        rate: Rate,
        /// How many at once after a pause; as many as `rate` says of one second, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        burst: Option<u32>,
        /// How many keys are remembered.
        #[serde(default = "keys")]
        keys: u32,
    }

    /// Requests at once.
    Concurrency {
        /// What has a bound of its own.
        #[serde(default = "by_all")]
        key: Source,
        /// How many.
        max: u32,
    }

    /// A breaker.
    Breaker {
        /// Over which time failures are counted.
        #[serde(default = "ten_seconds")]
        window: TimeSpan,
        /// The share of failures in percent that opens it.
        #[serde(default = "fifty")]
        failures: u32,
        /// The least requests of the window before it opens.
        #[serde(default = "twenty")]
        least: u32,
        /// How long it stays open before it lets a request through to see.
        #[serde(default = "five_seconds")]
        open: TimeSpan,
        /// How many of these have to succeed in a row for it to close.
        #[serde(default = "three")]
        probes: u32,
    }

    /// API keys.
    ApiKeys {
        /// The header that carries it.
        #[serde(default = "x_api_key")]
        header: String,
        /// Those that are good.
        keys: Vec<ApiKey>,
    }

    /// JSON web tokens.
    Jwt {
        /// The header that carries it, behind `Bearer ` if that is `authorization`.
        #[serde(default = "authorization")]
        header: String,
        /// The node's file of keys, absolute. It is read again when it changes.
        jwks: PathBuf,
        /// The algorithms that are good.
        algorithms: Vec<Algorithm>,
        /// The issuers that are good; any if empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        issuers: Vec<String>,
        /// The audiences that are good; a token must have one of them.
        audiences: Vec<String>,
        /// By how much clocks may differ.
        #[serde(default = "leeway")]
        leeway: TimeSpan,
        /// The longest token.
        #[serde(default = "token_size")]
        size: ByteSize,
        /// How many tokens are remembered as good.
        #[serde(default = "tokens")]
        cache: u32,
    }

    /// Certificates.
    Identity {
        /// The identities that are good; any if empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
    }

    /// What the client may do.
    Authorize {
        /// Scopes of its token or key, all of which it needs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scopes: Vec<String>,
        /// Claims of its token, and the values of which each needs one.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        claims: BTreeMap<String, Vec<String>>,
        /// Identities, of which it needs one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        identities: Vec<String>,
        /// Names of API keys, of which it needs one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<String>,
        /// The only functions that may call from other nodes; any if empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        callers: Vec<FunctionName>,
    }

    /// Headers that are changed.
    Headers {
        /// Those of the request.
        #[serde(default, skip_serializing_if = "Edits::is_empty")]
        request: Edits,
        /// Those of the answer.
        #[serde(default, skip_serializing_if = "Edits::is_empty")]
        response: Edits,
    }

    /// Bodies that are checked.
    Schema {
        /// The file of the schema, relative to the manifest's directory; `baton` puts its text into `schema`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
        /// The schema itself, as JSON.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        schema: String,
        /// The largest body.
        #[serde(default = "body_kept")]
        size: ByteSize,
    }

    /// Other functions for some requests.
    RouteTo {
        /// The first that matches decides.
        rules: Vec<RouteRule>,
    }

    /// A function that decides.
    Ask {
        /// Which one.
        function: FunctionName,
    }
}

/// Headers to change, in this order: removed, set, added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edits {
    /// Names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// In the place of those of the same name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Template>,
    /// Beside those of the same name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, Template>,
}

impl Edits {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// One API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What it is called in logs and limits.
    pub name: String,
    /// BLAKE3 of the key, 64 hexadecimal digits. `baton policy key` makes both.
    pub hash: String,
    /// What it may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// One rule that leads to another function: a header or a field of the body, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// The header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The field of a JSON body, as a JSON pointer such as `/plan/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it must be.
    pub equals: String,
    /// The function.
    pub to: FunctionName,
}

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)+) => {$(
        fn $name() -> $type {
            $value
        }
    )+};
}

defaults! {
    three: u32 = 3;
    twenty: u32 = 20;
    fifty: u32 = 50;
    keys: u32 = 16_384;
    tokens: u32 = 4_096;
    by_address: Source = Source::Address;
    by_all: Source = Source::All;
    ten_seconds: TimeSpan = TimeSpan::from_millis(10_000);
    five_seconds: TimeSpan = TimeSpan::from_millis(5_000);
    leeway: TimeSpan = TimeSpan::from_millis(0);
    body_kept: ByteSize = ByteSize::from_bytes(64 * 1024);
    token_size: ByteSize = ByteSize::from_bytes(8 * 1024);
    x_api_key: String = "x-api-key".to_owned();
    authorization: String = "authorization".to_owned();
}
