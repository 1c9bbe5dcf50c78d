//! How each function of an app runs on this machine, which need not be what its manifest asks for first.

use std::path::PathBuf;

use baton_catalog::{Fallback, Function, Isolation, Manifest, PoolRights};
use baton_replica::{probe, template};

use crate::deploy::AppSpec;
use crate::error::DeployError;

/// How a function runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosting {
    /// As a process of its own; says why, where the manifest would rather have something else.
    Process { lacking: Option<String> },
    /// In a compartment of a cell.
    Compartment,
    /// In a compartment of a cell that is a Wasm engine and one module.
    Wasm,
    /// On other nodes of the cluster.
    Elsewhere,
}

impl Hosting {
    /// Whether it has a seat in a cell.
    pub(crate) fn is_in_cell(&self) -> bool {
        matches!(self, Hosting::Compartment | Hosting::Wasm)
    }
}

impl core::fmt::Display for Hosting {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Hosting::Process { lacking: None } => f.write_str("process"),
            Hosting::Process { lacking: Some(lacking) } => write!(f, "process (no {lacking})"),
            Hosting::Compartment => f.write_str("compartment"),
            Hosting::Wasm => f.write_str("wasm"),
            Hosting::Elsewhere => f.write_str("elsewhere"),
        }
    }
}

/// What cells lack on this machine: a word for it, and the whole story.
#[derive(Clone, Debug)]
pub(crate) struct Lacking {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// The program of cells, or what is missing for it to run.
pub(crate) fn cells(program: Option<&PathBuf>) -> Result<PathBuf, Lacking> {
    if let Some(missing) = probe::missing_for_cells().first() {
        let why = format!("{}: {}; {}", missing.name, missing.detail, missing.remedy);
        return Err(Lacking { what: missing.name.to_owned(), why });
    }
    let found = match program {
        Some(named) => Ok(named.clone()),
        None => template::program(),
    };
    found.map_err(|path| Lacking {
        what: template::PROGRAM.to_owned(),
        why: format!(
            "the program of cells is not at {}; install {} beside the node, or name it in {}",
            path.display(),
            template::PROGRAM,
            template::PROGRAM_ENV
        ),
    })
}

/// How the functions of `spec` run, in the order of their names.
pub(crate) fn decide(spec: &AppSpec, cells: &Result<PathBuf, Lacking>) -> Result<Vec<Hosting>, DeployError> {
    spec.manifest
        .functions
        .iter()
        .map(|(name, function)| {
            check(&spec.manifest, name.as_str(), function)?;
            if spec.here.as_ref().is_some_and(|here| !here.contains(name)) {
                return Ok(Hosting::Elsewhere);
            }
            if function.is_native() && !spec.artifacts.contains_key(name) {
                return Err(DeployError::NoArtifact { function: name.to_string() });
            }
            host(name.as_str(), function, cells)
        })
        .collect()
}

fn host(name: &str, function: &Function, cells: &Result<PathBuf, Lacking>) -> Result<Hosting, DeployError> {
    let lacking = match (function.isolation, cells) {
        (Isolation::Process, _) => return Ok(Hosting::Process { lacking: None }),
        (Isolation::Compartment, Ok(_)) => return Ok(Hosting::Compartment),
        (Isolation::Wasm, Ok(_)) => return Ok(Hosting::Wasm),
        (Isolation::Compartment | Isolation::Wasm, Err(lacking)) => lacking.clone(),
    };
    if function.fallback == Fallback::Process {
        return Ok(Hosting::Process { lacking: Some(lacking.what) });
    }
    let (function_name, wanted) = (name.to_owned(), function.isolation.as_str());
    Err(DeployError::Isolation { function: function_name, wanted, why: lacking.why })
}

fn check(manifest: &Manifest, name: &str, function: &Function) -> Result<(), DeployError> {
    let is_routed = manifest.routes.iter().any(|route| route.function.as_str() == name)
        || manifest.subscriptions.iter().any(|subscription| subscription.function.as_str() == name);
    if function.pool == PoolRights::None && is_routed {
        return Err(DeployError::Unreachable { function: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn decided(function: &str, cells: &Result<PathBuf, Lacking>) -> Result<Vec<Hosting>, DeployError> {
        let artifact = if function.contains("wasm") { "x.wasm" } else { "x" };
        let text =
            format!("[app]\nname = \"shop\"\n[functions.cart]\nartifact = \"{artifact}\"\n{function}\n");
        let manifest = Manifest::parse(&text, Path::new("baton.toml")).unwrap();
        let artifacts = manifest.functions.keys().map(|name| (name.clone(), PathBuf::from("x"))).collect();
        decide(
            &AppSpec {
                manifest,
                version: 1,
                artifacts,
                hosts: BTreeMap::new(),
                patches: BTreeMap::new(),
                files: BTreeMap::new(),
                secrets: BTreeMap::new(),
                here: None,
            },
            cells,
        )
    }

    fn without_keys() -> Result<PathBuf, Lacking> {
        Err(Lacking { what: "memory keys".into(), why: "the processor has no memory keys".into() })
    }

    #[test]
    fn a_machine_with_keys_runs_compartments() {
        let found = decided("isolation = \"compartment\"", &Ok(PathBuf::from("baton-cell")));
        assert_eq!(found, Ok(vec![Hosting::Compartment]));
        assert_eq!(Hosting::Compartment.to_string(), "compartment");
    }

    #[test]
    fn without_keys_a_compartment_is_refused_and_told_what_is_missing() {
        let refused = decided("isolation = \"compartment\"", &without_keys()).unwrap_err();
        let text = refused.to_string();
        for part in ["cart", "the processor has no memory keys", "fallback = \"process\""] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn with_a_fallback_it_runs_as_a_process_and_says_why() {
        let found = decided("isolation = \"compartment\"\nfallback = \"process\"", &without_keys()).unwrap();
        assert_eq!(found[0].to_string(), "process (no memory keys)");
        assert_eq!(decided("", &without_keys()).unwrap()[0].to_string(), "process");
    }

    #[test]
    fn a_module_runs_in_a_cell_or_not_at_all() {
        let module = "isolation = \"wasm\"";
        assert_eq!(decided(module, &Ok(PathBuf::from("baton-cell"))), Ok(vec![Hosting::Wasm]));
        assert!(Hosting::Wasm.is_in_cell() && Hosting::Wasm.to_string() == "wasm");
        let refused = decided(module, &without_keys()).unwrap_err().to_string();
        assert!(refused.contains("no memory keys") && !refused.contains("fallback"), "{refused}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let lacking = cells(None).err();
        // The test program has no `baton-cell` beside it, unless the environment names one or keys are missing first.
        if let Some(lacking) = lacking.filter(|lacking| lacking.what == template::PROGRAM) {
            assert!(lacking.why.contains(template::PROGRAM_ENV), "{}", lacking.why);
        }
    }
}
