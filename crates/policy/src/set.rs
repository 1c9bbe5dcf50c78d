//! All policies of an app, made ready; and how one set takes the place of another without anything being forgotten that need not be.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use baton_catalog::policy::{AppPolicies, Handler, Kind};

use crate::chain::{Chain, Slot};
use crate::jwt::KeyFile;
use crate::report::HandlerReport;
use crate::span::SpanEnd;
use crate::ticket::Line;

/// What handlers need of whoever runs them.
pub trait Around {
    /// The time, nanoseconds of the clock of [`Now`](crate::Now).
    fn ns(&self) -> u64;
    /// Takes a line of the log handler.
    fn line(&self, line: &Line<'_>);
    /// A number that no other span has.
    fn id(&self) -> u64;
    /// Takes a span as it ends. It must not wait: it runs in the request's path.
    fn span(&self, span: &SpanEnd<'_>);
}

/// The set in whose place another comes.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// It.
    pub set: &'a Set,
    /// Whether it was of the same version of the app: only then go breakers, retries and counters on.
    pub is_own: bool,
}

/// Policies that cannot be made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Where they stand: `policy.handlers[1]`.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for CompileError {}

/// The policies of an app, made ready.
pub struct Set {
    policies: AppPolicies,
    /// Of the app's list, those that all functions share.
    shared: Vec<Rc<Slot>>,
    chains: BTreeMap<String, Rc<Chain>>,
    files: BTreeMap<PathBuf, Rc<KeyFile>>,
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("chains", &self.chains).finish_non_exhaustive()
    }
}

impl Set {
    /// Makes policies ready for some functions. Handlers that were in the set before with the same settings go on with what they
    /// know: a limit is not reset by a change of another handler.
    ///
    /// # Errors
    /// Something in them cannot be made ready.
    pub fn compile<'a>(
        policies: &AppPolicies,
        functions: impl Iterator<Item = &'a str>,
        before: Option<Before<'_>>,
        around: &Rc<dyn Around>,
    ) -> Result<Set, CompileError> {
        let mut set = Set {
            policies: policies.clone(),
            shared: Vec::new(),
            chains: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let known_files = before.map(|before| &before.set.files);
        let mut of_app = Vec::new();
        let mut old_shared = before.map_or_else(Vec::new, |before| before.set.shared.clone());
        for (place, handler) in policies.policy.handlers.iter().enumerate() {
            let slot = match is_of_function(handler) {
                true => None,
                false => {
                    let made = ready(handler, &mut old_shared, known_files, &mut set.files);
                    Some(
                        made.map_err(|why| CompileError { place: format!("policy.handlers[{place}]"), why })?,
                    )
                }
            };
            of_app.push((place, handler, slot));
        }
        set.shared = of_app.iter().filter_map(|(.., slot)| slot.clone()).collect();
        for function in functions {
            let (app, own) = policies.of(function);
            let old = before.and_then(|before| before.set.chains.get(function));
            let is_own = before.is_some_and(|before| before.is_own);
            let mut old: Vec<_> = old.map_or_else(Vec::new, |old| old.slots.clone());
            // What one version's function came to is nothing that another's has to answer for.
            old.retain(|slot| is_own || !is_of_function(&slot.settings));
            // Nor is what all functions share one function's own.
            let shared = before.map_or(&[][..], |before| before.set.shared.as_slice());
            old.retain(|slot| !shared.iter().any(|other| Rc::ptr_eq(other, slot)));
            let mut slots = Vec::with_capacity(app.len() + own.len());
            for (place, handler, slot) in of_app.iter().filter(|_| !app.is_empty()) {
                let slot = match slot {
                    Some(slot) => Ok(Rc::clone(slot)),
                    None => ready(handler, &mut old, known_files, &mut set.files),
                };
                slots.push(
                    slot.map_err(|why| CompileError { place: format!("policy.handlers[{place}]"), why })?,
                );
            }
            for (place, handler) in own.iter().enumerate() {
                let place = || format!("functions.{function}.policy.handlers[{place}]");
                let slot = ready(handler, &mut old, known_files, &mut set.files);
                slots.push(slot.map_err(|why| CompileError { place: place(), why })?);
            }
            if !slots.is_empty() {
                let chain = Chain::new(function, slots, around);
                set.chains.insert(function.to_owned(), Rc::new(chain));
            }
        }
        Ok(set)
    }

    /// What requests of a function pass; nothing for most.
    #[must_use]
    pub fn chain(&self, function: &str) -> Option<Rc<Chain>> {
        self.chains.get(function).cloned()
    }

    /// What it was made of.
    #[must_use]
    pub fn policies(&self) -> &AppPolicies {
        &self.policies
    }

    /// The files of keys, which whoever runs this reads and watches.
    pub fn key_files(&self) -> impl Iterator<Item = &Rc<KeyFile>> {
        self.files.values()
    }

    /// What the handlers of each function have done.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, Vec<HandlerReport>> {
        let is_shared = |slot: &Rc<Slot>| self.shared.iter().any(|other| Rc::ptr_eq(other, slot));
        let of = |chain: &Rc<Chain>| chain.slots.iter().map(|slot| slot.report(is_shared(slot))).collect();
        self.chains.iter().map(|(name, chain)| (name.clone(), of(chain))).collect()
    }
}

/// Whether each function has its own of a handler in the app's list: failures of one are none of another's.
fn is_of_function(handler: &Handler) -> bool {
    matches!(handler.kind(), Kind::Breaker | Kind::Retry | Kind::Metrics)
}

/// A handler at work: the one of before with the same settings, or a new one.
fn ready(
    handler: &Handler,
    old: &mut Vec<Rc<Slot>>,
    known: Option<&BTreeMap<PathBuf, Rc<KeyFile>>>,
    files: &mut BTreeMap<PathBuf, Rc<KeyFile>>,
) -> Result<Rc<Slot>, String> {
    if let Handler::Jwt(jwt) = handler {
        let file = || {
            let before = known.and_then(|known| known.get(&jwt.jwks)).cloned();
            before.unwrap_or_else(|| Rc::new(KeyFile::new(&jwt.jwks)))
        };
        files.entry(jwt.jwks.clone()).or_insert_with(file);
    }
    if let Some(place) = old.iter().position(|slot| slot.settings == *handler) {
        return Ok(old.swap_remove(place));
    }
    let file = || match handler {
        Handler::Jwt(jwt) => {
            files.get(&jwt.jwks).cloned().unwrap_or_else(|| Rc::new(KeyFile::new(&jwt.jwks)))
        }
        _ => Rc::new(KeyFile::new(&PathBuf::new())),
    };
    Slot::new(handler, file).map(Rc::new)
}
