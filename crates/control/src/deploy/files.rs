//! What lies on this node's disk, and what an app is made of there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use baton_catalog::{ByteSize, Fallback, Function, FunctionName, Isolation, Manifest};
use baton_cell::bundle::Bundle;
use baton_flow::{AppSpec, BundledFiles};

use super::complete::misfit;
use super::{DeployFault, Placed};
use crate::artifacts::{ArtifactHash, Artifacts, vet};
use crate::bundles::Trees;
use crate::modules::{Executable, Host, Modules};
use crate::store::{Deployment, Store};

/// The store, the artifacts and what is made of them.
#[derive(Debug)]
pub(crate) struct Files {
    pub(super) store: Store,
    pub(super) artifacts: Arc<Artifacts>,
    pub(super) trees: Trees,
    pub(super) modules: Arc<Modules>,
}

impl Files {
    /// A deployment with its artifacts checked, and those for compartments vetted. Whether this machine has what
    /// compartments need does not matter: the same app is fit everywhere or nowhere.
    pub(super) fn spec(&self, placed: Placed) -> Result<AppSpec, DeployFault> {
        let Placed { deployment, here } = placed;
        let files = self.files(&deployment)?;
        self.compile_missing(&deployment);
        let (mut artifacts, mut hosts, mut patches) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (function, hash) in deployment.artifacts {
            let unusable = |source| DeployFault::Artifact { function: function.clone(), source };
            let path = self.artifacts.verified(&hash).map_err(unusable)?;
            let spec = deployment.manifest.functions.get(&function);
            let (path, vetted) = match (spec, spec.map(|spec| spec.isolation)) {
                (_, Some(Isolation::Compartment)) => {
                    let vetted = vet(&self.artifacts.read(&hash).map_err(unusable)?);
                    (path, Some(vetted.map(|vetted| vetted.patches)))
                }
                (Some(spec), Some(Isolation::Wasm)) => {
                    let (host, executable) =
                        self.module(&deployment.manifest, (&function, spec), &hash, &path)?;
                    let patches = host.patches_with(&executable.bytes);
                    hosts.insert(function.clone(), host);
                    (executable.path, Some(patches))
                }
                _ => (path, None),
            };
            if let Some(vetted) = vetted {
                let vetted =
                    vetted.map_err(|source| DeployFault::Unfit { function: function.clone(), source })?;
                patches.insert(function.clone(), vetted);
            }
            artifacts.insert(function, path);
        }
        let Deployment { manifest, version, .. } = deployment;
        self.keep_hosts(&hosts)?;
        let hosts = hosts.into_iter().map(|(function, host)| (function, host.path.clone())).collect();
        let secrets = super::secrets::granted(&self.store, &manifest, here.as_ref())?;
        Ok(AppSpec { manifest, version, artifacts, hosts, patches, files, secrets, here })
    }

    /// Sees to it that the programs of Wasm functions are where cells will look for them.
    fn keep_hosts(&self, hosts: &BTreeMap<FunctionName, Arc<Host>>) -> Result<(), DeployFault> {
        let mut seen = BTreeSet::new();
        for (function, host) in hosts {
            if seen.insert(&host.path) {
                let failed = |source| DeployFault::Module { function: function.clone(), source };
                self.modules.keep_host(host).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Compiles the modules of a deployment that are missing, several at once.
    fn compile_missing(&self, deployment: &Deployment) {
        let is_module = |name: &FunctionName| {
            deployment.manifest.functions.get(name).is_some_and(|spec| spec.isolation == Isolation::Wasm)
        };
        let hashes = deployment.artifacts.iter().filter(|(name, _)| is_module(name)).map(|(_, hash)| *hash);
        let hashes: BTreeSet<ArtifactHash> = hashes.collect();
        let found = |hash: ArtifactHash| {
            let path = self.artifacts.verified(&hash).ok()?;
            Some((self.modules.host_of(&path).ok()?, hash, path))
        };
        self.modules.compile_missing(&hashes.into_iter().filter_map(found).collect::<Vec<_>>());
    }

    /// The executable of a Wasm function, and the program in which it goes on.
    fn module(
        &self,
        manifest: &Manifest,
        (function, spec): (&FunctionName, &Function),
        hash: &ArtifactHash,
        module: &Path,
    ) -> Result<(Arc<Host>, Executable), DeployFault> {
        let failed = |source| DeployFault::Module { function: function.clone(), source };
        let host = self.modules.host_of(module).map_err(failed)?;
        let executable = self.modules.executable(&host, hash, module).map_err(failed)?;
        let header = &executable.header;
        if let Some(why) = misfit(header.kind, manifest, function) {
            return Err(DeployFault::ModuleSetting { function: function.clone(), why });
        }
        if header.memory_bytes > spec.memory.bytes() {
            return Err(DeployFault::ModuleMemory {
                function: function.clone(),
                needed: ByteSize::from_bytes(header.memory_bytes),
                memory: spec.memory,
            });
        }
        Ok((host, executable))
    }

    /// The checked bundles of a deployment, unpacked for functions that may run as processes.
    fn files(&self, deployment: &Deployment) -> Result<BTreeMap<FunctionName, BundledFiles>, DeployFault> {
        let mut files = BTreeMap::new();
        for (function, hash) in &deployment.files {
            let unusable = |source| DeployFault::Artifact { function: function.clone(), source };
            let path = self.artifacts.verified(hash).map_err(unusable)?;
            let bytes = self.artifacts.read(hash).map_err(unusable)?;
            let no_bundle = |source| DeployFault::Files { function: function.clone(), source };
            let bundle = Bundle::parse(&bytes).map_err(no_bundle)?;
            let spec = deployment.manifest.functions.get(function);
            let in_cells_only =
                spec.is_some_and(|spec| spec.wants_cell() && spec.fallback == Fallback::Refuse);
            let unpack = || self.trees.tree(hash, bundle).map_err(unusable);
            let tree = if in_cells_only { None } else { Some(unpack()?) };
            files.insert(function.clone(), BundledFiles { bundle: path, tree });
        }
        Ok(files)
    }
}
