//! Events that come by HTTP: who gets them.

use std::rc::Rc;

use baton_abi::head::{Field, records};
use baton_catalog::{FunctionName, Subscription};

use super::{Flow, Target};
use crate::app::App;
use crate::error::InvokeError;
use crate::invoke::{Head, Upload};
use crate::watch::Wish;

/// Says of a call by the admin API that the policies of its function had it pass when it was taken. The gateway lets nobody say so.
pub const ADMITTED_HEADER: &str = "x-baton-admitted";

/// Those of one version of an app who get events at one path.
pub struct Listeners {
    app: Rc<App>,
    subscriptions: Rc<[Subscription]>,
}

impl Listeners {
    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app.name
    }

    /// Whether events are put into queues there: all are, or none.
    #[must_use]
    pub fn are_durable(&self) -> bool {
        self.subscriptions.iter().any(|one| one.durable)
    }

    /// Those who get an event of this type from this source, in the order of the manifest, each function once.
    #[must_use]
    pub fn of(&self, kind: &str, source: &str) -> Vec<&FunctionName> {
        let mut functions = Vec::new();
        for one in self.subscriptions.iter().filter(|one| one.takes(kind, source)) {
            if !functions.contains(&&one.function) {
                functions.push(&one.function);
            }
        }
        functions
    }

    /// One of them, to be called in this version.
    #[must_use]
    pub fn target(&self, function: &FunctionName) -> Option<Target> {
        let function = self.app.functions.iter().position(|state| state.name == *function)?;
        Some(Target { app: Rc::clone(&self.app), function, other: None, listens: None })
    }
}

impl Flow {
    /// Whether events may come there.
    #[must_use]
    pub fn takes_events(&self, target: &Target) -> bool {
        target.listens.is_some() || target.other.as_ref().is_some_and(|other| other.listens.is_some())
    }

    /// Who gets the events of a request; `None` where the version that takes it has a plain route there.
    #[must_use]
    pub fn listeners(&self, target: &Target, head: &Head) -> Option<Listeners> {
        let (app, listens) = match &target.other {
            Some(other) if other.split.takes(head) => (&other.split.app, &other.listens),
            _ => (&target.app, &target.listens),
        };
        let subscriptions = Rc::clone(listens.as_ref()?);
        Some(Listeners { app: Rc::clone(app), subscriptions })
    }

    /// Whether the policies of a function let a request pass, by its head; nothing is called. Gives the headers that the function
    /// would see.
    ///
    /// # Errors
    /// [`InvokeError`], as for a request that is.
    pub fn admit(&self, target: &Target, head: &Head) -> Result<Vec<(String, Vec<u8>)>, InvokeError> {
        let upload = self.begin(target, head, Some(0), Wish::default())?;
        let bytes = upload.landing.head();
        let headers = records(&bytes).flatten().filter(|record| record.field == Field::Header);
        Ok(headers.map(|record| (record.name.to_owned(), record.value.to_vec())).collect())
    }

    /// As [`Flow::begin`], past policies that it has passed before.
    pub(super) fn begin_admitted(
        &self,
        target: &Target,
        head: &Head,
        body_len: Option<u64>,
        wish: Wish,
    ) -> Result<Upload, InvokeError> {
        if self.inner.node.draining.get() {
            return Err(InvokeError::Draining);
        }
        let mut upload = Upload::plain(&target.app, target.function, head, body_len)?;
        upload.wish = wish;
        Ok(upload)
    }
}
