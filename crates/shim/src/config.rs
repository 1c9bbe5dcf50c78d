//! What the node says in the environment: one JSON object, whose `runtime` says what else is in it.

use std::ffi::OsString;
use std::fmt;

use serde::Deserialize;

use crate::http::HttpConfig;
use crate::lambda::LambdaConfig;

/// The variable. Programs do not get to see it.
pub(crate) const ENV: &str = "BATON_SHIM";

/// What a shim is to do.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(flatten)]
    pub(crate) runtime: Runtime,
}

/// What kind of program is behind it: `"runtime": "http"` and what [`HttpConfig`] says, or `"lambda"` and [`LambdaConfig`].
#[derive(Debug, Deserialize)]
#[serde(tag = "runtime", rename_all = "lowercase")]
pub(crate) enum Runtime {
    Http(HttpConfig),
    Lambda(LambdaConfig),
}

/// Why there is nothing to do.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Missing,
    Malformed(serde_json::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Missing => write!(
                f,
                "{ENV} is not set: this program is started by a node, in front of functions whose `runtime` is \"http\" or \"lambda\""
            ),
            ConfigError::Malformed(error) => {
                write!(
                    f,
                    "{ENV} cannot be read ({error}): `baton` and `baton-shim` are of different versions"
                )
            }
        }
    }
}

impl Config {
    pub(crate) fn read(text: Option<OsString>) -> Result<Config, ConfigError> {
        let text = text.ok_or(ConfigError::Missing)?;
        serde_json::from_slice(text.as_encoded_bytes()).map_err(ConfigError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_writes_is_read() {
        let text = r#"{"runtime":"http","command":["python3","app.py"],"port":8000,"within_ms":9000}"#;
        let Config { runtime: Runtime::Http(http) } = Config::read(Some(text.into())).unwrap() else {
            panic!()
        };
        assert_eq!((http.command.len(), http.port, http.within_ms), (2, Some(8000), 9000));
        assert!(!http.stream && http.ready.is_none() && http.socket.is_none());
    }

    #[test]
    fn what_is_no_configuration_is_told() {
        let told = |text: Option<&str>| Config::read(text.map(OsString::from)).unwrap_err().to_string();
        assert!(told(None).contains("is not set"));
        for bad in ["", "{}", "[]", r#"{"runtime":"cobol"}"#, r#"{"runtime":"http","command":"x"}"#] {
            assert!(told(Some(bad)).contains("different versions"), "{bad}");
        }
    }
}
