//! Whether what was uploaded for a deployment is what its manifest speaks of.

use std::collections::BTreeMap;

use baton_catalog::{Function, FunctionName, Manifest};
use baton_wasm::Kind;

use super::DeployFault;
use crate::artifacts::ArtifactHash;

/// Every native function has an artifact, and every artifact such a function.
pub(super) fn complete(
    manifest: &Manifest,
    artifacts: &BTreeMap<FunctionName, ArtifactHash>,
) -> Result<(), DeployFault> {
    let has_one = |function: &FunctionName| manifest.functions.get(function).is_some_and(Function::is_native);
    let missing = manifest.functions.keys().find(|name| has_one(name) && !artifacts.contains_key(*name));
    if let Some(function) = missing {
        return Err(DeployFault::NoArtifact { function: function.clone() });
    }
    let stray = artifacts.keys().find(|function| !has_one(function));
    stray.map_or(Ok(()), |function| Err(DeployFault::StrayArtifact { function: function.clone() }))
}

/// Every function with files or code has a bundle, and every bundle a function.
pub(super) fn complete_files(
    manifest: &Manifest,
    files: &BTreeMap<FunctionName, ArtifactHash>,
) -> Result<(), DeployFault> {
    let has_files = |function: &FunctionName| {
        manifest.functions.get(function).is_some_and(|spec| spec.bundled().is_some())
    };
    let missing = manifest.functions.keys().find(|name| has_files(name) && !files.contains_key(*name));
    if let Some(function) = missing {
        return Err(DeployFault::NoFiles { function: function.clone() });
    }
    let stray = files.keys().find(|function| !has_files(function));
    stray.map_or(Ok(()), |function| Err(DeployFault::StrayFiles { function: function.clone() }))
}

/// What a kind of Wasm function cannot have, of what the manifest says.
pub(super) fn misfit(kind: Kind, spec: &Function) -> Option<&'static str> {
    match kind {
        Kind::Module if spec.files.is_some() => Some(
            "a Wasm module cannot open files: remove `files` and build the data into the module, or make it a component",
        ),
        Kind::Component { .. } if spec.scale.concurrency > 1 => Some(
            "a component does one thing at a time: set `scale.concurrency` to 1, and `scale.min` to as many as there shall be",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn settings_of_one_kind_are_refused_for_the_other() {
        let with = |line: &str| {
            let text = format!(
                "[app]\nname = \"a\"\n[functions.f]\nartifact = \"f.wasm\"\nisolation = \"wasm\"\n{line}\n"
            );
            let manifest = Manifest::parse(&text, Path::new("baton.toml")).unwrap();
            manifest.functions.into_values().next().unwrap()
        };
        let component = Kind::Component { is_async: false };
        let files = with("files = \"site\"");
        assert!(
            misfit(Kind::Module, &files).unwrap().contains("`files`") && misfit(component, &files).is_none()
        );
        let several = with("reuse = true\nscale = { concurrency = 4 }");
        assert!(misfit(component, &several).unwrap().contains("`scale.concurrency`"));
        assert!(misfit(Kind::Module, &several).is_none());
    }
}
