//! Functions: made, changed, shown, removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::names::{self, LATEST, Named};
use super::record::{ARCHITECTURE, Record, Revision, TIMEOUT_S_MAX};
use super::{Api, Reply, now_ms, package, revision_id};
use crate::artifacts::{ArtifactHash, Artifacts};

/// Largest package, bytes, as it comes: AWS's bound for packages that come with the request.
const ZIP_BYTES_MAX: usize = 50 << 20;
/// Bounds of AWS.
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 128..=10_240;
const ENV_BYTES_MAX: usize = 4096;
const TEXT_BYTES_MAX: usize = 256;
/// Functions at most.
const FUNCTIONS_MAX: usize = 1024;
/// Rows of one page.
const PAGE_MAX: usize = 10_000;
/// Variables that the runtime sets, and nobody else.
const RESERVED: [&str; 15] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "BATON_SHIM",
];
/// What may stand in a request without being asked for: it changes nothing here, or is what is so anyway.
const IGNORED: [&str; 4] = ["Tags", "TracingConfig", "LoggingConfig", "EphemeralStorage"];

/// What a request may say of a function's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Settings {
    runtime: Option<String>,
    role: Option<String>,
    handler: Option<String>,
    description: Option<String>,
    timeout: Option<i64>,
    memory_size: Option<i64>,
    environment: Option<Environment>,
    package_type: Option<String>,
    architectures: Option<Vec<String>>,
    dry_run: Option<bool>,
    publish: Option<bool>,
    function_name: Option<String>,
    zip_file: Option<String>,
    code: Option<Code>,
    revision_id: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Environment {
    variables: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Code {
    zip_file: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Settings {
    fn read(body: &[u8]) -> Result<Self, Fault> {
        let settings: Self = serde_json::from_slice(body)
            .map_err(|error| Fault::content(format!("Could not parse request body into json: {error}")))?;
        let is_said = |value: &Value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => items.values().any(|value| !value.is_null()),
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        let code = settings.code.iter().flat_map(|code| &code.others);
        let own = settings.others.iter().filter(|(name, _)| !IGNORED.contains(&name.as_str()));
        if let Some((name, _)) = own.chain(code).find(|(_, value)| is_said(value)) {
            return Err(Fault::unsupported(name));
        }
        if settings.package_type.as_deref().is_some_and(|kind| kind != "Zip") {
            return Err(Fault::unsupported("a PackageType other than Zip"));
        }
        if let Some(other) = settings.architectures.iter().flatten().find(|name| *name != ARCHITECTURE) {
            return Err(Fault::invalid(format!("this node runs {ARCHITECTURE}, not {other}")));
        }
        Ok(settings)
    }

    /// Puts what is said in the place of what is so.
    fn put_into(&self, revision: &mut Revision) -> Result<(), Fault> {
        let number = |value: Option<i64>, bounds: &std::ops::RangeInclusive<u32>, what: &str| match value {
            None => Ok(None),
            Some(value) => match u32::try_from(value).ok().filter(|value| bounds.contains(value)) {
                Some(value) => Ok(Some(value)),
                None => Err(Fault::invalid(format!(
                    "{what} is {value}; it can be {} to {}",
                    bounds.start(),
                    bounds.end()
                ))),
            },
        };
        let text = |value: &Option<String>, what: &str| match value {
            Some(text) if text.len() > TEXT_BYTES_MAX => {
                Err(Fault::invalid(format!("{what} is longer than {TEXT_BYTES_MAX} bytes")))
            }
            other => Ok(other.clone()),
        };
        if let Some(seconds) = number(self.timeout, &(1..=TIMEOUT_S_MAX), "Timeout")? {
            revision.timeout_s = seconds;
        }
        if let Some(mib) = number(self.memory_size, &MEMORY_MIB, "MemorySize")? {
            revision.memory_mib = mib;
        }
        for (said, place, what) in [
            (&self.description, &mut revision.description, "Description"),
            (&self.handler, &mut revision.handler, "Handler"),
            (&self.role, &mut revision.role, "Role"),
            (&self.runtime, &mut revision.runtime, "Runtime"),
        ] {
            if let Some(text) = text(said, what)? {
                *place = text;
            }
        }
        if let Some(Environment { variables }) = &self.environment {
            check_environment(variables)?;
            revision.env.clone_from(variables);
        }
        Ok(())
    }
}

fn check_environment(variables: &BTreeMap<String, String>) -> Result<(), Fault> {
    if let Some(name) = variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
        return Err(Fault::invalid(format!("the environment variable {name} is reserved for the runtime")));
    }
    let is_fit = |name: &str| {
        name.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if let Some(name) = variables.keys().find(|name| !is_fit(name)) {
        return Err(Fault::invalid(format!("{name:?} is no name of an environment variable")));
    }
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ENV_BYTES_MAX || variables.values().any(|value| value.contains('\0')) {
        return Err(Fault::invalid(format!(
            "the environment has at most {ENV_BYTES_MAX} bytes together, and no NUL"
        )));
    }
    Ok(())
}

/// A package as it was sent: unpacked, checked, and among the artifacts.
struct Uploaded {
    bundle: ArtifactHash,
    code_sha256: String,
    code_bytes: u64,
}

impl Uploaded {
    async fn take(api: &Api, text: Option<String>) -> Result<Self, Fault> {
        let text =
            text.ok_or_else(|| Fault::unsupported("code that does not come with the request (ZipFile)"))?;
        let artifacts = Arc::clone(api.deployer.artifacts());
        // Unpacking and the disk both take their time.
        let work = tokio::task::spawn_blocking(move || Self::unpack(&artifacts, &text));
        work.await.map_err(|_| Fault::service("the package was not unpacked; see the node's output"))?
    }

    fn unpack(artifacts: &Arc<Artifacts>, text: &str) -> Result<Self, Fault> {
        if text.len() / 4 * 3 > ZIP_BYTES_MAX + 3 {
            return Err(Fault::too_large(format!("the package is larger than {} MiB", ZIP_BYTES_MAX >> 20)));
        }
        let zip = STANDARD
            .decode(text)
            .map_err(|error| Fault::invalid(format!("ZipFile is not base64: {error}")))?;
        let bundle = package::unzip(&zip)?;
        let hash = ArtifactHash::of(&bundle);
        if !artifacts.contains(&hash) {
            let mut incoming = artifacts.receive(hash)?;
            incoming.write(&bundle)?;
            incoming.finish()?;
        }
        let sha256 = ring::digest::digest(&ring::digest::SHA256, &zip);
        Ok(Self { bundle: hash, code_sha256: STANDARD.encode(sha256), code_bytes: zip.len() as u64 })
    }
}

/// `CreateFunction`.
pub(super) async fn create(api: &Api, region: &str, body: &[u8]) -> Result<Reply, Fault> {
    let mut settings = Settings::read(body)?;
    let Named { name, qualifier } =
        names::named(settings.function_name.as_deref().unwrap_or_default(), None)?;
    if qualifier.is_some() {
        return Err(Fault::invalid("FunctionName has a version or alias; a function is made without"));
    }
    for (said, what) in
        [(&settings.runtime, "Runtime"), (&settings.handler, "Handler"), (&settings.role, "Role")]
    {
        if said.as_ref().is_none_or(String::is_empty) {
            return Err(Fault::invalid(format!("{what} is required")));
        }
    }
    let _change = api.change.lock().await;
    let exists = || Fault::conflict(format!("Function already exist: {name}"));
    if api.record(&name).is_some() {
        return Err(exists());
    }
    if api.deployer.leading(&names::app_of(&name)).is_some() {
        return Err(Fault::conflict(format!(
            "an app {} is deployed that this API has not made; remove it: baton rm {0}",
            names::app_of(&name)
        )));
    }
    if api.records().len() >= FUNCTIONS_MAX {
        return Err(Fault::too_many(format!("there are {FUNCTIONS_MAX} functions, as many as may")));
    }
    let package = settings.code.take().and_then(|code| code.zip_file).or_else(|| settings.zip_file.take());
    let Uploaded { bundle, code_sha256, code_bytes } = Uploaded::take(api, package).await?;
    let (runtime, handler, role, description, env) = Default::default();
    let mut latest = Revision {
        bundle,
        code_sha256,
        code_bytes,
        runtime,
        handler,
        role,
        description,
        timeout_s: 3,
        memory_mib: 128,
        env,
        modified_ms: now_ms(),
        id: revision_id(),
    };
    settings.put_into(&mut latest)?;
    let (versions, aliases) = Default::default();
    let mut record = Record { name, latest, versions, last_version: 0, aliases };
    let version = if settings.publish == Some(true) { record.publish(None)? } else { LATEST.to_owned() };
    api.deploy(&record).await?;
    Ok(Reply::json(StatusCode::CREATED, shown(&record, region, &version)))
}

/// As a change of a version is answered.
pub(super) fn shown(record: &Record, region: &str, version: &str) -> Value {
    let qualifier = Some(version).filter(|version| *version != LATEST);
    record.configuration(region, version, qualifier).unwrap_or_default()
}

/// `UpdateFunctionCode`.
pub(super) async fn update_code(api: &Api, region: &str, named: &Named, body: &[u8]) -> Result<Reply, Fault> {
    let mut settings = Settings::read(body)?;
    only_latest(named)?;
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    check_revision(settings.revision_id.as_deref(), &record.latest.id)?;
    let Uploaded { bundle, code_sha256, code_bytes } = Uploaded::take(api, settings.zip_file.take()).await?;
    let (modified_ms, id) = (now_ms(), revision_id());
    record.latest = Revision { bundle, code_sha256, code_bytes, modified_ms, id, ..record.latest };
    if settings.dry_run == Some(true) {
        return Ok(Reply::json(StatusCode::OK, shown(&record, region, LATEST)));
    }
    let version = if settings.publish == Some(true) { record.publish(None)? } else { LATEST.to_owned() };
    api.deploy(&record).await?;
    Ok(Reply::json(StatusCode::OK, shown(&record, region, &version)))
}

/// `UpdateFunctionConfiguration`.
pub(super) async fn configure(api: &Api, region: &str, named: &Named, body: &[u8]) -> Result<Reply, Fault> {
    let settings = Settings::read(body)?;
    only_latest(named)?;
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    check_revision(settings.revision_id.as_deref(), &record.latest.id)?;
    settings.put_into(&mut record.latest)?;
    (record.latest.modified_ms, record.latest.id) = (now_ms(), revision_id());
    api.deploy(&record).await?;
    Ok(Reply::json(StatusCode::OK, shown(&record, region, LATEST)))
}

fn only_latest(named: &Named) -> Result<(), Fault> {
    match named.qualifier.as_deref() {
        None | Some(LATEST) => Ok(()),
        Some(other) => {
            Err(Fault::invalid(format!("version {other} never changes; change $LATEST, and publish it")))
        }
    }
}

/// A change that was made for another state is refused.
pub(super) fn check_revision(said: Option<&str>, now: &str) -> Result<(), Fault> {
    if said.is_some_and(|said| said != now) { Err(Fault::precondition()) } else { Ok(()) }
}

/// `GetFunction`.
pub(super) fn get(api: &Api, region: &str, named: &Named) -> Result<Reply, Fault> {
    let configuration = configuration(api, region, named)?;
    // The package itself is not kept, only what was in it.
    let code = json!({ "RepositoryType": "Baton", "Location": "" });
    Ok(Reply::json(StatusCode::OK, json!({ "Configuration": configuration, "Code": code, "Tags": {} })))
}

/// `GetFunctionConfiguration`.
pub(super) fn get_configuration(api: &Api, region: &str, named: &Named) -> Result<Reply, Fault> {
    Ok(Reply::json(StatusCode::OK, configuration(api, region, named)?))
}

fn configuration(api: &Api, region: &str, named: &Named) -> Result<Value, Fault> {
    let record = api.existing(&named.name)?;
    let qualifier = named.qualifier.as_deref();
    let version = match record.aliases.get(qualifier.unwrap_or_default()) {
        Some(alias) => alias.version.as_str(),
        None => qualifier.unwrap_or(LATEST),
    };
    let shown = record.configuration(region, version, qualifier);
    shown.ok_or_else(|| absent(region, named))
}

/// As AWS says it.
pub(super) fn absent(region: &str, named: &Named) -> Fault {
    let arn = names::arn(region, &named.name, named.qualifier.as_deref());
    Fault::not_found(format!("Function not found: {arn}"))
}

/// `ListFunctions`.
pub(super) fn list(api: &Api, region: &str, query: &super::Query) -> Result<Reply, Fault> {
    let mut all = Vec::new();
    let with_versions = query.get("FunctionVersion") == Some("ALL");
    for record in api.records() {
        let versions = record.revisions().map(|(version, _)| version);
        for version in versions.take(if with_versions { usize::MAX } else { 1 }) {
            all.extend(record.configuration(
                region,
                &version,
                Some(&version).filter(|_| with_versions).map(String::as_str),
            ));
        }
    }
    page("Functions", all, query)
}

/// Rows of a list, from where the last page ended.
pub(super) fn page(what: &str, all: Vec<Value>, query: &super::Query) -> Result<Reply, Fault> {
    let number = |name: &str, usual: usize| match query.get(name) {
        None => Ok(usual),
        Some(text) => text.parse().map_err(|_| Fault::invalid(format!("{name} is no number"))),
    };
    let (from, most) = (number("Marker", 0)?, number("MaxItems", PAGE_MAX)?.clamp(1, PAGE_MAX));
    let end = from.saturating_add(most);
    let next = (end < all.len()).then(|| end.to_string());
    let rows: Vec<Value> = all.into_iter().skip(from).take(most).collect();
    let mut body = json!({ what: rows });
    if let Some(next) = next {
        body["NextMarker"] = next.into();
    }
    Ok(Reply::json(StatusCode::OK, body))
}

/// `DeleteFunction`.
pub(super) async fn delete(api: &Api, region: &str, named: &Named) -> Result<Reply, Fault> {
    let _change = api.change.lock().await;
    let mut record = api.existing(&named.name)?;
    let Some(version) = &named.qualifier else {
        api.remove(&record).await?;
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    };
    if version == LATEST {
        return Err(Fault::invalid("$LATEST version cannot be deleted without deleting the function."));
    }
    let uses = |(_, alias): &(&String, &super::record::Alias)| {
        alias.version == *version || alias.other.as_ref().is_some_and(|(other, _)| other == version)
    };
    if let Some((alias, _)) = record.aliases.iter().find(uses) {
        return Err(Fault::conflict(format!("alias {alias} leads to version {version}")));
    }
    let before = record.versions.len();
    record.versions.retain(|published| published.number.to_string() != *version);
    if record.versions.len() == before {
        return Err(absent(region, named));
    }
    api.deploy(&record).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}
