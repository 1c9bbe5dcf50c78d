//! Bodies: JSON that must fit a schema, and fields of it that lead elsewhere.

use baton_catalog::policy::{RouteRule, RouteTo, Schema};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::request::Request;
use crate::verdict::Refusal;

/// Bytes of what is wrong with a body that its client is told.
const SAID_BYTES_MAX: usize = 512;

/// A schema, compiled.
#[derive(Debug)]
pub(crate) struct Form {
    validator: Validator,
    pub(crate) bytes_max: u64,
}

impl Form {
    pub(crate) fn new(settings: &Schema) -> Result<Self, String> {
        if settings.schema.is_empty() {
            return Err(
                "the text of its file is not there; `baton deploy` and `baton policy set` put it in".into()
            );
        }
        let schema: Value = serde_json::from_str(&settings.schema)
            .map_err(|error| format!("the schema is no JSON: {error}"))?;
        // Without the features of the crate that would, no reference leads out of the schema. Patterns run in linear time.
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| format!("the schema is none: {error}"))?;
        Ok(Self { validator, bytes_max: settings.size.bytes() })
    }

    pub(crate) fn check(&self, body: &[u8]) -> Result<(), Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::new(400, format!("the body is no JSON: {error}")))?;
        self.validator.validate(&value).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "the body".to_owned() } else { place };
            let mut message = format!("{place}: {error}");
            message.truncate(message.floor_char_boundary(SAID_BYTES_MAX));
            Refusal::new(422, message)
        })
    }
}

/// Rules that lead to other functions.
#[derive(Debug)]
pub(crate) struct Fork {
    rules: Vec<RouteRule>,
}

/// Largest body whose fields are looked at, bytes; a larger one matches no rule.
pub(crate) const FIELDS_BYTES_MAX: u64 = 1 << 20;

impl Fork {
    pub(crate) fn new(settings: &RouteTo) -> Self {
        let lower = |rule: &RouteRule| RouteRule {
            header: rule.header.as_ref().map(|name| name.to_ascii_lowercase()),
            ..rule.clone()
        };
        Self { rules: settings.rules.iter().map(lower).collect() }
    }

    /// Whether a rule looks at the body.
    pub(crate) fn reads_body(&self) -> bool {
        self.rules.iter().any(|rule| rule.field.is_some())
    }

    /// The function of the first rule that matches; rules about the body match only with one.
    pub(crate) fn choose(&self, request: &Request<'_>, body: Option<&[u8]>) -> Option<&str> {
        let mut json: Option<Value> = None;
        let matches = |rule: &&RouteRule| match (&rule.header, &rule.field) {
            (Some(name), _) => request.header(name) == Some(rule.equals.as_bytes()),
            (None, Some(field)) => {
                let json = json.get_or_insert_with(|| {
                    body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default()
                });
                match json.pointer(field) {
                    Some(Value::String(text)) => *text == rule.equals,
                    Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => false,
                    Some(plain) => plain.to_string() == rule.equals,
                }
            }
            (None, None) => false,
        };
        { self.rules.iter() }.find(matches).map(|rule| rule.to.as_str())
    }
}
