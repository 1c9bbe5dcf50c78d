//! Whether what was uploaded for a deployment is what its manifest speaks of.

use std::collections::BTreeMap;

use baton_catalog::{FunctionName, Manifest};

use super::DeployFault;
use crate::artifacts::ArtifactHash;

/// Every function has an artifact, and every artifact a function.
pub(super) fn complete(
    manifest: &Manifest,
    artifacts: &BTreeMap<FunctionName, ArtifactHash>,
) -> Result<(), DeployFault> {
    let missing = manifest.functions.keys().find(|function| !artifacts.contains_key(*function));
    if let Some(function) = missing {
        return Err(DeployFault::NoArtifact { function: function.clone() });
    }
    let stray = artifacts.keys().find(|function| !manifest.functions.contains_key(*function));
    stray.map_or(Ok(()), |function| Err(DeployFault::StrayArtifact { function: function.clone() }))
}

/// Every function with files has a bundle, and every bundle a function.
pub(super) fn complete_files(
    manifest: &Manifest,
    files: &BTreeMap<FunctionName, ArtifactHash>,
) -> Result<(), DeployFault> {
    let has_files =
        |function: &FunctionName| manifest.functions.get(function).is_some_and(|spec| spec.files.is_some());
    let missing = manifest.functions.keys().find(|name| has_files(name) && !files.contains_key(*name));
    if let Some(function) = missing {
        return Err(DeployFault::NoFiles { function: function.clone() });
    }
    let stray = files.keys().find(|function| !has_files(function));
    stray.map_or(Ok(()), |function| Err(DeployFault::StrayFiles { function: function.clone() }))
}
