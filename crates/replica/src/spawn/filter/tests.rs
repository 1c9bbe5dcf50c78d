//! The filter against a small interpreter of classic BPF, so that verdicts are checked without risking the test itself.

use super::assembler::Verdict;
use super::{replica, template};

const EXEC_NUMBER: i32 = 64;
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// Runs the replica's filter on one call.
fn decide(architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    run(&replica(EXEC_NUMBER, false), architecture, number, arguments)
}

fn run(program: &[libc::sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, architecture, 0, 0];
    for argument in arguments {
        data.push(u32::try_from(argument & 0xffff_ffff).unwrap());
        data.push(u32::try_from(argument >> 32).unwrap());
    }
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = program[at];
        at += 1;
        let skip = |yes: bool| usize::from(if yes { instruction.jt } else { instruction.jf });
        match instruction.code {
            0x20 => accumulator = data[instruction.k as usize / 4],
            0x54 => accumulator &= instruction.k,
            0x15 => at += skip(accumulator == instruction.k),
            0x35 => at += skip(accumulator >= instruction.k),
            0x06 => return instruction.k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

#[track_caller]
fn check(number: libc::c_long, arguments: &[u64], expect: Verdict) {
    check_with(&replica(EXEC_NUMBER, false), number, arguments, expect);
}

#[track_caller]
fn check_with(program: &[libc::sock_filter], number: libc::c_long, arguments: &[u64], expect: Verdict) {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let word = match expect {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(),
        Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    };
    let decided = run(program, X86_64, u32::try_from(number).unwrap(), all);
    assert_eq!(decided, word, "call {number} {arguments:?}");
}

const REFUSED: Verdict = Verdict::Errno(libc::EPERM);

#[test]
fn ordinary_calls_are_allowed() {
    for number in [libc::SYS_read, libc::SYS_futex, libc::SYS_mmap, libc::SYS_exit_group, libc::SYS_sendmsg] {
        check(number, &[], Verdict::Allow);
    }
}

#[test]
fn foreign_calling_conventions_are_killed() {
    assert_eq!(decide(I386, 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(decide(X86_64, 0x4000_0000, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn attacks_are_killed_and_the_unlisted_is_refused() {
    for number in
        [libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_io_uring_setup, libc::SYS_setns, libc::SYS_mount]
    {
        check(number, &[], Verdict::Kill);
    }
    for number in
        [libc::SYS_fork, libc::SYS_vfork, libc::SYS_execve, libc::SYS_memfd_create, libc::SYS_setuid]
    {
        check(number, &[], REFUSED);
    }
}

#[test]
fn only_threads_are_cloned() {
    let thread = u64::from((libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD).unsigned_abs());
    check(libc::SYS_clone, &[thread | u64::from(libc::CLONE_SETTLS.unsigned_abs())], Verdict::Allow);
    check(libc::SYS_clone, &[libc::SIGCHLD as u64], REFUSED);
    check(libc::SYS_clone, &[thread | u64::from(libc::CLONE_NEWNET.unsigned_abs())], REFUSED);
    check(libc::SYS_clone3, &[], Verdict::Errno(libc::ENOSYS));
}

#[test]
fn nothing_but_the_own_program_is_executed() {
    let number = EXEC_NUMBER as u64;
    let empty_path = libc::AT_EMPTY_PATH as u64;
    check(libc::SYS_execveat, &[number, 0, 0, 0, empty_path], Verdict::Allow);
    check(libc::SYS_execveat, &[4, 0, 0, 0, empty_path], REFUSED);
    check(libc::SYS_execveat, &[number, 0, 0, 0, 0], REFUSED);
}

#[test]
fn a_template_may_set_cells_up_and_attack_nobody() {
    let template = template(EXEC_NUMBER);
    let pagemap_scan = 0xc060_6610;
    for (number, arguments) in [
        (libc::SYS_pkey_alloc, &[][..]),
        (libc::SYS_pkey_mprotect, &[]),
        (libc::SYS_memfd_create, &[]),
        (libc::SYS_seccomp, &[]),
        (libc::SYS_pidfd_open, &[]),
        (libc::SYS_clone, &[libc::SIGCHLD as u64]),
        (libc::SYS_clone3, &[]),
        (libc::SYS_prctl, &[59]),
        (libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64]),
        (libc::SYS_fcntl, &[3, libc::F_ADD_SEALS as u64]),
        (libc::SYS_fcntl, &[3, libc::F_GETFL as u64]),
        (libc::SYS_ioctl, &[3, pagemap_scan]),
    ] {
        check_with(&template, number, arguments, Verdict::Allow);
    }
    check_with(&template, libc::SYS_clone, &[libc::CLONE_NEWUSER as u64], REFUSED);
    check_with(&template, libc::SYS_execve, &[], REFUSED);
    check_with(&template, libc::SYS_ioctl, &[3, 0x5401], Verdict::Errno(libc::ENOTTY));
    check_with(&template, libc::SYS_prctl, &[libc::PR_CAPBSET_DROP as u64], REFUSED);
    for number in
        [libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_userfaultfd, libc::SYS_io_uring_setup]
    {
        check_with(&template, number, &[], Verdict::Kill);
    }
}

#[test]
fn limits_are_read_and_not_set() {
    check(libc::SYS_prlimit64, &[0, 7, 0, 0x7fff_0000], Verdict::Allow);
    check(libc::SYS_prlimit64, &[0, 7, 0x7fff_0000, 0], REFUSED);
    check(libc::SYS_prlimit64, &[0, 7, 0x1_0000_0000, 0], REFUSED);
}

#[test]
fn descriptor_commands_and_names_are_chosen_one_by_one() {
    check(libc::SYS_fcntl, &[3, libc::F_DUPFD_CLOEXEC as u64], Verdict::Allow);
    check(libc::SYS_fcntl, &[3, libc::F_GET_SEALS as u64], Verdict::Allow);
    check(libc::SYS_fcntl, &[3, libc::F_SETOWN as u64], REFUSED);
    check(libc::SYS_prctl, &[libc::PR_SET_NAME as u64], Verdict::Allow);
    check(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64], REFUSED);
}

#[test]
fn signals_go_to_the_process_itself() {
    check(libc::SYS_tgkill, &[1, 5, 6], Verdict::Allow);
    check(libc::SYS_tgkill, &[2, 5, 6], REFUSED);
    check(libc::SYS_kill, &[u64::MAX, 9], REFUSED);
}

#[test]
fn who_has_files_reads_them_and_changes_nothing() {
    let check = |number, args: &[u64], expected| {
        check_with(&replica(EXEC_NUMBER, true), number, args, expected);
    };
    let read_only = Verdict::Errno(libc::EROFS);
    let at = libc::AT_FDCWD as u64;
    for flags in [0, libc::O_CLOEXEC, libc::O_DIRECTORY | libc::O_NONBLOCK, libc::O_NOFOLLOW] {
        check(libc::SYS_openat, &[at, 0, flags as u64], Verdict::Allow);
        check(libc::SYS_open, &[0, flags as u64], Verdict::Allow);
    }
    for flags in
        [libc::O_WRONLY, libc::O_RDWR, 3, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | libc::O_RDWR]
    {
        check(libc::SYS_openat, &[at, 0, flags as u64], read_only);
        check(libc::SYS_open, &[0, flags as u64], read_only);
    }
    check(libc::SYS_newfstatat, &[at, 0, 0, 0], Verdict::Allow);
    check(libc::SYS_getdents64, &[], Verdict::Allow);
    check(libc::SYS_unlinkat, &[], read_only);
    check(libc::SYS_openat2, &[], Verdict::Errno(libc::EACCES));
    check(libc::SYS_open_by_handle_at, &[], Verdict::Kill);
    check(libc::SYS_mount, &[], Verdict::Kill);
    check(libc::SYS_execve, &[], REFUSED);
    check(libc::SYS_socket, &[], Verdict::Errno(libc::EACCES));
}

#[test]
fn files_and_sockets_answer_as_if_there_were_none() {
    check(libc::SYS_openat, &[], Verdict::Errno(libc::EACCES));
    check(libc::SYS_socket, &[], Verdict::Errno(libc::EACCES));
    check(libc::SYS_readlink, &[], Verdict::Errno(libc::ENOENT));
    check(libc::SYS_ioctl, &[], Verdict::Errno(libc::ENOTTY));
    check(libc::SYS_newfstatat, &[3, 0, 0, libc::AT_EMPTY_PATH as u64], Verdict::Allow);
    check(libc::SYS_newfstatat, &[3, 0, 0, 0], Verdict::Errno(libc::ENOENT));
    check(libc::SYS_socketpair, &[libc::AF_UNIX as u64], Verdict::Allow);
    check(libc::SYS_socketpair, &[libc::AF_NETLINK as u64], Verdict::Errno(libc::EACCES));
}
