//! What the Lambda API keeps in the store beside its deployments.

use super::{DeployFault, Deployer};
use crate::lambda::Record;
use crate::store::StoreError;

impl Deployer {
    /// Every function that was made through the Lambda API.
    pub(crate) fn lambdas(&self) -> Result<Vec<Record>, StoreError> {
        self.files.store.lambdas()
    }

    pub(crate) async fn keep_lambda(&self, record: Record) -> Result<(), DeployFault> {
        self.blocking(move |files| files.store.put_lambda(&record).map_err(DeployFault::Store)).await
    }

    pub(crate) async fn forget_lambda(&self, name: String) -> Result<(), DeployFault> {
        self.blocking(move |files| files.store.remove_lambda(&name).map_err(DeployFault::Store)).await
    }
}
