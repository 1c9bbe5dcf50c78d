//! Control groups: bounds that hold for all memory and processor time of a process, not just for what rlimits count.
//!
//! Every process gets its own group `baton-<node>/<name>.<number>` below the node's own group, in each hierarchy that has
//! one of the three controllers and can be written. Where there is none, the process runs with its rlimits alone: using
//! control groups never fails a start.
//!
//! The process is never moved by its number: for that the kernel stops all forks of the machine, and waiting until it
//! may takes some ten milliseconds. With version 1 the child itself writes 0 ("this thread") to a descriptor that the
//! parent opened; with version 2 it is created in its group.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sandbox::Limits;

/// The controllers that bound a process.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The period over which processor time is accounted, in microseconds.
const CPU_PERIOD_US: u32 = 100_000;

/// The least quota that the kernel takes, in microseconds.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// Tries at making a group while others are removed.
const MAKE_TRIES: u32 = 3;

/// Tries at removing a group whose last process is just vanishing, and the pause between them.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(1);

/// Which interface a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// One directory under which the node makes groups.
#[derive(Debug)]
struct Hierarchy {
    version: Version,
    controllers: Vec<&'static str>,
    /// The node's own group in this hierarchy.
    base: PathBuf,
}

/// The writable hierarchies of this machine.
#[derive(Debug)]
pub(crate) struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Looks for them, once per node. Also removes what nodes that were killed left behind.
    pub(crate) fn get() -> &'static Self {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        FOUND.get_or_init(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let mut found = parse(&mounts, &groups);
            found.retain_mut(Hierarchy::make_usable);
            for hierarchy in &found {
                hierarchy.sweep();
            }
            Hierarchies(found)
        })
    }

    /// Which controllers can be used, and through which interface.
    pub(crate) fn controllers(&self) -> impl Iterator<Item = (&'static str, Version)> + '_ {
        self.0
            .iter()
            .flat_map(|hierarchy| hierarchy.controllers.iter().map(|name| (*name, hierarchy.version)))
    }
}

/// The directory of a node's groups.
fn node_directory(node: u32) -> String {
    format!("baton-{node}")
}

impl Hierarchy {
    /// Finds out which controllers can be used, and leaves no trace.
    fn make_usable(&mut self) -> bool {
        if self.open().is_err() {
            return false;
        }
        if self.version == Version::V2 {
            let switches = self.ours().join("cgroup.subtree_control");
            let on = fs::read_to_string(switches).unwrap_or_default();
            self.controllers.retain(|name| on.split_whitespace().any(|word| word == *name));
        }
        self.close();
        !self.controllers.is_empty()
    }

    /// Makes the directory of this node's groups, with the controllers switched on in it.
    fn open(&self) -> io::Result<()> {
        let ours = self.ours();
        match fs::create_dir(&ours) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        if self.version == Version::V2 {
            for directory in [&self.base, &ours] {
                for name in &self.controllers {
                    // Refused in a group that holds processes itself, unless it is the root.
                    let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{name}"));
                }
            }
        }
        Ok(())
    }

    /// Removes the directory of this node's groups, if it is empty.
    fn close(&self) {
        let _ = fs::remove_dir(self.ours());
    }

    /// Makes a group. Another process of this node may end meanwhile and take the empty directory above along.
    fn make_group(&self, name: &str) -> io::Result<PathBuf> {
        let directory = self.ours().join(name);
        for _ in 0..MAKE_TRIES {
            self.open()?;
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other.map(|()| directory),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Removes a group; says whether nothing more is to be done about it.
    fn remove_group(&self, directory: &Path) -> bool {
        let removed = fs::remove_dir(directory);
        if removed.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
            return false;
        }
        // Succeeds for the last group of the node.
        self.close();
        true
    }

    fn ours(&self) -> PathBuf {
        self.base.join(node_directory(std::process::id()))
    }

    /// Removes the groups of nodes that are no more.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.base) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(node) = name.to_str().and_then(|name| name.strip_prefix("baton-")) else { continue };
            if node.parse::<u32>().is_ok() && !Path::new("/proc").join(node).exists() {
                for group in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(group.path());
                }
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Writes the bounds that this hierarchy's controllers hold.
    fn bound(&self, group: &Path, limits: &Limits) -> io::Result<()> {
        for controller in &self.controllers {
            let settings = match self.version {
                Version::V1 => settings_v1(controller, limits),
                Version::V2 => settings_v2(controller, limits),
            };
            for (file, value) in settings {
                fs::write(group.join(file), value)?;
            }
        }
        Ok(())
    }
}

/// Private memory and the threads' stacks count; so do pool pages that this process happens to touch first.
fn memory_bound(limits: &Limits) -> u64 {
    limits.memory_bytes.saturating_add(limits.mapped_bytes)
}

/// The quota in microseconds per period.
fn cpu_quota_us(cores: f32) -> u64 {
    let quota = f64::from(cores) * f64::from(CPU_PERIOD_US);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the conversion saturates and a whole number is wanted"
    )]
    let quota = quota as u64;
    quota.clamp(CPU_QUOTA_MIN_US, u64::from(u32::MAX))
}

fn settings_v1(controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    match (controller, limits.cpu) {
        ("memory", _) => vec![("memory.limit_in_bytes", memory_bound(limits).to_string())],
        ("pids", _) => vec![("pids.max", limits.processes.to_string())],
        ("cpu", Some(cores)) => vec![
            ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", cpu_quota_us(cores).to_string()),
        ],
        _ => Vec::new(),
    }
}

fn settings_v2(controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    match (controller, limits.cpu) {
        ("memory", _) => vec![("memory.max", memory_bound(limits).to_string())],
        ("pids", _) => vec![("pids.max", limits.processes.to_string())],
        ("cpu", Some(cores)) => vec![("cpu.max", format!("{} {CPU_PERIOD_US}", cpu_quota_us(cores)))],
        _ => Vec::new(),
    }
}

/// Finds the hierarchies with controllers of ours, from the texts of `mountinfo` and `cgroup` in `/proc/self`.
fn parse(mounts: &str, groups: &str) -> Vec<Hierarchy> {
    mounts.lines().filter_map(|mount| parse_mount(mount, groups)).collect()
}

fn parse_mount(mount: &str, groups: &str) -> Option<Hierarchy> {
    let (left, right) = mount.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
    let own_path = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names.split(',').any(|name| name == controller).then_some(path)
        })
    };
    let (version, controllers, path) = match kind {
        "cgroup2" => (Version::V2, CONTROLLERS.to_vec(), own_path("")?),
        "cgroup" => {
            let mounted: Vec<_> = CONTROLLERS
                .into_iter()
                .filter(|name| options.split(',').any(|option| option == *name))
                .collect();
            let path = own_path(mounted.first()?)?;
            (Version::V1, mounted, path)
        }
        _ => return None,
    };
    // A container may show only a part of the hierarchy.
    let below = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    Some(Hierarchy { version, controllers, base: Path::new(point).join(below) })
}

/// The control groups of one process. Dropping removes them; the process has to be dead by then.
#[derive(Debug, Default)]
pub(super) struct Group {
    directories: Vec<(&'static Hierarchy, PathBuf)>,
    /// Where the child of version 1 writes that it joins.
    tasks: Vec<OwnedFd>,
    /// The directory in which the child of version 2 is created.
    birthplace: Option<OwnedFd>,
}

impl Group {
    /// Makes the groups of a process that is about to start, in every hierarchy that can be used.
    pub(super) fn create(name: &str, limits: &Limits) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
        let name: String = name.chars().take(100).map(plain).collect();
        let name = format!("{name}.{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut group = Self::default();
        for hierarchy in &Hierarchies::get().0 {
            let Ok(directory) = hierarchy.make_group(&name) else { continue };
            let bounded = hierarchy.bound(&directory, limits);
            if bounded.and_then(|()| group.open(hierarchy.version, &directory)).is_ok() {
                group.directories.push((hierarchy, directory));
            } else {
                let _ = fs::remove_dir(&directory);
            }
        }
        group
    }

    /// Opens the way into a group.
    fn open(&mut self, version: Version, directory: &Path) -> io::Result<()> {
        match version {
            Version::V1 => {
                let tasks = fs::OpenOptions::new().write(true).open(directory.join("tasks"))?;
                self.tasks.push(tasks.into());
            }
            Version::V2 => self.birthplace = Some(fs::File::open(directory)?.into()),
        }
        Ok(())
    }

    /// The descriptors to which the child writes 0.
    pub(super) fn tasks(&self) -> Vec<BorrowedFd<'_>> {
        self.tasks.iter().map(AsFd::as_fd).collect()
    }

    /// The group in which to create the child.
    pub(super) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        self.birthplace.as_ref().map(AsFd::as_fd)
    }

    /// Closes the ways in, once the child has taken them.
    pub(super) fn close_entrances(&mut self) {
        self.tasks.clear();
        self.birthplace = None;
    }

    /// Processes of this group that the kernel killed for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let with_memory =
            self.directories.iter().filter(|(hierarchy, _)| hierarchy.controllers.contains(&"memory"));
        let kills = with_memory.map(|(hierarchy, directory)| {
            let file = match hierarchy.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            };
            let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
            let counts = text.lines().filter_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok());
            counts.sum::<u64>()
        });
        kills.sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut directories = std::mem::take(&mut self.directories);
        directories.retain(|(hierarchy, directory)| !hierarchy.remove_group(directory));
        if directories.is_empty() {
            return;
        }
        // Its last process is just vanishing. The one who drops this has requests to see to.
        let wait = move || {
            for (hierarchy, directory) in directories {
                let tries = 0..REMOVE_TRIES;
                let is_gone = |_| {
                    std::thread::sleep(REMOVE_PAUSE);
                    hierarchy.remove_group(&directory)
                };
                let _ = tries.into_iter().any(is_gone);
            }
        };
        // Without a thread they stay until a node's next start, which removes them.
        let _ = std::thread::Builder::new().name("baton-groups".to_owned()).spawn(wait);
    }
}

#[cfg(test)]
mod tests;
