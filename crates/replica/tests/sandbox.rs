//! What a sandboxed process can see and do, asked from inside by guests and from outside through `/proc`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod guest;

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use baton_replica::{ExitReason, Limits, SpawnError, probe};
use guest::{c_guest, run, rust_guest, start};
use rustix::io::Errno;

const DONE: ExitReason = ExitReason::Exited { status: 0 };
const FORBIDDEN: ExitReason = ExitReason::Signalled { signal: libc::SIGSYS };

#[track_caller]
fn says(stdout: &str, line: &str) {
    assert!(stdout.lines().any(|said| said.trim_end() == line), "{line:?} is not in:\n{stdout}");
}

#[test]
fn a_process_has_four_descriptors() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["descriptors"], |_| {});
    assert_eq!((outcome.reason, outcome.stdout.as_str()), (DONE, "0 1 2 3 \n"));
}

#[test]
fn a_process_is_nobody_with_its_own_name_and_limits() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["who"], |spec| spec.cores = vec![0]);
    // An unprivileged node cannot drop its groups: the kernel does not let it.
    let groups =
        if rustix::process::geteuid().is_root() { 0 } else { rustix::process::getgroups().unwrap().len() };
    let line =
        format!("pid 1 uid 1000 gid 1000 groups {groups} host shop-cart-1 core 0 files 64 cores 1 env hello");
    says(&outcome.stdout, &line);
}

#[test]
fn status_and_signal_are_reported() {
    let Some(program) = c_guest() else { return };
    assert_eq!(run(program, &["exit", "7"], |_| {}).reason, ExitReason::Exited { status: 7 });
    // The first process of a pid namespace ignores its own SIGABRT; libc then falls back to a trap.
    let aborted = run(program, &["abort"], |_| {}).reason;
    assert!(matches!(aborted, ExitReason::Signalled { .. }), "{aborted:?}");
    let mut guest = start(program, &["sleep"], |_| {}).unwrap();
    guest.ready();
    assert_eq!(guest.child.try_wait(), None);
    guest.child.kill();
    assert_eq!(guest.finish().reason, ExitReason::Signalled { signal: libc::SIGKILL });
}

#[test]
fn there_are_no_files() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["files"], |_| {});
    for path in ["/etc/passwd", "/proc/self/status", "/dev/null", "/", "/tmp/x", "create"] {
        says(&outcome.stdout, &format!("{path} -1 EACCES"));
    }
}

/// A directory of files below one that only this user may enter, as a node keeps them.
fn bundle() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let tree = home.path().join("tree");
    fs::create_dir_all(tree.join("deep")).unwrap();
    for (name, text) in [("greeting", "hello"), ("deep/file", "1234567")] {
        fs::write(tree.join(name), text).unwrap();
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    for directory in ["deep", ""] {
        fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(home.path().join("secret"), "x").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    home
}

fn shown(home: &tempfile::TempDir) -> CString {
    CString::new(home.path().join("tree").into_os_string().into_encoded_bytes()).unwrap()
}

#[test]
fn a_process_reads_the_files_that_it_was_given_and_no_others() {
    let Some(program) = c_guest() else { return };
    let home = bundle();
    let outcome = run(program, &["bundled"], |spec| spec.files = Some(shown(&home)));
    assert_eq!(outcome.reason, DONE);
    for line in ["open 0 ok", "read 5 ok", "hello 0 ok", "stat 7 ok", "deep 1 ok", "file 2 ok", "mapped 0 ok"]
    {
        says(&outcome.stdout, line);
    }
    says(&outcome.stdout, "executable -1 EPERM");
    for what in ["write", "create", "create in root", "unlink", "mkdir"] {
        says(&outcome.stdout, &format!("{what} -1 EROFS"));
    }
    for path in [
        "missing",
        "/etc/passwd",
        "/proc/self/status",
        "/dev/null",
        "/app/../etc/passwd",
        "/app/../../app/secret",
    ] {
        says(&outcome.stdout, &format!("{path} -1 ENOENT"));
    }
}

#[test]
fn the_mount_of_files_gives_the_right_to_read_and_no_other() {
    let Some(program) = c_guest() else { return };
    let home = bundle();
    let mut guest = start(program, &["sleep"], |spec| spec.files = Some(shown(&home))).unwrap();
    guest.ready();
    let mounts = fs::read_to_string(guest.proc("mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 2, "{mounts}");
    assert!(mounts.contains(" / / ro,nosuid,nodev,noexec"), "{mounts}");
    assert!(mounts.contains("/tree /app ro,nosuid,nodev,noexec"), "{mounts}");
    assert!(
        !mounts.contains("master:") && !mounts.contains("shared:"),
        "nothing is mounted below it later: {mounts}"
    );
    assert_eq!(fs::read_dir(guest.proc("root/")).unwrap().count(), 1);
    let error =
        start(program, &["sleep"], |spec| spec.files = Some(c"/no/such/directory".to_owned())).unwrap_err();
    assert_eq!((error.step(), error.errno()), (Some(baton_replica::Step::OpenFiles), Some(Errno::NOENT)));
}

/// The filter hides the file system from the guest's own eyes, so these walls are looked at from outside.
#[test]
fn every_wall_stands_seen_from_outside() {
    let Some(program) = c_guest() else { return };
    let mut guest = start(program, &["sleep"], |_| {}).unwrap();
    guest.ready();
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts"] {
        let theirs = fs::read_link(guest.proc(&format!("ns/{namespace}"))).unwrap();
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(theirs, ours, "{namespace}");
    }
    assert_eq!(fs::read_dir(guest.proc("root/")).unwrap().count(), 0, "the root is empty");
    let mounts = fs::read_to_string(guest.proc("mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" / / ro,nosuid,nodev,noexec"), "{mounts}");
    let devices = fs::read_to_string(guest.proc("net/dev")).unwrap();
    let names: Vec<_> =
        devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert!(names.contains(&"lo"), "{devices}");
    assert_eq!(fs::read_to_string(guest.proc("net/route")).unwrap().lines().skip(1).count(), 0, "no routes");
    let map = fs::read_to_string(guest.proc("uid_map")).unwrap();
    let outside =
        if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
    let map: Vec<_> = map.split_whitespace().collect();
    assert_eq!(map, ["1000", &outside.to_string(), "1"]);
    let status = fs::read_to_string(guest.proc("status")).unwrap();
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        &format!("Uid:\t{outside}\t{outside}\t{outside}\t{outside}"),
    ] {
        says(&status, line);
    }
}

#[test]
fn a_process_creates_executes_and_connects_nothing() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["calls"], |_| {});
    assert_eq!(outcome.reason, DONE, "{}", outcome.stdout);
    for line in [
        "fork -1 EPERM",
        "vfork -1 EPERM",
        "clone -1 EPERM",
        "clone3 -1 ENOSYS",
        "execve -1 EPERM",
        "execveat -1 EBADF",
        "socket -1 EACCES",
        "socket-unix -1 EACCES",
        "memfd -1 EPERM",
        "ioctl -1 ENOTTY",
        "pdeathsig -1 EPERM",
        "rlimit -1 EPERM",
        "affinity -1 EPERM",
        "setuid -1 EPERM",
        "dup-high -1 EINVAL",
        "name 0 ok",
    ] {
        says(&outcome.stdout, line);
    }
}

#[test]
fn attacks_on_the_kernel_are_fatal() {
    let Some(program) = c_guest() else { return };
    for call in ["ptrace", "unshare", "io_uring_setup", "bpf", "process_vm_readv", "mount", "x32", "int80"] {
        let outcome = run(program, &["forbidden", call], |_| {});
        assert_eq!((outcome.reason, outcome.stdout.as_str()), (FORBIDDEN, ""), "{call}");
    }
}

#[test]
fn signals_reach_nobody_else() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["signals"], |_| {});
    says(&outcome.stdout, "stranger -1 EPERM");
    says(&outcome.stdout, "everybody -1 EPERM");
    says(&outcome.stdout, "probe 0 ok");
    says(&outcome.stdout, "pipe-default 1 ok");
    says(&outcome.stdout, "blocked 0 ok");
}

#[test]
fn threads_run_up_to_the_limit() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["threads"], |spec| spec.limits.processes = 8);
    says(&outcome.stdout, "ran 4 ok");
    says(&outcome.stdout, "more 7 ok");
}

#[test]
fn private_memory_ends_at_the_limit() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["memory"], |spec| spec.limits.memory_bytes = 32 << 20);
    let mib: u32 = outcome.stdout.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((24..=32).contains(&mib), "{}", outcome.stdout);
}

#[test]
fn shared_memory_counts_in_the_control_group() {
    let Some(program) = c_guest() else { return };
    if !probe().memory_groups.available {
        println!("SKIP: no writable memory control group");
        return;
    }
    let outcome = run(program, &["shared", "48"], |spec| {
        spec.limits = Limits { memory_bytes: 16 << 20, mapped_bytes: 16 << 20, ..Limits::default() };
    });
    assert_eq!((outcome.reason, outcome.stdout.as_str()), (ExitReason::OutOfMemory, "mapped 0 ok\n"));
}

#[test]
fn processor_time_is_bounded_by_the_control_group() {
    let Some(program) = c_guest() else { return };
    if !probe().cpu_groups.available {
        println!("SKIP: no writable processor control group");
        return;
    }
    let mut guest = start(program, &["spin"], |spec| spec.limits.cpu = Some(0.1)).unwrap();
    guest.ready();
    std::thread::sleep(std::time::Duration::from_millis(800));
    let stat = fs::read_to_string(guest.proc("stat")).unwrap();
    let user_ticks: u64 =
        stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse().unwrap();
    assert!(user_ticks < 30, "{user_ticks} of 80 ticks");
}

#[test]
fn the_control_socket_works_and_stdin_is_empty() {
    let Some(program) = c_guest() else { return };
    let guest = start(program, &["control"], |_| {}).unwrap();
    rustix::net::send(&guest.control, b"ping", rustix::net::SendFlags::empty()).unwrap();
    let mut word = [0u8; 16];
    let (_, length) = rustix::net::recv(&guest.control, &mut word, rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!(&word[..length], b"ping");
    says(&guest.finish().stdout, "stdin 0 ok");
}

#[test]
fn a_rust_program_runs_with_its_standard_library() {
    let Some(program) = rust_guest() else { return };
    let outcome = run(program, &["a b"], |_| {});
    assert_eq!((outcome.reason, outcome.stdout.as_str()), (DONE, "sum 10 args [\"guest\", \"a b\"]\n"));
    let outcome = run(program, &["panic"], |_| {});
    assert_eq!(outcome.reason, ExitReason::Exited { status: 101 });
    assert!(outcome.stdout.contains("as asked"), "{}", outcome.stdout);
}

#[test]
fn what_is_no_program_is_refused_with_a_reason() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let garbage = directory.join(format!("garbage-{}", std::process::id()));
    fs::write(&garbage, "no program at all").unwrap();
    let refused = |path: &std::path::Path| start(path, &[], |_| {}).expect_err("it cannot run");
    assert_eq!(refused(&garbage), SpawnError::Exec { errno: Errno::ACCESS }, "not executable");
    fs::set_permissions(&garbage, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(refused(&garbage), SpawnError::Exec { errno: Errno::NOEXEC });
    // A dynamically linked program asks for a loader, and there is no file system.
    let error = refused(std::path::Path::new("/bin/true"));
    assert_eq!(error, SpawnError::Exec { errno: Errno::NOENT });
    assert!(error.to_string().contains("statically"), "{error}");
    fs::remove_file(garbage).unwrap();
}

#[test]
fn without_a_sandbox_descriptors_and_limits_remain() {
    let Some(program) = c_guest() else { return };
    let outcome = run(program, &["descriptors"], |spec| spec.insecure_no_sandbox = true);
    assert_eq!((outcome.reason, outcome.stdout.as_str()), (DONE, "0 1 2 3 \n"));
    let outcome = run(program, &["memory"], |spec| {
        spec.insecure_no_sandbox = true;
        spec.limits.memory_bytes = 32 << 20;
    });
    assert!(outcome.stdout.starts_with("mib 2") || outcome.stdout.starts_with("mib 3"), "{}", outcome.stdout);
    let outcome = run(program, &["who"], |spec| spec.insecure_no_sandbox = true);
    assert!(!outcome.stdout.contains(" uid 0 "), "never the node's own privileges: {}", outcome.stdout);
}
