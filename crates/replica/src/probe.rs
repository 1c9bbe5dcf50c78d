//! What the machine offers, found out by trying rather than by reading version numbers.

use std::fs;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::spawn::{Hierarchies, Version};
use crate::sys::machine;

/// One thing that the machine has or lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// What it is.
    pub name: &'static str,
    /// Whether it works here.
    pub available: bool,
    /// What was found: a version, a count, or the kernel's reason for refusing.
    pub detail: String,
    /// What Baton does with it.
    pub needed_for: &'static str,
    /// How to get it.
    pub remedy: &'static str,
}

/// What a machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release, e.g. `6.18.4`.
    pub kernel: String,
    /// How many cores this process may run on.
    pub cores: usize,
    /// A process can get a user namespace of its own.
    pub user_namespaces: Capability,
    /// … a pid namespace.
    pub pid_namespaces: Capability,
    /// … a network namespace.
    pub network_namespaces: Capability,
    /// … a mount namespace with an empty root.
    pub mount_namespaces: Capability,
    /// System-call filters that can kill a process.
    pub seccomp: Capability,
    /// File, network and signal rules of the process's own.
    pub landlock: Capability,
    /// A writable control group that bounds memory.
    pub memory_groups: Capability,
    /// A writable control group that bounds processor time.
    pub cpu_groups: Capability,
    /// A writable control group that bounds the number of processes.
    pub process_groups: Capability,
    /// Memory protection keys.
    pub memory_keys: Capability,
    /// System calls that trap to user space.
    pub syscall_dispatch: Capability,
    /// Instructions that set the thread pointer without a system call.
    pub fsgsbase: Capability,
    /// Signal frames where the interrupted code has no access.
    pub keyed_signal_frames: Capability,
    /// Asking the kernel which pages were written.
    pub page_scan: Capability,
    /// Programs in the kernel.
    pub ebpf: Capability,
    /// Shared memory whose size nobody can change.
    pub sealed_memory: Capability,
    /// Reserved huge pages.
    pub huge_pages: Capability,
}

impl Machine {
    /// All capabilities, in the order in which a person wants to read them.
    pub fn capabilities(&self) -> impl Iterator<Item = &Capability> {
        [
            &self.user_namespaces,
            &self.pid_namespaces,
            &self.network_namespaces,
            &self.mount_namespaces,
            &self.seccomp,
            &self.landlock,
            &self.memory_groups,
            &self.cpu_groups,
            &self.process_groups,
            &self.sealed_memory,
            &self.huge_pages,
            &self.memory_keys,
            &self.syscall_dispatch,
            &self.fsgsbase,
            &self.keyed_signal_frames,
            &self.page_scan,
            &self.ebpf,
        ]
        .into_iter()
    }

    /// What compartments need of the machine and do not get.
    pub fn missing_for_cells(&self) -> impl Iterator<Item = &Capability> {
        [&self.memory_keys, &self.syscall_dispatch, &self.fsgsbase, &self.keyed_signal_frames]
            .into_iter()
            .filter(|capability| !capability.available)
    }

    /// Whether sandboxed processes can be started here.
    #[must_use]
    pub fn can_isolate_processes(&self) -> bool {
        [
            &self.user_namespaces,
            &self.pid_namespaces,
            &self.network_namespaces,
            &self.mount_namespaces,
            &self.seccomp,
            &self.sealed_memory,
        ]
        .into_iter()
        .all(|capability| capability.available)
    }
}

/// Tries everything out. Takes some milliseconds.
#[must_use]
pub fn probe() -> Machine {
    Machine {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        user_namespaces: namespace("user namespaces", 0),
        pid_namespaces: namespace("pid namespaces", libc::CLONE_NEWPID),
        network_namespaces: namespace("network namespaces", libc::CLONE_NEWNET),
        mount_namespaces: mount_namespaces(),
        seccomp: seccomp(),
        landlock: landlock(),
        memory_groups: control_group("memory", "memory control group"),
        cpu_groups: control_group("cpu", "processor control group"),
        process_groups: control_group("pids", "process control group"),
        memory_keys: memory_keys(),
        syscall_dispatch: syscall_dispatch(),
        fsgsbase: fsgsbase(),
        keyed_signal_frames: keyed_signal_frames(),
        page_scan: page_scan(),
        ebpf: ebpf(),
        sealed_memory: sealed_memory(),
        huge_pages: huge_pages(),
    }
}

/// What compartments need of the machine and do not get: a small part of [`probe`], which takes some microseconds.
#[must_use]
pub fn missing_for_cells() -> Vec<Capability> {
    let needed = [memory_keys(), syscall_dispatch(), fsgsbase(), keyed_signal_frames()];
    needed.into_iter().filter(|capability| !capability.available).collect()
}

/// What distinguishes this machine's processor for a program's memory image: what `cpuid` says of features, and which
/// of them the kernel has switched on. A program decides by these once and remembers.
#[must_use]
pub fn processor() -> Vec<u8> {
    machine::processor_features().into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Sandboxes consist of these.
const NAMESPACE_USE: &str = "process isolation";
const NAMESPACE_REMEDY: &str = "set user.max_user_namespaces above 0 and \
    kernel.apparmor_restrict_unprivileged_userns to 0, or use a container profile that permits clone3";

/// What was found when something was tried.
fn tried(result: Result<(), Errno>) -> (bool, String) {
    match result {
        Ok(()) => (true, "works".to_owned()),
        Err(errno) => (false, errno.to_string()),
    }
}

fn namespace(name: &'static str, flag: i32) -> Capability {
    let (available, detail) = tried(machine::try_namespaces(u64::from(flag.unsigned_abs())));
    Capability { name, available, detail, needed_for: NAMESPACE_USE, remedy: NAMESPACE_REMEDY }
}

fn mount_namespaces() -> Capability {
    let (available, detail) = tried(machine::try_empty_root());
    Capability {
        name: "mount namespaces with an empty root",
        available,
        detail,
        needed_for: NAMESPACE_USE,
        remedy: "run the node from an ordinary root file system, on a kernel with CONFIG_TMPFS",
    }
}

fn seccomp() -> Capability {
    let (available, detail) = tried(machine::try_filter_action(libc::SECCOMP_RET_KILL_PROCESS));
    Capability {
        name: "system-call filters",
        available,
        detail,
        needed_for: "process isolation",
        remedy: "use a kernel with CONFIG_SECCOMP_FILTER",
    }
}

fn landlock() -> Capability {
    let version = machine::landlock_version();
    Capability {
        name: "Landlock",
        available: version.is_ok(),
        detail: match version {
            Ok(version) => format!("interface version {version}"),
            Err(errno) => errno.to_string(),
        },
        needed_for: "process isolation (a second wall around files, network and signals)",
        remedy: "boot with lsm=landlock,... on a kernel with CONFIG_SECURITY_LANDLOCK",
    }
}

fn control_group(controller: &'static str, name: &'static str) -> Capability {
    let found = Hierarchies::get().controllers().find(|(found, _)| *found == controller);
    Capability {
        name,
        available: found.is_some(),
        detail: match found {
            Some((_, Version::V1)) => "version 1, writable".to_owned(),
            Some((_, Version::V2)) => "version 2, writable".to_owned(),
            None => "no writable hierarchy".to_owned(),
        },
        needed_for: "bounds on all that a process uses (without it: resource limits only)",
        remedy: "run the node as root or with a delegated control group (systemd: Delegate=yes)",
    }
}

fn memory_keys() -> Capability {
    let flagged = processor_flag("ospke");
    let (available, detail) = match (flagged, machine::try_memory_key()) {
        (true, Ok(())) => (true, "works".to_owned()),
        (true, Err(errno)) => (false, errno.to_string()),
        (false, _) => (false, "the processor or the hypervisor does not offer them".to_owned()),
    };
    Capability {
        name: "memory keys",
        available,
        detail,
        needed_for: "compartment isolation",
        remedy: "use a machine whose processor has PKU and whose hypervisor passes it on",
    }
}

fn syscall_dispatch() -> Capability {
    let (available, detail) = tried(machine::try_syscall_dispatch());
    Capability {
        name: "system-call user dispatch",
        available,
        detail,
        needed_for: "compartment isolation",
        remedy: "use Linux 5.11 or newer on x86-64",
    }
}

fn fsgsbase() -> Capability {
    /// `HWCAP2_FSGSBASE`: the kernel lets user space use the instructions.
    const HWCAP2_FSGSBASE: u64 = 1 << 1;
    let available = machine::hardware_features() & HWCAP2_FSGSBASE != 0;
    Capability {
        name: "fsgsbase instructions",
        available,
        detail: if available { "enabled" } else { "not enabled" }.to_owned(),
        needed_for: "compartment isolation",
        remedy: "use Linux 5.9 or newer, not booted with nofsgsbase",
    }
}

/// Since 6.12 the kernel writes a signal's frame whatever the interrupted code's keys are. There is no way to try this
/// that does not risk a crash, so this one goes by the version.
fn keyed_signal_frames() -> Capability {
    const SINCE: (u32, u32) = (6, 12);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let available = version_of(&release).is_some_and(|version| version >= SINCE);
    Capability {
        name: "signal frames on keyed stacks",
        available,
        detail: format!("Linux {release}"),
        needed_for: "compartment isolation",
        remedy: "use Linux 6.12 or newer",
    }
}

/// The first two numbers of a kernel's release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn page_scan() -> Capability {
    let (available, detail) = tried(machine::try_page_scan());
    Capability {
        name: "page-map scans",
        available,
        detail,
        needed_for: "quick resets of compartments (without it: slower ones)",
        remedy: "use Linux 6.7 or newer",
    }
}

fn ebpf() -> Capability {
    let (available, detail) = tried(machine::try_bpf_map());
    Capability {
        name: "eBPF",
        available,
        detail,
        needed_for: "descriptor routing in the kernel",
        remedy: "run the node as root or with CAP_BPF",
    }
}

fn sealed_memory() -> Capability {
    let sealed = memfd_create(c"baton-probe", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .and_then(|memory| fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    let (available, detail) = tried(sealed);
    Capability {
        name: "sealed shared memory",
        available,
        detail,
        needed_for: "payload pools",
        remedy: "use a kernel with CONFIG_MEMFD_CREATE",
    }
}

fn huge_pages() -> Capability {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let (total, free) = (value("HugePages_Total:").unwrap_or(0), value("HugePages_Free:").unwrap_or(0));
    Capability {
        name: "huge pages",
        available: free > 0,
        detail: format!("{free} of {total} free, {} KiB each", value("Hugepagesize:").unwrap_or(0)),
        needed_for: "fewer page faults in large pools",
        remedy: "reserve some: sysctl vm.nr_hugepages=128",
    }
}

/// Whether `/proc/cpuinfo` lists a flag.
fn processor_flag(flag: &str) -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_says_what_was_found_and_what_to_do() {
        let machine = probe();
        assert!(machine.cores >= 1);
        assert!(machine.kernel.starts_with(|c: char| c.is_ascii_digit()));
        for capability in machine.capabilities() {
            println!("{capability:?}");
            assert!(!capability.detail.is_empty() && !capability.remedy.is_empty(), "{capability:?}");
        }
    }

    #[test]
    fn versions_are_read_from_releases() {
        for (release, expect) in [
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.4.0-1103-aws", Some((5, 4))),
            ("6.12", Some((6, 12))),
            ("6", None),
            ("", None),
        ] {
            assert_eq!(version_of(release), expect, "{release}");
        }
    }

    #[test]
    fn a_processor_looks_the_same_twice() {
        assert_eq!(processor(), processor());
        assert!(processor().iter().any(|byte| *byte != 0));
    }

    #[test]
    fn probing_twice_finds_the_same() {
        let names =
            |machine: &Machine| machine.capabilities().map(|c| (c.name, c.available)).collect::<Vec<_>>();
        assert_eq!(names(&probe()), names(&probe()));
    }
}
