//! What is kept of a function that was made through the Lambda API, and how clients see it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use baton_catalog::{FunctionName, Manifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::Fault;
use super::names::{self, LATEST};
use crate::artifacts::ArtifactHash;
use crate::deploy::Submission;

/// What its node gives a call beyond the function's own time-out: its replica may have to be started first, and the runtime's
/// own word of what happened is better than the node's.
const SLACK_S: u32 = 10;
/// The longest time-out of a function, seconds: AWS's, and the manifest's.
pub(super) const TIMEOUT_S_MAX: u32 = 900;
/// Replicas of one version at most.
const REPLICAS_MAX: u32 = 16;
/// Calls of one version that may wait.
const QUEUE: u32 = 1024;

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its name.
    pub(crate) name: String,
    /// What is called without a version.
    pub(super) latest: Revision,
    /// Published versions, oldest first.
    #[serde(default)]
    pub(super) versions: Vec<Published>,
    /// The number that was published last; numbers are not given twice.
    #[serde(default)]
    pub(super) last_version: u64,
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, Alias>,
}

/// A version that was published, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    pub(super) number: u64,
    pub(super) revision: Revision,
}

/// Code and settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revision {
    /// The bundle of its files.
    pub(super) bundle: ArtifactHash,
    /// The hash of the package as it came, as AWS writes it.
    pub(super) code_sha256: String,
    pub(super) code_bytes: u64,
    pub(super) runtime: String,
    pub(super) handler: String,
    pub(super) role: String,
    pub(super) description: String,
    pub(super) timeout_s: u32,
    pub(super) memory_mib: u32,
    pub(super) env: BTreeMap<String, String>,
    /// When it became so, in milliseconds since 1970.
    pub(super) modified_ms: u64,
    /// Another one after each change.
    pub(super) id: String,
}

impl Revision {
    /// Whether both run the same.
    pub(super) fn runs_as(&self, other: &Self) -> bool {
        let same = |one: &Self| Self {
            id: String::new(),
            modified_ms: 0,
            description: String::new(),
            ..one.clone()
        };
        same(self) == same(other)
    }
}

/// A name for a version, or for two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) version: String,
    pub(super) description: String,
    /// The other version, and its part of the calls in hundredths of a percent.
    #[serde(default)]
    pub(super) other: Option<(String, u16)>,
    pub(super) id: String,
}

impl Record {
    /// A version by its name.
    pub(super) fn revision(&self, version: &str) -> Option<&Revision> {
        if version == LATEST {
            return Some(&self.latest);
        }
        let number: u64 = version.parse().ok()?;
        self.versions.iter().find(|published| published.number == number).map(|published| &published.revision)
    }

    /// Every version that can be called, with its name.
    pub(super) fn revisions(&self) -> impl Iterator<Item = (String, &Revision)> {
        let published =
            self.versions.iter().map(|published| (published.number.to_string(), &published.revision));
        std::iter::once((LATEST.to_owned(), &self.latest)).chain(published)
    }

    /// As an app that runs it: a function for each version.
    pub(super) fn submission(&self) -> Result<Submission, Fault> {
        let text = self.manifest();
        let manifest = Manifest::parse(&text, Path::new("baton.toml"))
            .map_err(|error| Fault::invalid(format!("the function's settings make no app: {error}")))?;
        let mut files = BTreeMap::new();
        for (version, revision) in self.revisions() {
            let function = FunctionName::new(&names::function_of(&version))
                .map_err(|fault| Fault::service(fault.to_string()))?;
            files.insert(function, revision.bundle);
        }
        let mut submission = Submission::new(manifest, BTreeMap::new(), files);
        "the Lambda API".clone_into(&mut submission.by);
        Ok(submission)
    }

    fn manifest(&self) -> String {
        let mut text = format!("[app]\nname = {}\n", quoted(&names::app_of(&self.name)));
        for (version, revision) in self.revisions() {
            let function = names::function_of(&version);
            let timeout_s = (revision.timeout_s + SLACK_S).min(TIMEOUT_S_MAX);
            let mut env = revision.env.clone();
            env.insert("AWS_LAMBDA_FUNCTION_NAME".to_owned(), self.name.clone());
            env.insert("AWS_LAMBDA_FUNCTION_VERSION".to_owned(), version.clone());
            // Writing to a text cannot fail.
            let _ = write!(
                text,
                "\n[functions.{function}]\nruntime = \"lambda\"\nfiles = {}\nhandler = {}\ntimeout = \"{timeout_s}s\"\n\
                 memory = \"{}MiB\"\nlambda = {{ runtime = {} }}\n\
                 stream = true\ntimeouts = {{ idle = \"{timeout_s}s\" }}\n\
                 scale = {{ min = 0, max = {REPLICAS_MAX}, concurrency = 1, idle = \"300s\", queue = {QUEUE} }}\n\
                 events = {{ attempts = 3, pause = \"1s\", age = \"6h\" }}\n",
                quoted(&function),
                quoted(&revision.handler),
                revision.memory_mib,
                quoted(&revision.runtime),
            );
            let _ = writeln!(text, "[functions.{function}.env]");
            for (name, value) in &env {
                let _ = writeln!(text, "{} = {}", quoted(name), quoted(value));
            }
        }
        text
    }

    /// `FunctionConfiguration`.
    pub(super) fn configuration(
        &self,
        region: &str,
        version: &str,
        qualifier: Option<&str>,
    ) -> Option<Value> {
        let revision = self.revision(version)?;
        let variables = (!revision.env.is_empty()).then(|| json!({ "Variables": revision.env }));
        let mut shown = json!({
            "FunctionName": self.name,
            "FunctionArn": names::arn(region, &self.name, qualifier),
            "Runtime": revision.runtime,
            "Role": revision.role,
            "Handler": revision.handler,
            "CodeSize": revision.code_bytes,
            "Description": revision.description,
            "Timeout": revision.timeout_s,
            "MemorySize": revision.memory_mib,
            "LastModified": time(revision.modified_ms),
            "CodeSha256": revision.code_sha256,
            "Version": version,
            "TracingConfig": { "Mode": "PassThrough" },
            "RevisionId": revision.id,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "PackageType": "Zip",
            "Architectures": [ARCHITECTURE],
            "EphemeralStorage": { "Size": 512 },
        });
        if let Some(variables) = variables {
            shown["Environment"] = variables;
        }
        Some(shown)
    }

    /// `AliasConfiguration`.
    pub(super) fn shown_alias(&self, region: &str, name: &str) -> Option<Value> {
        let alias = self.aliases.get(name)?;
        let mut shown = json!({
            "AliasArn": names::arn(region, &self.name, Some(name)),
            "Name": name,
            "FunctionVersion": alias.version,
            "Description": alias.description,
            "RevisionId": alias.id,
        });
        if let Some((version, hundredths)) = &alias.other {
            let weight = f64::from(*hundredths) / 10_000.0;
            shown["RoutingConfig"] = json!({ "AdditionalVersionWeights": { version: weight } });
        }
        Some(shown)
    }
}

/// What this machine runs, as AWS names it.
pub(super) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// A text of TOML. JSON's are, but for one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// `2026-01-02T03:04:05.678+0000`.
fn time(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn revision() -> Revision {
        Revision {
            bundle: ArtifactHash::of(b"files"),
            code_sha256: "hash".to_owned(),
            code_bytes: 5,
            runtime: "python3.11".to_owned(),
            handler: "app.main".to_owned(),
            role: "arn:aws:iam::000000000000:role/r".to_owned(),
            description: String::new(),
            timeout_s: 3,
            memory_mib: 128,
            env: BTreeMap::from([("GREETING".to_owned(), "\"hi\"\n\\ \u{7f} ünïcode".to_owned())]),
            modified_ms: 1_795_752_000_123,
            id: "1".to_owned(),
        }
    }

    fn record() -> Record {
        let versions = vec![Published { number: 1, revision: revision() }];
        let (name, aliases) = ("Echo_1".to_owned(), BTreeMap::new());
        Record { name, latest: revision(), versions, last_version: 1, aliases }
    }

    #[test]
    fn a_function_is_an_app_with_a_function_for_each_version() {
        let submission = record().submission().unwrap();
        let manifest = &submission.manifest;
        assert_eq!(manifest.functions.keys().map(FunctionName::as_str).collect::<Vec<_>>(), ["latest", "v1"]);
        let first = manifest.function("v1").unwrap();
        assert_eq!((first.scale.min, first.timeout.millis()), (0, 13_000));
        assert_eq!(first.env["GREETING"], revision().env["GREETING"]);
        assert_eq!(first.env["AWS_LAMBDA_FUNCTION_VERSION"], "1");
        assert_eq!(manifest.function("latest").unwrap().env["AWS_LAMBDA_FUNCTION_NAME"], "Echo_1");
        assert_eq!(submission.files.len(), 2);
    }

    #[test]
    fn clients_see_times_and_versions_as_aws_writes_them() {
        let shown = record().configuration("eu-west-1", "1", Some("1")).unwrap();
        assert_eq!(shown["LastModified"], "2026-11-27T04:00:00.123+0000");
        assert_eq!(shown["FunctionArn"], "arn:aws:lambda:eu-west-1:000000000000:function:Echo_1:1");
        assert!(record().configuration("eu-west-1", "2", None).is_none());
    }

    #[test]
    fn a_description_makes_no_other_code() {
        let other = Revision { description: "new".to_owned(), id: "2".to_owned(), ..revision() };
        assert!(other.runs_as(&revision()));
        assert!(!Revision { timeout_s: 4, ..revision() }.runs_as(&revision()));
    }
}
