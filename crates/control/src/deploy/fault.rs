//! Why an app is not deployed.

use std::fmt;

use baton_catalog::{ByteSize, FunctionName};
use baton_cell::bundle::BundleError;
use baton_flow::{DeployError, PlaneGone};

use super::rollout::RolloutError;
use crate::artifacts::{ArtifactError, VetError};
use crate::cluster::ClusterError;
use crate::modules::ModuleError;
use crate::secrets::SecretError;
use crate::store::StoreError;

/// Why an app was not deployed or removed.
#[derive(Debug)]
pub enum DeployFault {
    /// No artifact is given for a function.
    NoArtifact {
        /// The function.
        function: FunctionName,
    },
    /// An artifact is given for a function that the manifest does not know.
    StrayArtifact {
        /// The function.
        function: FunctionName,
    },
    /// No bundle is given for a function that has files.
    NoFiles {
        /// The function.
        function: FunctionName,
    },
    /// A bundle is given for a function that has no files, or that the manifest does not know.
    StrayFiles {
        /// The function.
        function: FunctionName,
    },
    /// What was given as a bundle is none.
    Files {
        /// The function.
        function: FunctionName,
        /// What is wrong with it.
        source: BundleError,
    },
    /// An artifact is not there or not as it should be.
    Artifact {
        /// The function.
        function: FunctionName,
        /// What is wrong with it.
        source: ArtifactError,
    },
    /// An artifact is for a compartment and holds what no compartment may run.
    Unfit {
        /// The function.
        function: FunctionName,
        /// What it holds.
        source: VetError,
    },
    /// An artifact is for Wasm and cannot be run as a module.
    Module {
        /// The function.
        function: FunctionName,
        /// Why.
        source: ModuleError,
    },
    /// A module that no deployment names yet cannot be compiled.
    Compile(ModuleError),
    /// A module begins with more memory than its function may have.
    ModuleMemory {
        /// The function.
        function: FunctionName,
        /// What it begins with.
        needed: ByteSize,
        /// What it may have.
        memory: ByteSize,
    },
    /// A setting is for another kind of Wasm function.
    ModuleSetting {
        /// The function.
        function: FunctionName,
        /// What cannot be, and what to do.
        why: &'static str,
    },
    /// A secret that a function is granted cannot be given to it.
    Secret {
        /// The function.
        function: FunctionName,
        /// Why.
        source: SecretError,
    },
    /// A secret of the cluster's cannot be used here.
    Shared(SecretError),
    /// The data plane did not start it.
    Refused(DeployError),
    /// The data plane has ended.
    Gone(PlaneGone),
    /// It could not be stored; the version before runs again.
    Store(StoreError),
    /// The directory of artifacts cannot be used.
    Artifacts(ArtifactError),
    /// The row in the store cannot be read.
    Unreadable(serde_json::Error),
    /// The cluster's store does not do it.
    Cluster(ClusterError),
    /// There is no such thing to do with the app's versions.
    Rollout(RolloutError),
    /// No such app is deployed.
    NoApp {
        /// Its name.
        app: String,
    },
    /// The node is going down.
    Ending,
}

impl fmt::Display for DeployFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArtifact { function } => write!(f, "function {function} has no artifact"),
            Self::StrayArtifact { function } => {
                write!(f, "there is an artifact for {function}, which the manifest does not declare")
            }
            Self::NoFiles { function } => write!(f, "function {function} has files, and no bundle of them"),
            Self::StrayFiles { function } => {
                write!(f, "there is a bundle of files for {function}, for which the manifest declares none")
            }
            Self::Files { function, source } => write!(f, "the files of function {function}: {source}"),
            Self::Artifact { function, source } => write!(f, "function {function}: {source}"),
            Self::Unfit { function, source } => write!(f, "function {function}: {source}"),
            Self::Module { function, source } => write!(f, "function {function}: {source}"),
            Self::Compile(source) => write!(f, "{source}"),
            Self::ModuleMemory { function, needed, memory } => write!(
                f,
                "function {function}: its module begins with {needed} of memory, and `memory` is {memory}: raise it"
            ),
            Self::ModuleSetting { function, why } => write!(f, "function {function}: {why}"),
            Self::Secret { function, source } => write!(f, "function {function}: {source}"),
            Self::Shared(source) => write!(f, "{source}"),
            Self::Refused(source) => write!(f, "{source}"),
            Self::Gone(source) => write!(f, "{source}"),
            Self::Store(source) => write!(f, "{source}"),
            Self::Artifacts(source) => write!(f, "{source}"),
            Self::Unreadable(source) => write!(f, "the stored deployment cannot be read: {source}"),
            Self::Cluster(source) => write!(f, "{source}"),
            Self::Rollout(source) => write!(f, "{source}"),
            Self::NoApp { app } => write!(f, "no app {app} is deployed"),
            Self::Ending => f.write_str("the node is shutting down"),
        }
    }
}

impl std::error::Error for DeployFault {}

impl From<ClusterError> for DeployFault {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}
