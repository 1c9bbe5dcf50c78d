//! Whether what was uploaded for a deployment is what its manifest speaks of.

use std::collections::{BTreeMap, BTreeSet};

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
pub(super) fn misfit(kind: Kind, manifest: &Manifest, name: &FunctionName) -> Option<&'static str> {
    let spec = manifest.functions.get(name)?;
    match kind {
        Kind::Module if spec.files.is_some() => Some(
            "a Wasm module cannot open files: remove `files` and build the data into the module, or make it a component",
        ),
        Kind::Component { .. } if spec.scale.concurrency > 1 && comes_back(manifest, name) => Some(
            "a component does one thing at a time, and would wait for itself where a function that it calls calls it: set \
             `scale.concurrency` to 1, and `scale.max` to as many as may wait for one another",
        ),
        _ => None,
    }
}

/// Whether a call may lead back to the function that made it, by whatever way.
fn comes_back(manifest: &Manifest, name: &FunctionName) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![name];
    while let Some(function) = next.pop() {
        for callee in manifest.functions.get(function).into_iter().flat_map(|spec| &spec.calls) {
            if callee == name {
                return true;
            }
            if seen.insert(callee) {
                next.push(callee);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn settings_of_one_kind_are_refused_for_the_other() {
        let with = |lines: &str| {
            let text = format!(
                "[app]\nname = \"a\"\n[functions.f]\nartifact = \"f.wasm\"\nisolation = \"wasm\"\n{lines}\n"
            );
            Manifest::parse(&text, Path::new("baton.toml")).unwrap()
        };
        let misfit = |kind, lines: &str| misfit(kind, &with(lines), &"f".parse().unwrap());
        let component = Kind::Component { is_async: false };
        let files = "files = \"site\"";
        assert!(misfit(Kind::Module, files).unwrap().contains("`files`"));
        assert!(misfit(component, files).is_none());
        let several = "reuse = true\nscale = { concurrency = 4 }\n";
        assert!(misfit(component, several).is_none() && misfit(Kind::Module, several).is_none());
        // It calls who calls it.
        let around = |back: &str| {
            let other = "isolation = \"wasm\"\nartifact";
            format!(
                "{several}calls = [\"g\"]\n[functions.g]\n{other} = \"g.wasm\"\ncalls = [\"h\"]\n[functions.h]\n\
                 {other} = \"h.wasm\"\n{back}"
            )
        };
        assert!(misfit(component, &around("")).is_none());
        assert!(misfit(component, &around("calls = [\"g\"]")).is_none());
        let why = misfit(component, &around("calls = [\"f\"]")).unwrap();
        assert!(why.contains("`scale.concurrency`"), "{why}");
        assert!(misfit(Kind::Module, &around("calls = [\"f\"]")).is_none());
    }
}
