//! Questions to the machine that only a system call can answer.

// UNSAFETY: each probe is one system call that has no safe wrapper.
#![expect(unsafe_code, reason = "pkey_alloc, bpf, prctl and seccomp probes")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::child;
use super::clone::{USER_NAMESPACE, clone_child, last_errno};

/// Creates a process in the given namespaces (and a user namespace, which permits them) that ends at once.
pub(crate) fn try_namespaces(namespaces: u64) -> Result<(), Errno> {
    try_child(USER_NAMESPACE | namespaces, &|| 0)
}

/// Creates a process that swaps its file system for an empty one.
pub(crate) fn try_empty_root() -> Result<(), Errno> {
    let mount_namespace = u64::from(libc::CLONE_NEWNS.unsigned_abs());
    try_child(USER_NAMESPACE | mount_namespace, &|| match child::empty_root_alone() {
        Ok(()) => 0,
        Err(errno) => errno.raw_os_error(),
    })
}

/// Runs `body` in a child. Its status is an errno, or 0 if all went well.
fn try_child(namespaces: u64, body: &dyn Fn() -> i32) -> Result<(), Errno> {
    let (_, pidfd) = clone_child(namespaces, None, body)?;
    loop {
        return match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => continue,
            Err(errno) => Err(errno),
            Ok(status) => match status.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(Errno::from_raw_os_error(errno)),
                None => Err(Errno::CHILD),
            },
        };
    }
}

/// Allocates a memory key and frees it again.
pub(crate) fn try_memory_key() -> Result<(), Errno> {
    // SAFETY: the call takes two numbers; a fresh key is attached to no page.
    let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
    if key < 0 {
        return Err(last_errno());
    }
    // SAFETY: this key was allocated just now and tags no page, so nobody can miss it.
    let _ = unsafe { libc::syscall(libc::SYS_pkey_free, key) };
    Ok(())
}

/// Switches system-call dispatch off for this thread, where it is off anyway. Kernels without it refuse the question.
pub(crate) fn try_syscall_dispatch() -> Result<(), Errno> {
    const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
    // SAFETY: "off" takes no memory and changes nothing for a thread that never switched it on.
    let result = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 0u64, 0u64, 0u64, 0u64) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Asks the kernel which pages of this process lie in memory, of a range of one page.
pub(crate) fn try_page_scan() -> Result<(), Errno> {
    /// `struct pm_scan_arg`.
    #[repr(C)]
    #[derive(Default)]
    struct ScanArguments {
        size: u64,
        flags: u64,
        start: u64,
        end: u64,
        walk_end: u64,
        vec: u64,
        vec_len: u64,
        max_pages: u64,
        category_inverted: u64,
        category_mask: u64,
        category_anyof_mask: u64,
        return_mask: u64,
    }
    /// `_IOWR('f', 16, struct pm_scan_arg)`.
    const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
    const PAGE_IS_PRESENT: u64 = 1 << 3;
    const PAGE: u64 = 4096;
    const _: () = assert!(size_of::<ScanArguments>() == 96);

    let page_map = std::fs::File::open("/proc/self/pagemap")
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut regions = [[0u64; 3]; 1];
    let here = std::ptr::from_mut(&mut regions) as u64 / PAGE * PAGE;
    let mut arguments = ScanArguments {
        size: size_of::<ScanArguments>() as u64,
        start: here,
        end: here + PAGE,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_mask: PAGE_IS_PRESENT,
        return_mask: PAGE_IS_PRESENT,
        ..ScanArguments::default()
    };
    // SAFETY: the arguments have the layout and the size that they state; the kernel writes at most one region to `vec`,
    // which has room for it, and both outlive the call.
    let found = unsafe { libc::ioctl(page_map.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
    if found < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Features as the processor states them, and the register states that the kernel has switched on.
pub(crate) fn processor_features() -> Vec<u32> {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    /// Bit 27 of leaf 1, register C: the kernel uses `xsave`, so `xgetbv` exists.
    const OSXSAVE: u32 = 1 << 27;
    let (basic, extended) = (__cpuid(1), __cpuid_count(7, 0));
    // Register B of leaf 1 holds the number of the core that was asked.
    let mut features = vec![basic.eax, basic.ecx, basic.edx];
    features.extend([extended.eax, extended.ebx, extended.ecx, extended.edx]);
    if basic.ecx & OSXSAVE != 0 {
        #[target_feature(enable = "xsave")]
        fn enabled_states() -> u64 {
            // SAFETY: register 0 exists wherever the instruction does.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: the processor was just asked: it has the instruction, and the kernel lets it run.
        let states = unsafe { enabled_states() };
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word are taken apart")]
        features.extend([states as u32, (states >> 32) as u32]);
    }
    features
}

/// Asks whether the kernel knows an action of system-call filters.
pub(crate) fn try_filter_action(action: u32) -> Result<(), Errno> {
    const SECCOMP_GET_ACTION_AVAIL: u32 = 2;
    // SAFETY: the kernel reads one word, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The version of Landlock's interface.
pub(crate) fn landlock_version() -> Result<u32, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let no_attributes: *const u8 = std::ptr::null();
    // SAFETY: with this flag the kernel reads no attributes and returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            no_attributes,
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    if version < 0 { Err(last_errno()) } else { u32::try_from(version).map_err(|_| Errno::OVERFLOW) }
}

/// Creates an eBPF array map of one element and closes it.
pub(crate) fn try_bpf_map() -> Result<(), Errno> {
    const BPF_MAP_CREATE: i32 = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    // `union bpf_attr` of a map: type, key size, value size, number of entries, flags.
    let attributes: [u32; 5] = [BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0];
    // SAFETY: the kernel reads as many bytes as stated, and they outlive the call.
    let map = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, attributes.as_ptr(), size_of_val(&attributes))
    };
    if map < 0 {
        return Err(last_errno());
    }
    let map = i32::try_from(map).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel returned a fresh descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(map) });
    Ok(())
}

/// The second word of processor features that the kernel hands to every process.
pub(crate) fn hardware_features() -> u64 {
    // SAFETY: reads a value from the auxiliary vector; unknown keys give 0.
    unsafe { libc::getauxval(libc::AT_HWCAP2) }
}
