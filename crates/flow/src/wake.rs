//! Who hands payloads over between the processes of an app: they by themselves, over rings, or a program in the kernel.

use std::sync::OnceLock;

use baton_catalog::{Manifest, Trust, Wake};

use crate::hosting::Hosting;

/// Whether a program in the kernel can hand over on this machine, and why not if it cannot.
///
/// # Errors
/// The kernel's reason, in words.
pub fn kernel() -> Result<(), String> {
    // Finding out takes as long as loading does, and does not change.
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    FOUND.get_or_init(|| baton_kernel::probe().map_err(|unsupported| unsupported.to_string())).clone()
}

/// What was chosen for an app, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The kernel.
    Kernel {
        /// Why.
        why: &'static str,
    },
    /// Rings, and calls inside cells.
    Rings {
        /// Why.
        why: String,
        /// The kernel would not.
        refused: bool,
        /// The manifest asks for the kernel by name.
        asked: bool,
    },
}

impl Choice {
    /// The word of the manifest for it.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Choice::Kernel { .. } => Wake::Ebpf.as_str(),
            Choice::Rings { .. } => Wake::Ring.as_str(),
        }
    }

    pub(crate) fn why(&self) -> &str {
        match self {
            Choice::Kernel { why } => why,
            Choice::Rings { why, .. } => why,
        }
    }

    /// Rings after all, since the kernel would not: a reason that it gave.
    pub(crate) fn without_kernel(manifest: &Manifest, refusal: &str) -> Choice {
        Choice::Rings {
            why: format!("the kernel does not take the program: {refusal}"),
            refused: true,
            asked: manifest.app.wake == Wake::Ebpf,
        }
    }
}

/// How the processes of an app wake each other, if the kernel allows what is asked of it.
pub(crate) fn choose(manifest: &Manifest, hosting: &[Hosting]) -> Choice {
    let rings = |why: String| Choice::Rings { why, refused: false, asked: false };
    let mut functions = manifest.functions.keys().zip(hosting);
    let in_cell = functions.find(|(_, hosting)| hosting.is_in_cell());
    match (manifest.app.wake, in_cell) {
        (Wake::Ring, _) => rings("the manifest says so".to_owned()),
        // Which `ebpf` rules out when the manifest is read.
        (_, Some((name, _))) => rings(format!("function {name} runs in a cell")),
        _ if !hosting.iter().any(|hosting| matches!(hosting, Hosting::Process { .. })) => {
            rings("no function runs here".to_owned())
        }
        (Wake::Ebpf, None) => Choice::Kernel { why: "the manifest says so" },
        (Wake::Auto, None) if manifest.app.trust == Some(Trust::Buffer) => {
            Choice::Kernel { why: "the manifest says trust = \"buffer\"" }
        }
        (Wake::Auto, None) => rings("the manifest does not say trust = \"buffer\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn chosen(keys: &str, hosting: Hosting) -> Choice {
        let isolation = if hosting.is_in_cell() { "isolation = \"compartment\"" } else { "" };
        let text =
            format!("[app]\nname = \"shop\"\n{keys}\n[functions.cart]\nartifact = \"x\"\n{isolation}\n");
        choose(&Manifest::parse(&text, Path::new("baton.toml")).unwrap(), &[hosting])
    }

    const PROCESS: Hosting = Hosting::Process { lacking: None };

    #[test]
    fn the_kernel_is_chosen_where_it_is_named_or_strict_trust_is() {
        for keys in ["wake = \"ebpf\"", "trust = \"buffer\"", "wake = \"auto\"\ntrust = \"buffer\""] {
            assert_eq!(chosen(keys, PROCESS).as_str(), "ebpf", "{keys}");
        }
        for keys in ["", "trust = \"app\"", "wake = \"auto\"", "wake = \"ring\"\ntrust = \"buffer\""] {
            let choice = chosen(keys, PROCESS);
            assert_eq!(choice.as_str(), "ring", "{keys}");
            assert!(matches!(choice, Choice::Rings { refused: false, .. }), "{keys}");
        }
        assert_eq!(chosen("wake = \"ebpf\"", Hosting::Elsewhere).as_str(), "ring");
    }

    #[test]
    fn what_runs_in_cells_hands_over_by_itself() {
        let choice = chosen("trust = \"buffer\"", Hosting::Compartment);
        assert_eq!((choice.as_str(), choice.why()), ("ring", "function cart runs in a cell"));
    }

    #[test]
    fn whoever_asked_for_the_kernel_is_told_that_it_would_not() {
        for (keys, asked) in [("wake = \"ebpf\"", true), ("trust = \"buffer\"", false)] {
            let text = format!("[app]\nname = \"shop\"\n{keys}\n[functions.cart]\nartifact = \"x\"\n");
            let manifest = Manifest::parse(&text, Path::new("baton.toml")).unwrap();
            let choice = Choice::without_kernel(&manifest, "no privileges");
            assert!(choice.why().contains("no privileges"));
            assert!(matches!(choice, Choice::Rings { refused: true, asked: said, .. } if said == asked));
        }
    }
}
