//! What `/proc` says about a process and everything it started: processor time, context switches, resident memory.
//!
//! Processor time is the sum of the threads' `schedstat` run times (nanoseconds); `stat`'s ticks of 10 ms would blur
//! short samples. A thread that has ended takes its time with it, so figures are differences over servers whose
//! threads live longer than the sample.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Why a process could not be accounted for.
#[derive(Debug)]
pub enum ProcError {
    /// The process is not there any more.
    Gone(u32),
    /// The kernel refused the affinity.
    Affinity(usize, io::Error),
}

impl fmt::Display for ProcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(pid) => write!(f, "process {pid} is gone"),
            Self::Affinity(core, error) => write!(f, "no thread may run on core {core}: {error}"),
        }
    }
}

impl std::error::Error for ProcError {}

/// What a process tree has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time of all threads.
    pub cpu: Duration,
    /// … of the root process alone.
    pub root_cpu: Duration,
    /// Resident memory of all processes, shared pages counted once per process.
    pub rss_kib: u64,
    /// Resident memory of the root process alone.
    pub root_rss_kib: u64,
    /// How many processes there are.
    pub processes: usize,
    /// How often their threads have left a core, of their own accord or not.
    pub switches: u64,
}

/// The usage of `root` and all its descendants.
pub fn usage(root: u32) -> Result<Usage, ProcError> {
    let mut usage = Usage { root_rss_kib: rss_kib(root).ok_or(ProcError::Gone(root))?, ..Usage::default() };
    for pid in std::iter::once(root).chain(descendants(root)) {
        let cpu = Duration::from_nanos(cpu_nanos(pid));
        usage.cpu += cpu;
        usage.root_cpu += if pid == root { cpu } else { Duration::ZERO };
        usage.rss_kib += rss_kib(pid).unwrap_or(0);
        usage.processes += 1;
        usage.switches += switches(pid);
    }
    Ok(usage)
}

/// The processes that `root` started, directly or not.
#[must_use]
pub fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in numbers_in("/proc") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parent_in_stat(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend_from_slice(&below);
        open.extend(below);
    }
    found
}

fn numbers_in(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The threads of a process.
#[must_use]
pub fn threads(pid: u32) -> Vec<u32> {
    numbers_in(&format!("/proc/{pid}/task"))
}

/// The parent in a line of `/proc/PID/stat`; the name before it may hold blanks and brackets.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn cpu_nanos(pid: u32) -> u64 {
    let run_time = |thread: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    threads(pid).into_iter().filter_map(run_time).sum()
}

fn switches(pid: u32) -> u64 {
    let status = |thread: &u32| fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).ok();
    threads(pid).iter().filter_map(status).map(|status| switches_in_status(&status)).sum()
}

/// Both kinds together.
fn switches_in_status(status: &str) -> u64 {
    let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
    counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
}

fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // A process that has ended and is not yet waited for has no memory line.
    Some(rss_in_status(&status).unwrap_or(0))
}

fn rss_in_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Memory of a process that no other process has mapped, KiB; `None` if the kernel does not tell.
#[must_use]
pub fn private_kib(pid: u32) -> Option<u64> {
    private_in_smaps(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// Memory of a process, a page that `n` processes have mapped counted as one `n`-th, KiB; `None` if the kernel does not tell.
#[must_use]
pub fn proportional_kib(pid: u32) -> Option<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Memory of the machine that is in use and could not be had for something else, KiB.
#[must_use]
pub fn machine_used_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    kib("MemTotal:").unwrap_or(0).saturating_sub(kib("MemAvailable:").unwrap_or(0))
}

fn private_in_smaps(smaps: &str) -> Option<u64> {
    let private = smaps.lines().filter(|line| line.starts_with("Private_"));
    let kib = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    let sizes: Option<Vec<u64>> = private.map(kib).collect();
    sizes.filter(|sizes| !sizes.is_empty()).map(|sizes| sizes.iter().sum())
}

/// Keeps the calling thread, and what it starts from now on, on one core.
pub fn pin(core: usize) -> Result<(), ProcError> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| ProcError::Affinity(core, error.into()))
}

/// Runs `work` with the calling thread on one core, and sets the thread free again.
///
/// Children inherit the affinity, so this is also how servers are placed.
pub fn pinned<T>(core: Option<usize>, work: impl FnOnce() -> T) -> Result<T, ProcError> {
    let Some(core) = core else { return Ok(work()) };
    let before = sched_getaffinity(None).map_err(|error| ProcError::Affinity(core, error.into()))?;
    pin(core)?;
    let result = work();
    sched_setaffinity(None, &before).map_err(|error| ProcError::Affinity(core, error.into()))?;
    Ok(result)
}

/// The cores that the calling thread may run on.
#[must_use]
pub fn affinity() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// The share of the whole machine that was busy during `window`, 0 to 1.
#[must_use]
pub fn busy_share(window: Duration) -> f64 {
    let read = || busy_and_total(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let before = read();
    std::thread::sleep(window);
    match (before, read()) {
        (Some((busy, total)), Some((busy_after, total_after))) if total_after > total => {
            busy_after.saturating_sub(busy) as f64 / (total_after - total) as f64
        }
        _ => 0.0,
    }
}

/// Busy and all ticks in the first line of `/proc/stat`.
fn busy_and_total(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).take(8).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((total - idle, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        assert_eq!(parent_in_stat("12 (a ) (b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("garbage"), None);
        assert_eq!(rss_in_status("Name:\tx\nVmRSS:\t    5120 kB\nThreads: 1\n"), Some(5120));
        assert_eq!(rss_in_status("Name:\tx\n"), None);
        let status = "Threads: 1\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!((switches_in_status(status), switches_in_status("Threads: 1\n")), (12, 0));
        let smaps = "Rss: 9 kB\nPrivate_Clean: 3 kB\nPrivate_Dirty: 40 kB\nPrivate_Hugetlb: 0 kB\n";
        assert_eq!((private_in_smaps(smaps), private_in_smaps("Rss: 9 kB\n")), (Some(43), None));
        assert_eq!(busy_and_total("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 1"), Some((16, 100)));
    }

    #[test]
    fn a_tree_is_accounted_for_as_a_whole() {
        let script = "sleep 30 & while :; do :; done";
        let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let used = usage(child.id()).unwrap();
        let below = descendants(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        for pid in &below {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        assert_eq!((below.len(), used.processes), (1, 2));
        assert!(used.cpu > Duration::from_millis(20), "{used:?}");
        assert!(used.rss_kib > used.root_rss_kib && used.root_rss_kib > 0);
        assert!(usage(child.id()).is_err());
    }

    #[test]
    fn pinning_holds_for_the_work_and_no_longer() {
        let before = affinity();
        let within = pinned(Some(before[0]), affinity).unwrap();
        assert_eq!(within, vec![before[0]]);
        assert_eq!(affinity(), before);
    }
}
