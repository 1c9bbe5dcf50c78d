//! What a program in a language of its own can see and do, asked by Python from inside.

#![allow(clippy::unwrap_used, reason = "a test")]

mod guest;

use std::ffi::CString;
use std::path::Path;

use baton_replica::interpreter::{Interpreter, python};
use baton_replica::{ExitReason, NetworkAccess, Role, Root, SpawnSpec};
use guest::{Outcome, run};

const DONE: ExitReason = ExitReason::Exited { status: 0 };
/// Processes that a program may have in these tests.
const PROCESSES: u32 = 24;
const TMP_BYTES: u64 = 4 << 20;

/// Python, or `None` where there is none.
fn interpreter() -> Option<Interpreter> {
    let found = python(None);
    if let Err(error) = &found {
        println!("SKIP: {error}");
    }
    found.ok()
}

/// Runs a script of Python in a sandbox.
fn ask(script: &str, change: impl FnOnce(&mut SpawnSpec)) -> Option<Outcome> {
    let interpreter = interpreter()?;
    let mut root = Root::of_machine(TMP_BYTES).unwrap();
    interpreter.show_in(&mut root).unwrap();
    let root = root.running(&interpreter.path).unwrap();
    let text = |text: &str| CString::new(text).unwrap();
    let args = vec![text(interpreter.path.to_str().unwrap()), text("-c"), text(script)];
    Some(run(&interpreter.path, &[], |spec| {
        spec.args = args;
        spec.root = Some(root);
        spec.role = Role::Program { copies: 1 };
        spec.network = NetworkAccess::Loopback;
        spec.limits.processes = PROCESSES;
        spec.limits.memory_bytes = 256 << 20;
        spec.limits.files = 64;
        change(spec);
    }))
}

/// A script's tail that says how each attempt ended: its name, and `ok` or the error's name.
const TRY: &str = r#"
import errno, os
def attempt(name, do):
    try:
        do()
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error.errno))
    except Exception as error:
        print(name, type(error).__name__)
"#;

#[track_caller]
fn check(script: &str, expect: &[&str]) {
    let Some(outcome) = ask(&format!("{TRY}{script}"), |_| {}) else { return };
    let said: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!((outcome.reason, said), (DONE, expect.to_vec()), "{}", outcome.stdout);
}

#[test]
fn the_machines_files_are_its_programs_and_libraries() {
    check(
        r#"
import json, ssl, sqlite3, socket, sys
print(sorted(os.listdir("/")) == sorted(set(os.listdir("/")) & {"app","bin","dev","etc","lib","lib32","lib64","libx32","opt","proc","root","sbin","tmp","usr"}))
for path in ["/etc/shadow", "/etc/ssl/private", "/etc/ssh", "/etc/hostname", "/var", "/home", "/run", "/sys", "/boot", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/tty", "/proc/sys", "/proc/kcore", "/proc/mounts.x", "/proc/kallsyms"]:
    attempt(path, lambda: os.stat(path))
print(os.getuid(), os.getpid(), os.listdir("/app"), open("/etc/hosts").read().split()[0])
"#,
        &[
            "True",
            "/etc/shadow ENOENT",
            "/etc/ssl/private ENOENT",
            "/etc/ssh ENOENT",
            "/etc/hostname ENOENT",
            "/var ENOENT",
            "/home ENOENT",
            "/run ENOENT",
            "/sys ENOENT",
            "/boot ENOENT",
            "/dev/sda ENOENT",
            "/dev/mem ENOENT",
            "/dev/kmsg ENOENT",
            "/dev/tty ENOENT",
            "/proc/sys ENOENT",
            "/proc/kcore ENOENT",
            "/proc/mounts.x ENOENT",
            "/proc/kallsyms ENOENT",
            "1000 1 [] 127.0.0.1",
        ],
    );
}

#[test]
fn nothing_can_be_written_but_below_tmp_and_that_is_bounded() {
    check(
        r#"
# Mounts and Landlock each say no, in words of their own.
refused = ("EROFS", "EACCES", "EPERM")
say = print
def print(*words): say(*("refused" if word in refused else word for word in words))
for path in ["/x", "/app/x", "/etc/passwd", "/usr/x", "/usr/bin/python3", "/opt/x", "/dev/x", "/proc/self/mem", "/proc/1/comm"]:
    attempt(path, lambda: open(path, "ab").close())
attempt("write", lambda: open("/tmp/x", "w").write("hello"))
attempt("null", lambda: open("/dev/null", "wb").write(b"x"))
def fill():
    with open("/tmp/big", "wb") as file:
        for _ in range(64): file.write(bytes(1 << 20)); file.flush()
attempt("fill", fill)
print(os.stat("/tmp/big").st_size <= 4 << 20)
os.unlink("/tmp/big")
def many():
    for number in range(10_000): open(f"/tmp/f{number}", "w").close()
attempt("many", many)
attempt("device", lambda: os.mknod("/tmp/d", 0o600 | 0o020000, os.makedev(1, 1)))
"#,
        &[
            "/x refused",
            "/app/x refused",
            "/etc/passwd refused",
            "/usr/x refused",
            "/usr/bin/python3 refused",
            "/opt/x ENOENT",
            "/dev/x refused",
            "/proc/self/mem refused",
            "/proc/1/comm refused",
            "write ok",
            "null ok",
            "fill ENOSPC",
            "True",
            "many ENOSPC",
            "device refused",
        ],
    );
}

#[test]
fn there_is_no_way_to_more_rights_or_to_other_processes() {
    check(
        r#"
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    if libc.syscall(*[ctypes.c_long(a) for a in args]) < 0: raise OSError(ctypes.get_errno(), "")
NEWUSER, NEWNS, NEWNET = 0x10000000, 0x20000, 0x40000000
calls = {
    "unshare-user": (272, NEWUSER), "unshare-mount": (272, NEWNS), "unshare-net": (272, NEWNET),
    "clone-user": (56, NEWUSER | 17, 0, 0, 0, 0), "clone3": (435, 0, 0), "setns": (308, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0), "umount": (166, 0, 0), "pivot": (155, 0, 0), "chroot": (161, 0),
    "fsopen": (430, 0, 0), "open_tree": (428, 0, 0, 0), "mount_setattr": (442, 0, 0, 0, 0, 0),
    "ptrace": (101, 16, 1, 0, 0), "process_vm_readv": (310, 1, 0, 0, 0, 0, 0), "pidfd_getfd": (438, 0, 0, 0),
    "bpf": (321, 0, 0, 0), "io_uring": (425, 1, 0), "userfaultfd": (323, 0), "perf": (298, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, 0), "add_key": (248, 0, 0, 0, 0, 0), "kexec": (246, 0, 0, 0, 0), "module": (175, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0), "setuid": (105, 0), "setgroups": (116, 0, 0), "sethostname": (170, 0, 0),
    "deathsig": (157, 1, 0, 0, 0, 0), "seccomp": (317, 0, 0, 0),
}
for name, args in calls.items():
    attempt(name, lambda: call(*args))
attempt("signal", lambda: os.kill(2, signal.SIGKILL))
print(sorted(name for name in os.listdir("/proc") if name.isdigit()) in (["1"], []))
print(open("/proc/self/status").read().count("CapEff:\t0000000000000000"))
"#,
        &[
            "unshare-user EPERM",
            "unshare-mount EPERM",
            "unshare-net EPERM",
            "clone-user EPERM",
            "clone3 ENOSYS",
            "setns EPERM",
            "mount EPERM",
            "umount EPERM",
            "pivot EPERM",
            "chroot EPERM",
            "fsopen EPERM",
            "open_tree EPERM",
            "mount_setattr EPERM",
            "ptrace EPERM",
            "process_vm_readv EPERM",
            "pidfd_getfd EPERM",
            "bpf ENOSYS",
            "io_uring ENOSYS",
            "userfaultfd ENOSYS",
            "perf ENOSYS",
            "keyctl EPERM",
            "add_key EPERM",
            "kexec EPERM",
            "module EPERM",
            "reboot EPERM",
            "setuid EPERM",
            "setgroups EPERM",
            "sethostname EPERM",
            "deathsig EPERM",
            "seccomp EPERM",
            "signal ESRCH",
            "True",
            "1",
        ],
    );
}

#[test]
fn its_network_is_its_own_loopback() {
    check(
        r#"
import socket
server = socket.create_server(("127.0.0.1", 0))
attempt("loopback", lambda: socket.create_connection(server.getsockname(), 5))
def away(address, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(5); s.connect(address)
attempt("away", lambda: away(("10.0.0.1", 80)))
attempt("public", lambda: away(("93.184.215.14", 443)))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).bind("/tmp/s"))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet", lambda: socket.socket(17, socket.SOCK_RAW, 0))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("name", lambda: socket.getaddrinfo("example.org", 443))
"#,
        &[
            "loopback ok",
            "away ENETUNREACH",
            "public ENETUNREACH",
            "unix ok",
            "raw EPERM",
            "packet EAFNOSUPPORT",
            "netlink EAFNOSUPPORT",
            "vsock EAFNOSUPPORT",
            "name EAI_AGAIN",
        ]
        .map(|line| if line == "name EAI_AGAIN" { "name -3" } else { line }),
    );
}

#[test]
fn programs_and_threads_run_and_a_fork_bomb_is_bounded() {
    check(
        r#"
import subprocess, threading, multiprocessing, tempfile
print(subprocess.run(["sh", "-c", "echo from a shell"], capture_output=True, text=True).stdout.strip())
done = []
thread = threading.Thread(target=lambda: done.append(1)); thread.start(); thread.join(); print(done)
with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))
children = []
try:
    for _ in range(1000):
        child = os.fork()
        if child == 0:
            import time; time.sleep(60); os._exit(0)
        children.append(child)
except OSError as error:
    print("bomb", errno.errorcode[error.errno], len(children) < 24)
"#,
        &["from a shell", "[1]", "[1, 2]", "bomb EAGAIN True"],
    );
}

#[test]
fn memory_is_bounded_and_python_hears_of_it() {
    check(
        "attempt(\"memory\", lambda: bytearray(1 << 30))\nattempt(\"some\", lambda: bytearray(64 << 20))",
        &["memory MemoryError", "some ok"],
    );
}

#[test]
fn a_missing_program_is_named() {
    let Some(found) = interpreter() else { return };
    let root = Root::of_machine(TMP_BYTES).unwrap().running(Path::new("/usr/bin/no-such-python")).unwrap();
    let (mut spec, _control, _output) = guest::spec(&found.path, &[]);
    (spec.root, spec.role) = (Some(root), Role::Program { copies: 1 });
    let error = baton_replica::spawn(spec).unwrap_err();
    assert!(error.to_string().contains("find the program in the sandbox"), "{error}");
}
