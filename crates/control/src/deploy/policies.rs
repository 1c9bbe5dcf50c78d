//! Policies that are changed without a deployment.

use baton_catalog::policy::AppPolicies;
use baton_flow::PolicyError;

use super::Deployer;
use crate::store::StoreError;

/// Why policies were not set. Those of before hold.
#[derive(Debug)]
pub enum PolicyFault {
    /// The data plane does not take them.
    Refused(PolicyError),
    /// They cannot be stored.
    Store(StoreError),
    /// The node is going down.
    Gone,
}

impl Deployer {
    /// Tells the data plane of policies that were set in an earlier run. Before anything is restored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn restore_policies(&self) -> Result<(), StoreError> {
        for (app, policies) in self.files.store.policies()? {
            // A data plane that is gone is found by what comes next.
            let _ = self.plane.remember_policies(app, Some(policies)).await;
        }
        Ok(())
    }

    /// Sets policies of an app in the place of what its manifest declares, or takes them back. They are stored once they hold; if that
    /// fails, those of before hold again.
    ///
    /// # Errors
    /// [`PolicyFault`].
    pub async fn set_policies(&self, app: &str, policies: Option<AppPolicies>) -> Result<(), PolicyFault> {
        let _change = self.change.lock().await;
        let before = self.files.store.policies().map_err(PolicyFault::Store)?.remove(app);
        let set = self.plane.set_policies(app.to_owned(), policies.clone()).await;
        set.map_err(|_| PolicyFault::Gone)?.map_err(PolicyFault::Refused)?;
        if let Err(error) = self.files.store.put_policies(app, policies.as_ref()) {
            // They held a moment ago.
            let _ = self.plane.set_policies(app.to_owned(), before).await;
            return Err(PolicyFault::Store(error));
        }
        Ok(())
    }

    /// Forgets those of an app that is gone.
    pub(crate) fn forget_policies(&self, app: &str) {
        if let Err(error) = self.files.store.put_policies(app, None) {
            tracing::warn!(app, %error, "the policies of a removed app cannot be forgotten");
        }
    }
}
