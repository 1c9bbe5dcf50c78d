//! Tokens signed with HS256 by one secret, and the file of keys that has it. Those that do not say otherwise are good until 2100.

/// The file of keys.
pub(crate) const KEYS: &str =
    r#"{"keys":[{"kty":"oct","kid":"k1","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;
/// Of `ada`, for `shop`, with the scope `shop:read`.
pub(crate) const GOOD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJhdWQiOiJzaG9wIiwiZXhwIjo0MTAyNDQ0ODAwLCJzY29wZSI6InNob3A6cmVhZCJ9.05IU2Hs0dL-efnL3uYB2ybQnbxFPhiTulIyABoUExfc";
/// Good until 2001.
pub(crate) const EXPIRED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJhdWQiOiJzaG9wIiwiZXhwIjoxMDAwMDAwMDAwfQ.AalGZELtoBOq62bbkEiraXJG8hCkHP_kfilAqJ4PkDA";
/// For `bank`.
pub(crate) const OTHER_AUDIENCE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJhdWQiOiJiYW5rIiwiZXhwIjo0MTAyNDQ0ODAwfQ._6CWsusNejil_4lNjWrUii9vYTFFt0jDOTiXNwkUrhA";
/// By the same secret under the name of another key.
pub(crate) const UNKNOWN_KEY: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6Ims5In0.eyJzdWIiOiJhZGEiLCJhdWQiOiJzaG9wIiwiZXhwIjo0MTAyNDQ0ODAwfQ.PrLiQmjHDHNPXYgc9sTZJ9mI8p9OslHTmoODjzJRWUg";
/// With `alg: none`.
pub(crate) const UNSIGNED: &str =
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJhdWQiOiJzaG9wIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
