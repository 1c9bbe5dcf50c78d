//! What a report says about the machine, so that figures from different ones are not mixed up.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// The machine that this runs on.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            cores: crate::proc::affinity().len(),
            memory_mib: value_of(&read("/proc/meminfo"), "MemTotal").and_then(|text| kib(&text)).unwrap_or(0)
                / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

fn value_of(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_values_are_found() {
        assert_eq!(value_of("a: 1\nmodel name\t: Some CPU @ 2\n", "model name").unwrap(), "Some CPU @ 2");
        assert_eq!(kib("2048 kB"), Some(2048));
        assert!(Machine::here().cores > 0);
    }
}
