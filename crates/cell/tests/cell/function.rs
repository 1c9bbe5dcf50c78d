//! A function as a test describes it to the node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_abi::plan;

/// A function to load.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) elf: PathBuf,
    /// What is written over its code; what every program needs if `None`.
    pub(crate) patches: Option<Vec<plan::Patch>>,
    pub(crate) calls: Vec<&'static str>,
    pub(crate) concurrency: u32,
    pub(crate) timeout: Duration,
    pub(crate) memory: u64,
    pub(crate) reset: bool,
    pub(crate) env: Vec<String>,
    /// The bundle of its files.
    pub(crate) files: Option<PathBuf>,
    /// Whether it sees the pool in a window as well.
    pub(crate) window: bool,
}

impl Function {
    pub(crate) fn new(name: &'static str, elf: &Path) -> Function {
        Function {
            name,
            elf: elf.to_owned(),
            patches: None,
            calls: Vec::new(),
            concurrency: 1,
            timeout: Duration::from_secs(2),
            memory: 64 << 20,
            reset: false,
            env: Vec::new(),
            files: None,
            window: false,
        }
    }

    pub(crate) fn calls(mut self, calls: &[&'static str]) -> Function {
        self.calls = calls.to_vec();
        self
    }
}
