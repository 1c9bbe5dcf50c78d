//! What a node and its cells hold: memory, processes, descriptors, disk.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::SuiteError;
use crate::proc;
use crate::systems::Fleet;

/// One look at the node while it works.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Look {
    /// Seconds since the start.
    pub at_s: f64,
    /// Resident memory of the node alone.
    pub node_rss_kib: u64,
    /// Resident memory of the node and all cells, pages that several have counted for each.
    pub tree_rss_kib: u64,
    /// Processes, the node and what it starts.
    pub processes: usize,
}

/// Memory by the kernel's proportional account: a page that `n` processes have counts one `n`-th for each.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Memory {
    /// Of the node.
    pub node_kib: u64,
    /// Of everything that it started.
    pub cells_kib: u64,
    /// Of the machine: all that is used and not to be had again, KiB. Memory files that no process has mapped count here.
    pub machine_kib: u64,
    /// The node and what it started.
    pub processes: usize,
    /// Open descriptors of the node.
    pub descriptors: usize,
}

/// What lies in a node's directory, KiB on the disk.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Disk {
    /// Each directory or file in it, by name.
    pub parts: Vec<(String, u64)>,
}

impl Disk {
    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let sum: u64 = self.parts.iter().map(|(_, kib)| kib).sum();
        let parts: Vec<String> =
            self.parts.iter().map(|(name, kib)| format!("{name} {} MiB", kib / 1024)).collect();
        format!("disk: {} MiB ({})\n", sum / 1024, parts.join(", "))
    }
}

/// The memory of a node and its cells now.
pub(super) fn of(node: &Fleet) -> Result<Memory, SuiteError> {
    let Some(root) = node.root() else { return Ok(Memory::default()) };
    let cells = proc::descendants(root);
    Ok(Memory {
        node_kib: proc::proportional_kib(root).ok_or(proc::ProcError::Gone(root))?,
        cells_kib: cells.iter().filter_map(|&pid| proc::proportional_kib(pid)).sum(),
        machine_kib: proc::machine_used_kib(),
        processes: cells.len() + 1,
        descriptors: fs::read_dir(format!("/proc/{root}/fd")).map_or(0, Iterator::count),
    })
}

/// What a node keeps on the disk now.
pub(super) fn disk(node: &Fleet) -> Disk {
    let Some(home) = node.home() else { return Disk::default() };
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let mut parts: Vec<(String, u64)> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), kib_below(&entry.path())))
        .filter(|(_, kib)| *kib >= 1024)
        .collect();
    parts.sort();
    Disk { parts }
}

fn kib_below(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = fs::symlink_metadata(path) else { return 0 };
    let inside = fs::read_dir(path).into_iter().flatten().flatten();
    about.blocks() / 2 + inside.map(|entry| kib_below(&entry.path())).sum::<u64>()
}
