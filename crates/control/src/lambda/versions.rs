//! Published versions, and the names for them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use baton_catalog::limits;
use serde::Deserialize;

use super::fault::Fault;
use super::functions::{self, absent, check_revision};
use super::names::{self, LATEST, Named};
use super::record::{Alias, Published, Record, Revision};
use super::{Api, Query, Reply, now_ms, revision_id};

/// Published versions at most: each is a function of the app, and `$LATEST` is one.
const VERSIONS_MAX: usize = limits::FUNCTIONS_MAX - 1;
/// Aliases of one function.
const ALIASES_MAX: usize = 64;

impl Record {
    /// Makes a version of what is latest, unless the one that was published last is the same; gives its name.
    pub(super) fn publish(&mut self, description: Option<String>) -> Result<String, Fault> {
        if let Some(last) = self.versions.last()
            && last.revision.runs_as(&self.latest)
        {
            return Ok(last.number.to_string());
        }
        if self.versions.len() >= VERSIONS_MAX {
            return Err(Fault::denied(
                "CodeStorageExceededException",
                format!("there are {VERSIONS_MAX} versions, as many as may; delete some"),
            ));
        }
        self.last_version += 1;
        let description = description.unwrap_or_else(|| self.latest.description.clone());
        let revision =
            Revision { description, id: revision_id(), modified_ms: now_ms(), ..self.latest.clone() };
        self.versions.push(Published { number: self.last_version, revision });
        Ok(self.last_version.to_string())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Publish {
    #[serde(rename = "CodeSha256")]
    code_sha256: Option<String>,
    description: Option<String>,
    revision_id: Option<String>,
}

fn read<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, Fault> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Fault::content(format!("Could not parse request body into json: {error}")))
}

/// `PublishVersion`.
pub(super) async fn publish(api: &Api, region: &str, named: &Named, body: &[u8]) -> Result<Reply, Fault> {
    let Publish { code_sha256, description, revision_id } = read(body)?;
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    check_revision(revision_id.as_deref(), &record.latest.id)?;
    if code_sha256.is_some_and(|said| said != record.latest.code_sha256) {
        return Err(Fault::invalid(format!("CodeSHA256 is {}", record.latest.code_sha256)));
    }
    let before = record.versions.len();
    let version = record.publish(description)?;
    if record.versions.len() > before {
        api.deploy(&record).await?;
    }
    Ok(Reply::json(StatusCode::CREATED, functions::shown(&record, region, &version)))
}

/// `ListVersionsByFunction`.
pub(super) fn list(api: &Api, region: &str, named: &Named, query: &Query) -> Result<Reply, Fault> {
    let record = api.existing(&named.name)?;
    let shown = |(version, _): (String, &Revision)| record.configuration(region, &version, Some(&version));
    functions::page("Versions", record.revisions().filter_map(shown).collect(), query)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Wanted {
    name: Option<String>,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<Routing>,
    revision_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Routing {
    additional_version_weights: BTreeMap<String, f64>,
}

impl Wanted {
    /// Puts what is said in the place of what is so, and checks the whole.
    fn put_into(self, alias: &mut Alias, record: &Record) -> Result<(), Fault> {
        if let Some(version) = self.function_version {
            alias.version = version;
        }
        if let Some(description) = self.description {
            alias.description = description;
        }
        if let Some(Routing { additional_version_weights: weights }) = self.routing_config {
            if weights.len() > 1 {
                return Err(Fault::invalid("an alias leads to one version, and at most one more"));
            }
            alias.other = match weights.into_iter().next() {
                Some((version, weight)) => Some((version, hundredths(weight)?)),
                None => None,
            };
        }
        let other = alias.other.as_ref().map(|(version, _)| version);
        for version in std::iter::once(&alias.version).chain(other) {
            if record.revision(version).is_none() {
                return Err(Fault::not_found(format!("Function not found: {}:{version}", record.name)));
            }
        }
        if let Some(other) = other
            && (other == &alias.version || other == LATEST || alias.version == LATEST)
        {
            return Err(Fault::invalid("an alias that leads to two versions leads to two published ones"));
        }
        Ok(())
    }
}

/// A weight, 0 to 1, in hundredths of a percent.
fn hundredths(weight: f64) -> Result<u16, Fault> {
    if !(0.0..=1.0).contains(&weight) {
        return Err(Fault::invalid(format!("the weight {weight} is not between 0 and 1")));
    }
    let wanted = (weight * 10_000.0).round();
    (0..=10_000)
        .find(|hundredths| f64::from(*hundredths) >= wanted)
        .ok_or_else(|| Fault::invalid("no weight"))
}

/// `CreateAlias`.
pub(super) async fn create_alias(
    api: &Api,
    region: &str,
    named: &Named,
    body: &[u8],
) -> Result<Reply, Fault> {
    let wanted: Wanted = read(body)?;
    let name = wanted.name.clone().unwrap_or_default();
    names::check_alias(&name)?;
    if wanted.function_version.is_none() {
        return Err(Fault::invalid("FunctionVersion is required"));
    }
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    if record.aliases.contains_key(&name) {
        let arn = names::arn(region, &record.name, Some(&name));
        return Err(Fault::conflict(format!("Alias already exists: {arn}")));
    }
    if record.aliases.len() >= ALIASES_MAX {
        return Err(Fault::invalid(format!("there are {ALIASES_MAX} aliases, as many as may")));
    }
    let (version, description) = Default::default();
    let mut alias = Alias { version, description, other: None, id: revision_id() };
    wanted.put_into(&mut alias, &record)?;
    record.aliases.insert(name.clone(), alias);
    api.keep(&record).await?;
    Ok(Reply::json(StatusCode::CREATED, record.shown_alias(region, &name).unwrap_or_default()))
}

/// `UpdateAlias`.
pub(super) async fn update_alias(
    api: &Api,
    region: &str,
    (named, name): (&Named, &str),
    body: &[u8],
) -> Result<Reply, Fault> {
    let wanted: Wanted = read(body)?;
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    let mut alias = record.aliases.get(name).cloned().ok_or_else(|| no_alias(region, named, name))?;
    check_revision(wanted.revision_id.as_deref(), &alias.id)?;
    wanted.put_into(&mut alias, &record)?;
    alias.id = revision_id();
    record.aliases.insert(name.to_owned(), alias);
    api.keep(&record).await?;
    Ok(Reply::json(StatusCode::OK, record.shown_alias(region, name).unwrap_or_default()))
}

fn no_alias(region: &str, named: &Named, name: &str) -> Fault {
    Fault::not_found(format!("Cannot find alias arn: {}", names::arn(region, &named.name, Some(name))))
}

/// `GetAlias`.
pub(super) fn get_alias(api: &Api, region: &str, (named, name): (&Named, &str)) -> Result<Reply, Fault> {
    let record = api.existing(&named.name)?;
    let shown = record.shown_alias(region, name).ok_or_else(|| no_alias(region, named, name))?;
    Ok(Reply::json(StatusCode::OK, shown))
}

/// `ListAliases`.
pub(super) fn list_aliases(api: &Api, region: &str, named: &Named, query: &Query) -> Result<Reply, Fault> {
    let record = api.existing(&named.name)?;
    let version = query.get("FunctionVersion");
    let fits = |alias: &Alias| version.is_none_or(|version| alias.version == version);
    let names = record.aliases.iter().filter(|(_, alias)| fits(alias)).map(|(name, _)| name);
    let all = names.filter_map(|name| record.shown_alias(region, name)).collect();
    functions::page("Aliases", all, query)
}

/// `DeleteAlias`. One that is not there is gone, as with AWS.
pub(super) async fn delete_alias(api: &Api, (named, name): (&Named, &str)) -> Result<Reply, Fault> {
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    if record.aliases.remove(name).is_some() {
        api.keep(&record).await?;
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// The version that a call goes to; `turn` counts calls, so that weights are met.
pub(super) fn resolve(record: &Record, region: &str, named: &Named, turn: u64) -> Result<String, Fault> {
    let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
    if let Some(alias) = record.aliases.get(qualifier) {
        if let Some((other, hundredths)) = &alias.other
            && let Some(share) = baton_placement::Share::new(*hundredths)
            && share.takes(baton_placement::turn(turn))
        {
            return Ok(other.clone());
        }
        return Ok(alias.version.clone());
    }
    match record.revision(qualifier) {
        Some(_) => Ok(qualifier.to_owned()),
        None => Err(absent(region, named)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::revision;
    use super::*;

    fn record() -> Record {
        let (name, versions, aliases) = ("echo".to_owned(), Vec::new(), BTreeMap::new());
        let mut record = Record { name, latest: revision(), versions, last_version: 0, aliases };
        assert_eq!(record.publish(None).unwrap(), "1");
        record.latest.handler = "app.other".to_owned();
        assert_eq!(record.publish(None).unwrap(), "2");
        record
    }

    fn alias(version: &str, other: Option<(&str, u16)>) -> Alias {
        let other = other.map(|(version, hundredths)| (version.to_owned(), hundredths));
        Alias { version: version.to_owned(), description: String::new(), other, id: "1".to_owned() }
    }

    fn named(qualifier: &str) -> Named {
        Named { name: "echo".to_owned(), qualifier: Some(qualifier.to_owned()) }
    }

    #[test]
    fn what_has_not_changed_is_not_published_again_and_numbers_are_not_given_twice() {
        let mut record = record();
        assert_eq!(record.publish(None).unwrap(), "2");
        record.versions.pop();
        record.latest.handler = "app.third".to_owned();
        assert_eq!(record.publish(None).unwrap(), "3");
    }

    #[test]
    fn weights_are_met_within_a_few_calls() {
        let mut record = record();
        record.aliases.insert("live".to_owned(), alias("1", Some(("2", 1000))));
        let to = |turn| resolve(&record, "r", &named("live"), turn).unwrap();
        let second = (0..1000).filter(|turn| to(*turn) == "2").count();
        assert!((95..=105).contains(&second), "{second}");
        assert_eq!(resolve(&record, "r", &named("2"), 0).unwrap(), "2");
        assert!(resolve(&record, "r", &named("3"), 0).is_err());
        assert!(resolve(&record, "r", &named("gone"), 0).is_err());
    }

    #[test]
    fn aliases_lead_to_what_is_there_and_weights_are_parts_of_one() {
        let record = record();
        let check = |json: &str| {
            let wanted: Wanted = read(json.as_bytes())?;
            wanted.put_into(&mut alias("1", None), &record)
        };
        assert!(
            check(r#"{"FunctionVersion":"2","RoutingConfig":{"AdditionalVersionWeights":{"1":0.25}}}"#)
                .is_ok()
        );
        for bad in [
            r#"{"FunctionVersion":"7"}"#,
            r#"{"RoutingConfig":{"AdditionalVersionWeights":{"7":0.5}}}"#,
            r#"{"RoutingConfig":{"AdditionalVersionWeights":{"2":1.5}}}"#,
            r#"{"RoutingConfig":{"AdditionalVersionWeights":{"2":-0.1}}}"#,
            r#"{"RoutingConfig":{"AdditionalVersionWeights":{"1":0.5}}}"#,
            r#"{"RoutingConfig":{"AdditionalVersionWeights":{"$LATEST":0.5}}}"#,
            r#"{"FunctionVersion":"$LATEST","RoutingConfig":{"AdditionalVersionWeights":{"2":0.5}}}"#,
            r#"{"RoutingConfig":{"AdditionalVersionWeights":{"1":0.1,"2":0.1}}}"#,
            r#"{"Unknown":1}"#,
            "nonsense",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!((hundredths(0.0), hundredths(0.1), hundredths(1.0)), (Ok(0), Ok(1000), Ok(10_000)));
        assert!(hundredths(f64::NAN).is_err());
    }
}
