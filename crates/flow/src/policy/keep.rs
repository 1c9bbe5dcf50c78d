//! The policies of apps that run: what is declared, what was set in its place, and the files of keys.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use baton_catalog::Manifest;
use baton_catalog::policy::AppPolicies;
use baton_policy::{Around, Before, CompileError, HandlerReport, KeyFile, Set};
use serde::Serialize;

use super::AppAround;
use crate::app::App;
use crate::error::DeployError;
use crate::flow::Flow;
use crate::node::Node;

/// How often files of keys are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most bytes that are read of one.
const FILE_BYTES_MAX: u64 = (1 << 20) + 1;

/// The policies of an app, and what they have done.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    /// The app.
    pub app: String,
    /// Whether they were set in the place of what the manifest declares.
    pub is_set: bool,
    /// What holds.
    pub policies: AppPolicies,
    /// The handlers of each function, in the order in which requests pass them.
    pub functions: BTreeMap<String, Vec<HandlerReport>>,
}

/// Why policies were not set. Those of before hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// No such app runs.
    Unknown,
    /// They are not as they may be, and where.
    Bad(String),
}

impl Flow {
    /// Gives a version its policies, before it takes requests.
    pub(crate) async fn equip(&self, app: &Rc<App>, manifest: &Manifest) -> Result<(), DeployError> {
        let mut policies = manifest.policies();
        if let Some(set) = self.inner.set_policies.borrow().get(&app.name) {
            match manifest.with_policies(set) {
                Ok(_) => policies = set.clone(),
                Err(why) => self.inner.node.say(
                    &app.name,
                    "warn",
                    &format!("the policies that were set do not fit this version ({why}); its own hold"),
                ),
            }
        }
        if policies.is_empty() {
            install(app, None);
            return Ok(());
        }
        let before = self.app(&app.name).and_then(|old| old.policies.borrow().clone());
        let before = before.as_deref().map(|set| Before { set, is_own: false });
        let set = compile(app, &policies, before).map_err(DeployError::Policy)?;
        read_all(&set, &app.node, &app.name).await;
        install(app, Some(set));
        Ok(())
    }

    /// Sets policies in the place of what the manifest declares, or takes them back (`None`). Requests under way keep those that they
    /// began with. Of an app that does not run yet they are remembered.
    ///
    /// # Errors
    /// They are not as they may be; those of before hold.
    pub async fn set_policies(&self, app: &str, policies: Option<AppPolicies>) -> Result<(), PolicyError> {
        let versions = self.versions_of(app);
        let (_, lead) = versions.first().ok_or(PolicyError::Unknown)?;
        if let Some(policies) = &policies {
            lead.with_policies(policies).map_err(PolicyError::Bad)?;
        }
        let mut made: Vec<(Rc<App>, Option<Rc<Set>>)> = Vec::new();
        for (version, manifest) in &versions {
            let fitting = policies.as_ref().filter(|policies| manifest.with_policies(policies).is_ok());
            let holds = fitting.cloned().unwrap_or_else(|| manifest.policies());
            // Versions beside each other share their limits.
            let (before, is_own) = match made.first() {
                None => (version.policies.borrow().clone(), true),
                Some((_, lead)) => (lead.clone(), false),
            };
            let set = match holds.is_empty() {
                true => None,
                false => {
                    let set = compile(version, &holds, before.as_deref().map(|set| Before { set, is_own }));
                    Some(set.map_err(|error| PolicyError::Bad(error.to_string()))?)
                }
            };
            if let Some(set) = &set {
                read_all(set, &version.node, app).await;
            }
            made.push((Rc::clone(version), set));
        }
        self.remember_policies(app, policies);
        for (version, set) in &made {
            install(version, set.clone());
        }
        // One that came meanwhile took what was set before, and takes this too.
        for (version, manifest) in self.versions_of(app) {
            if !made.iter().any(|(known, _)| Rc::ptr_eq(known, &version)) {
                let equipped = self.equip(&version, &manifest).await;
                equipped.map_err(|error| PolicyError::Bad(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Remembers policies of an app that does not run yet.
    pub fn remember_policies(&self, app: &str, policies: Option<AppPolicies>) {
        let mut set = self.inner.set_policies.borrow_mut();
        match policies {
            Some(policies) => drop(set.insert(app.to_owned(), policies)),
            None => drop(set.remove(app)),
        }
    }

    /// The policies of an app; `None` if it does not run.
    #[must_use]
    pub fn policies(&self, app: &str) -> Option<PolicyStatus> {
        let running = self.app(app)?;
        let set = running.policies.borrow().clone();
        Some(PolicyStatus {
            app: app.to_owned(),
            is_set: self.inner.set_policies.borrow().contains_key(app),
            policies: set.as_ref().map(|set| set.policies().clone()).unwrap_or_default(),
            functions: set.map(|set| set.report()).unwrap_or_default(),
        })
    }
}

fn compile(
    app: &Rc<App>,
    policies: &AppPolicies,
    before: Option<Before<'_>>,
) -> Result<Rc<Set>, CompileError> {
    let around: Rc<dyn Around> = Rc::new(AppAround { node: Rc::clone(&app.node), app: app.name.clone() });
    let functions = app.functions.iter().map(|state| state.name.as_str());
    Set::compile(policies, functions, before, &around).map(Rc::new)
}

/// In one step: nothing of this thread runs in between.
fn install(app: &App, set: Option<Rc<Set>>) {
    for state in &app.functions {
        *state.chain.borrow_mut() = set.as_ref().and_then(|set| set.chain(state.name.as_str()));
    }
    if let Some(set) = &set
        && set.key_files().next().is_some()
    {
        let watched = (Rc::downgrade(set), Rc::clone(&app.node), app.name.clone());
        tokio::task::spawn_local(watch(watched.0, watched.1, watched.2));
    }
    *app.policies.borrow_mut() = set;
}

/// Looks at the files of keys for as long as their policies hold.
async fn watch(set: Weak<Set>, node: Rc<Node>, app: String) {
    let mut seen = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(set) = set.upgrade() else { return };
        for file in set.key_files() {
            let before = seen.get(file.path()).copied();
            let stamp = look(file, before, &node, &app).await;
            seen.insert(file.path().to_owned(), stamp);
        }
    }
}

async fn read_all(set: &Set, node: &Node, app: &str) {
    for file in set.key_files().filter(|file| file.count() == 0) {
        look(file, None, node, app).await;
    }
}

/// What tells one content of a file from another.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Reads a file if it is another than before. Off this thread: a disk may take its time.
async fn look(file: &Rc<KeyFile>, before: Option<Stamp>, node: &Node, app: &str) -> Stamp {
    let path = file.path().to_owned();
    let read = tokio::task::spawn_blocking(move || read_if_new(&path, before)).await;
    let (stamp, read) = match read {
        Ok(read) => read,
        Err(_) => return before.flatten(),
    };
    let fault_before = file.fault();
    match read {
        None => return stamp,
        Some(Ok(bytes)) => {
            if let Ok(count) = file.load(&bytes) {
                tracing::info!(app, file = %file.path().display(), count, "keys of tokens were read");
            }
        }
        Some(Err(why)) => file.is_unreadable(&why),
    }
    if let Some(fault) = file.fault().filter(|fault| fault_before.as_ref() != Some(fault)) {
        let kept = match file.count() {
            0 => "no token is good until it is there".to_owned(),
            count => format!("the {count} keys of before stay"),
        };
        node.say(app, "warn", &format!("keys of tokens, {}: {fault}; {kept}", file.path().display()));
    }
    stamp
}

type Found = (Stamp, Option<Result<Vec<u8>, String>>);

fn read_if_new(path: &Path, before: Option<Stamp>) -> Found {
    use std::os::unix::fs::MetadataExt;
    let read = || -> std::io::Result<(Stamp, Option<Vec<u8>>)> {
        // Before it is opened: a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let file = std::fs::File::open(path)?;
        let about = file.metadata()?;
        let stamp = Some((about.modified()?, about.len(), about.ino()));
        if before == Some(stamp) {
            return Ok((stamp, None));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok((stamp, Some(bytes)))
    };
    match read() {
        Ok((stamp, bytes)) => (stamp, bytes.map(Ok)),
        // Said once: it is the same fault as before.
        Err(_) if before == Some(None) => (None, None),
        Err(error) => (None, Some(Err(format!("it cannot be read: {error}")))),
    }
}
