//! Who gets which events: `[[subscriptions]]`.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeValue;

use super::check::{Misplaced, at_most, fail, not_longer};
use super::read::{Located, Reader, wrong_type};
use super::{Manifest, ManifestFault, Site};
use crate::limits;
use crate::names::FunctionName;
use crate::nearest::nearest;
use crate::routes::{Method, Route, RoutePattern};

const SUBSCRIPTION_KEYS: &[&str] = &["path", "function", "type", "source", "durable"];

/// Events that come to a path and go to a function. Several may have one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Where events are posted.
    pub path: RoutePattern,
    /// Who gets them.
    pub function: FunctionName,
    /// Their types; any if empty.
    #[serde(default, rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<EventPattern>,
    /// Where they come from; anywhere if empty.
    #[serde(default, rename = "source", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<EventPattern>,
    /// Whether they are put into the function's queue, rather than answered by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub durable: bool,
}

impl Subscription {
    /// Whether an event is for it.
    #[must_use]
    pub fn takes(&self, kind: &str, source: &str) -> bool {
        let fits = |patterns: &[EventPattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(text))
        };
        fits(&self.types, kind) && fits(&self.sources, source)
    }
}

/// A text, or the beginning of one with `*` behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventPattern(String);

impl EventPattern {
    fn fits(&self, text: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => self.0 == text,
        }
    }
}

/// What can be wrong with subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionFault {
    /// A function that the app does not have.
    UnknownFunction {
        /// The function.
        function: FunctionName,
        /// The one that it resembles.
        nearest: Option<String>,
    },
    /// A pattern that fits nothing, or has its star elsewhere than at its end.
    Pattern {
        /// What stands there.
        text: String,
    },
    /// Some of one path are durable, and some are not: an answer is one or the other.
    Mixed {
        /// The path.
        path: RoutePattern,
    },
    /// A path with parameters, which no event can fill.
    Parameters {
        /// The path.
        path: RoutePattern,
    },
    /// A route answers there already.
    Routed {
        /// The path.
        path: RoutePattern,
    },
}

impl fmt::Display for SubscriptionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFunction { function, .. } => {
                write!(f, "the subscription leads to function \"{function}\", which does not exist")
            }
            Self::Pattern { text } => write!(f, "{text:?} is no text with at most a * at its end"),
            Self::Mixed { path } => {
                write!(f, "some subscriptions of \"{path}\" are durable and some are not")
            }
            Self::Parameters { path } => write!(f, "\"{path}\" has parameters, which no event has"),
            Self::Routed { path } => write!(f, "a route answers POST at \"{path}\" already"),
        }
    }
}

impl SubscriptionFault {
    /// What to do about it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::UnknownFunction { nearest: Some(nearest), .. } => format!("did you mean {nearest:?}?"),
            Self::UnknownFunction { nearest: None, .. } => "name a function of this app".to_owned(),
            Self::Pattern { .. } => {
                "write it whole, such as \"shop.order.created\", or as \"shop.order.*\"".to_owned()
            }
            Self::Mixed { .. } => "give them different paths, or all the same `durable`".to_owned(),
            Self::Parameters { .. } => "write the path out".to_owned(),
            Self::Routed { .. } => "give the subscription another path, or remove the route".to_owned(),
        }
    }
}

pub(super) fn subscriptions(document: &Reader<'_, '_>) -> Result<Vec<Subscription>, Located> {
    let expected = "tables [[subscriptions]]";
    let Some(items) = document.list("subscriptions", expected)? else { return Ok(Vec::new()) };
    items.iter().map(subscription).collect()
}

fn subscription(value: &Spanned<DeValue<'_>>) -> Result<Subscription, Located> {
    let expected = "tables [[subscriptions]]";
    let table = value.get_ref().as_table().ok_or_else(|| wrong_type("subscriptions", expected, value))?;
    let table = Reader::open("subscriptions".to_owned(), table, value.span(), SUBSCRIPTION_KEYS)?;
    let (span, path) = table.required(table.text("path")?, "path", "path = \"/events\"")?;
    let bad = |fault| ManifestFault::Path { path: path.to_owned(), fault };
    let path = path.parse().map_err(|fault| Located::new(span, bad(fault)))?;
    let (span, name) = table.required(table.text("function")?, "function", "function = \"NAME\"")?;
    let bad = |fault| ManifestFault::Name { name: name.to_owned(), fault };
    let function = FunctionName::new(name).map_err(|fault| Located::new(span, bad(fault)))?;
    let patterns = |key| -> Result<Vec<EventPattern>, Located> {
        // One is as good as a list of one.
        if table.get(key).is_some_and(|value| value.get_ref().as_str().is_some()) {
            let one = table.text(key)?;
            return Ok(one.into_iter().map(|(_, text)| EventPattern(text.to_owned())).collect());
        }
        let texts = table.texts(key)?.unwrap_or_default();
        Ok(texts.into_iter().map(|(_, text)| EventPattern(text.to_owned())).collect())
    };
    let (types, sources) = (patterns("type")?, patterns("source")?);
    Ok(Subscription { path, function, types, sources, durable: table.bool("durable")?.unwrap_or_default() })
}

pub(super) fn check(manifest: &Manifest, site: &Site) -> Result<(), Misplaced> {
    at_most(site, "subscriptions", manifest.subscriptions.len(), limits::SUBSCRIPTIONS_MAX)?;
    for (place, each) in manifest.subscriptions.iter().enumerate() {
        one(manifest, each, &site.then(place))?;
    }
    Ok(())
}

fn one(manifest: &Manifest, one: &Subscription, site: &Site) -> Result<(), Misplaced> {
    let path = || one.path.clone();
    if one.path.to_string().contains('{') {
        let fault = SubscriptionFault::Parameters { path: path() };
        return fail(site.then("path"), ManifestFault::Subscription(fault));
    }
    if !manifest.functions.contains_key(&one.function) {
        let nearest = nearest(one.function.as_str(), manifest.functions.keys().map(FunctionName::as_str));
        let fault = SubscriptionFault::UnknownFunction { function: one.function.clone(), nearest };
        return fail(site.then("function"), ManifestFault::Subscription(fault));
    }
    let posts = |route: &Route| route.path == one.path && route.methods.contains(&Method::post());
    if manifest.routes.iter().any(posts) {
        let fault = SubscriptionFault::Routed { path: path() };
        return fail(site.then("path"), ManifestFault::Subscription(fault));
    }
    let mut others = manifest.subscriptions.iter().filter(|other| other.path == one.path);
    if others.any(|other| other.durable != one.durable) {
        let fault = SubscriptionFault::Mixed { path: path() };
        return fail(site.then("durable"), ManifestFault::Subscription(fault));
    }
    for (key, patterns) in [("type", &one.types), ("source", &one.sources)] {
        at_most(&site.then(key), "patterns", patterns.len(), limits::EVENT_PATTERNS_MAX)?;
        for (place, EventPattern(text)) in patterns.iter().enumerate() {
            let site = site.then(key).then(place);
            not_longer(&site, "the pattern", text.len(), limits::EVENT_PATTERN_BYTES_MAX)?;
            let fixed = text.strip_suffix('*').unwrap_or(text);
            if text.is_empty() || fixed.contains('*') || fixed.chars().any(char::is_control) {
                let fault = SubscriptionFault::Pattern { text: text.clone() };
                return fail(site, ManifestFault::Subscription(fault));
            }
        }
    }
    Ok(())
}

impl Manifest {
    /// Its routes, and behind them one for each path to which events come; those lead to the first function there that gets
    /// any.
    #[must_use]
    pub fn served(&self) -> Vec<Route> {
        let mut served = self.routes.clone();
        for Subscription { path, function, .. } in &self.subscriptions {
            let is_known = |route: &Route| route.path == *path;
            if !served.iter().skip(self.routes.len()).any(is_known) {
                let methods = vec![Method::post()];
                served.push(Route { path: path.clone(), methods, function: function.clone() });
            }
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(more: &str) -> Result<Manifest, String> {
        let text = format!(
            "[app]\nname = \"a\"\n[functions.f]\nartifact = \"f\"\n[functions.g]\nartifact = \"g\"\n[[routes]]\npath = \"/x\"\nmethods = [\"GET\", \"POST\"]\nfunction = \"f\"\n{more}"
        );
        Manifest::parse(&text, Path::new("baton.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn filters_are_whole_or_begin_so() {
        let manifest = read(
            "[[subscriptions]]\npath = \"/events\"\nfunction = \"f\"\ntype = \"shop.order.*\"\nsource = [\"/shop\", \"/store/*\"]\n[[subscriptions]]\npath = \"/events\"\nfunction = \"g\"\n",
        )
        .unwrap();
        let [first, second] = manifest.subscriptions.as_slice() else { panic!("two") };
        let takes = |kind, source| (first.takes(kind, source), second.takes(kind, source));
        assert_eq!(takes("shop.order.created", "/shop"), (true, true));
        assert_eq!(takes("shop.order", "/shop"), (false, true));
        assert_eq!(takes("shop.order.", "/store/1"), (true, true));
        assert_eq!(takes("shop.order.created", "/shop/1"), (false, true));
        let served = manifest.served();
        assert_eq!((served.len(), served[1].function.as_str()), (2, "f"));
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_where_it_stands() {
        let table = |lines: &str| read(&format!("[[subscriptions]]\n{lines}\n")).unwrap_err();
        for (lines, said) in [
            ("function = \"f\"", "path"),
            ("path = \"/e\"", "function"),
            ("path = \"/e\"\nfunction = \"h\"", "\"h\", which does not exist"),
            ("path = \"/e/{x}\"\nfunction = \"f\"", "parameters"),
            ("path = \"/x\"\nfunction = \"f\"", "already"),
            ("path = \"/e\"\nfunction = \"f\"\ntype = \"a*b\"", "* at its end"),
            ("path = \"/e\"\nfunction = \"f\"\ntype = [\"\"]", "* at its end"),
            ("path = \"/e\"\nfunction = \"f\"\ndurable = 1", "true or false"),
            ("path = \"/e\"\nfunction = \"f\"\nkind = \"x\"", "kind"),
            (
                "path = \"/e\"\nfunction = \"f\"\n[[subscriptions]]\npath = \"/e\"\nfunction = \"g\"\ndurable = true",
                "some are not",
            ),
        ] {
            let error = table(lines);
            assert!(error.contains(said), "{lines}: {error}");
        }
    }
}
