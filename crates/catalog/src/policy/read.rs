//! Policies from TOML, each fault with its line.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::handlers::{Handler, Kind};
use super::{AppPolicies, Policies, check};
use crate::manifest::read::{Located, Reader, document, text, wrong_type};
use crate::manifest::{ManifestError, ManifestFault};
use crate::names::FunctionName;
use crate::nearest::nearest;

const POLICY_KEYS: &[&str] = &["inherit", "handlers"];
const FILE_KEYS: &[&str] = &["policy", "functions"];
const FUNCTION_KEYS: &[&str] = &["policy"];

/// A file with policies and nothing else: `[policy]` and `[functions.NAME.policy]`, as in a manifest.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFile<'a> {
    /// Its text.
    pub text: &'a str,
    /// What it is called in messages.
    pub file: &'a Path,
}

/// Reads a file with policies.
///
/// # Errors
/// The first fault, with its place in the text and what to do about it.
pub fn parse_policies(from: PolicyFile<'_>) -> Result<AppPolicies, ManifestError> {
    file(from.text).map_err(|fault| ManifestError::at(from.file, from.text, fault))
}

fn file(text: &str) -> Result<AppPolicies, Located> {
    let document = document(text)?;
    let document = document.get_ref();
    let reader = Reader::open(String::new(), document, 0..0, FILE_KEYS)?;
    let mut policies = AppPolicies { policy: policy(&reader)?, functions: BTreeMap::new() };
    if let Some(value) = reader.get("functions") {
        let table = value.get_ref().as_table().ok_or_else(|| wrong_type("functions", "a table", value))?;
        for (key, value) in table {
            let fault = |fault| ManifestFault::Name { name: key.get_ref().to_string(), fault };
            let name =
                FunctionName::new(key.get_ref()).map_err(|bad| Located::new(key.span(), fault(bad)))?;
            let path = format!("functions.{name}");
            let table = value.get_ref().as_table().ok_or_else(|| wrong_type(&path, "a table", value))?;
            let function = Reader::open(path, table, key.span(), FUNCTION_KEYS)?;
            policies.functions.insert(name, policy(&function)?);
        }
    }
    check::all(&policies)
        .map_err(|misplaced| Located { span: misplaced.site.span(document), fault: misplaced.fault })?;
    Ok(policies)
}

/// The table `policy` of a table.
pub(crate) fn policy(around: &Reader<'_, '_>) -> Result<Policies, Located> {
    let Some(table) = around.table("policy", POLICY_KEYS)? else { return Ok(Policies::default()) };
    let inherit = table.bool("inherit")?.unwrap_or(true);
    let name = table.key("handlers");
    let items = table.list("handlers", "tables [[…policy.handlers]]")?;
    let handlers = items.into_iter().flat_map(|items| items.iter());
    let handlers = handlers.map(|item| handler(&name, item)).collect::<Result<_, _>>()?;
    Ok(Policies { inherit, handlers })
}

fn handler(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Handler, Located> {
    let table = value.get_ref().as_table().ok_or_else(|| wrong_type(name, "a table", value))?;
    let Some(word) = table.get("use") else {
        let fault = ManifestFault::MissingKey {
            table: name.to_owned(),
            key: "use",
            example: "use = \"HANDLER\", such as \"log\" or \"rate-limit\"",
        };
        return Err(Located::new(value.span(), fault));
    };
    let (span, word) = text(&format!("{name}.use"), word)?;
    let mut settings = DeTable::new();
    for (key, value) in table.iter().filter(|(key, _)| *key.get_ref() != "use") {
        settings.insert(key.clone(), value.clone());
    }
    let settings = Spanned::new(value.span(), DeValue::Table(settings));
    match Handler::read(word, settings.into_deserializer()) {
        Some(Ok(handler)) => Ok(handler),
        Some(Err(error)) => {
            let at = error.span().unwrap_or(value.span());
            let message = error.message().to_owned();
            Err(Located::new(at, ManifestFault::Handler { handler: word.to_owned(), message }))
        }
        None => {
            let fault = ManifestFault::UnknownWord {
                key: format!("{name}.use"),
                word: word.to_owned(),
                nearest: nearest(word, Kind::WORDS.iter().copied()),
                known: Kind::WORDS,
            };
            Err(Located::new(span, fault))
        }
    }
}

impl Policies {
    /// Whether the JSON form may be left out.
    pub(crate) fn is_default(&self) -> bool {
        self.is_empty()
    }
}
