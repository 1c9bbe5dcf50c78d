//! Files, standard streams and descriptors.

use super::{BASE, Guest, SCRATCH, errno};
use crate::os::{Errno, IO_BYTES_MAX, PAGE};

const OUT: u64 = 1;
const ERR: u64 = 2;
const CWD: u64 = libc::AT_FDCWD as u64;

fn open(guest: &mut Guest, path: &str, flags: i32) -> i64 {
    let path = guest.text(path);
    guest.call(libc::SYS_openat, [CWD, path, flags as u64, 0])
}

fn read(guest: &mut Guest, fd: i64, len: u64) -> Vec<u8> {
    let got = guest.call(libc::SYS_read, [fd.cast_unsigned(), SCRATCH, len]);
    guest.host.peek(SCRATCH, usize::try_from(got).expect("is read"))
}

#[test]
fn output_goes_to_the_log_and_input_is_at_its_end() {
    let mut guest = Guest::new();
    let text = guest.text("hello");
    assert_eq!(guest.call(libc::SYS_write, [OUT, text, 5]), 5);
    assert_eq!(guest.call(libc::SYS_write, [ERR, text + 1, 3]), 3);
    guest.host.poke_words(SCRATCH, &[text, 2, 0, 0, text + 2, 3]);
    assert_eq!(guest.call(libc::SYS_writev, [OUT, SCRATCH, 3]), 5);
    assert_eq!(
        (guest.host.out.as_slice(), guest.host.err.as_slice()),
        (b"hellohello".as_slice(), b"ell".as_slice())
    );
    assert_eq!(guest.call(libc::SYS_read, [0, SCRATCH, 10]), 0);
    assert_eq!(guest.call(libc::SYS_read, [1, SCRATCH, 10]), errno(Errno::BADF));
    assert_eq!(guest.call(libc::SYS_write, [0, text, 5]), errno(Errno::BADF));
    assert_eq!(guest.call(libc::SYS_write, [3, text, 5]), errno(Errno::BADF));
    assert_eq!(guest.call(libc::SYS_ioctl, [1, libc::TCGETS, SCRATCH]), errno(Errno::NOTTY));
    assert_eq!(guest.call(libc::SYS_lseek, [1, 0, 1]), errno(Errno::SPIPE));
}

#[test]
fn output_that_is_too_much_or_partly_unreadable_is_cut() {
    let mut guest = Guest::new();
    let stack = BASE + 200 * PAGE;
    guest.call(libc::SYS_brk, [BASE + 40 * PAGE]);
    assert_eq!(guest.call(libc::SYS_write, [OUT, BASE + 9 * PAGE, 31 * PAGE]), IO_BYTES_MAX as i64);
    assert_eq!(guest.host.out.len(), IO_BYTES_MAX);
    assert_eq!(
        guest.call(libc::SYS_write, [OUT, stack + 6 * PAGE, 3 * PAGE]),
        2 * PAGE as i64,
        "runs off the stack"
    );
    for at in [0, stack - 1, BASE, u64::MAX, u64::MAX - 8, BASE - PAGE] {
        assert_eq!(guest.call(libc::SYS_write, [OUT, at, 16]), errno(Errno::FAULT), "{at:#x}");
    }
    assert_eq!(guest.call(libc::SYS_write, [OUT, 0, 0]), 0);
    assert_eq!(guest.call(libc::SYS_writev, [OUT, SCRATCH, 1025]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_writev, [OUT, SCRATCH, u64::MAX]), errno(Errno::INVAL));
    guest.host.poke_words(SCRATCH, &[stack, u64::MAX / 2, stack, u64::MAX / 2]);
    assert_eq!(guest.call(libc::SYS_writev, [OUT, SCRATCH, 2]), errno(Errno::INVAL), "the sum is negative");
    guest.host.poke_words(SCRATCH, &[stack, 8, 0, 8]);
    assert_eq!(guest.call(libc::SYS_writev, [OUT, SCRATCH, 2]), 8, "the second part is not there");
}

#[test]
fn files_of_the_function_can_be_read_and_nothing_else() {
    let mut guest = Guest::new();
    let fd = open(&mut guest, "/app/a/b/../b/./c", 0);
    assert_eq!(fd, 3);
    assert_eq!(read(&mut guest, fd, 2), b"se");
    assert_eq!(read(&mut guest, fd, 20), b"a");
    assert_eq!(read(&mut guest, fd, 20), b"");
    assert_eq!(guest.call(libc::SYS_pread64, [3, SCRATCH, 9, 1]), 2);
    assert_eq!(guest.call(libc::SYS_pread64, [3, SCRATCH, 9, u64::MAX]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_lseek, [3, u64::MAX, 2]), 2);
    assert_eq!(guest.call(libc::SYS_lseek, [3, u64::MAX - 9, 1]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_lseek, [3, i64::MAX as u64, 1]), errno(Errno::INVAL));
    guest.host.poke_words(SCRATCH + 64, &[SCRATCH, 1, SCRATCH + 8, 100]);
    assert_eq!(guest.call(libc::SYS_lseek, [3, 0, 0]), 0);
    assert_eq!(guest.call(libc::SYS_readv, [3, SCRATCH + 64, 2]), 3);
    assert_eq!(guest.call(libc::SYS_write, [3, SCRATCH, 1]), errno(Errno::BADF));
    for path in [
        "/app/a/x",
        "/etc/passwd",
        "/proc/self/maps",
        "/proc/self/mem",
        "/app/a/b/c/",
        "b",
        "/app/a/b.tx",
        "/app/a/b.txt0",
    ] {
        let expected = if path.ends_with('/') { Errno::NOTDIR } else { Errno::NOENT };
        assert_eq!(open(&mut guest, path, 0), errno(expected), "{path}");
    }
    assert_eq!(open(&mut guest, "", 0), errno(Errno::NOENT));
    assert_eq!(open(&mut guest, "/new", libc::O_CREAT | libc::O_WRONLY), errno(Errno::ROFS));
    assert_eq!(open(&mut guest, "/app/a/d", libc::O_RDWR), errno(Errno::ROFS));
    assert_eq!(open(&mut guest, "/app/a/d", libc::O_TRUNC), errno(Errno::ROFS));
    assert_eq!(open(&mut guest, "/app/a/d", libc::O_CREAT | libc::O_EXCL), errno(Errno::EXIST));
    assert_eq!(open(&mut guest, "/app/a/d", libc::O_DIRECTORY), errno(Errno::NOTDIR));
    assert_eq!(open(&mut guest, "/app/a", libc::O_WRONLY), errno(Errno::ISDIR));
}

#[test]
fn paths_are_bounded_and_may_end_at_the_last_byte_of_memory() {
    let mut guest = Guest::new();
    let end = BASE + 208 * PAGE;
    guest.host.poke(end - 7, b"/app/z\0");
    assert_eq!(guest.call(libc::SYS_open, [end - 7, 0, 0]), 3);
    assert_eq!(guest.call(libc::SYS_open, [end - 2, 0, 0]), errno(Errno::NOENT));
    guest.host.poke(end - 1, b"x");
    assert_eq!(guest.call(libc::SYS_open, [end - 7, 0, 0]), errno(Errno::FAULT));
    assert_eq!(guest.call(libc::SYS_open, [u64::MAX, 0, 0]), errno(Errno::FAULT));
    guest.host.poke(SCRATCH - 2048, &[b'/'; 4095]);
    assert_eq!(guest.call(libc::SYS_open, [SCRATCH - 2048, 0, 0]), 4, "the root");
    guest.host.poke(SCRATCH - 2048, &[b'/'; 5000]);
    assert_eq!(guest.call(libc::SYS_open, [SCRATCH - 2048, 0, 0]), errno(Errno::NAMETOOLONG));
}

#[test]
fn directories_list_what_is_in_them() {
    let mut guest = Guest::new();
    let names = |guest: &mut Guest, path: &str, space: u64| {
        let fd = open(guest, path, libc::O_DIRECTORY);
        let mut names = Vec::new();
        loop {
            let len = guest.call(libc::SYS_getdents64, [fd.cast_unsigned(), SCRATCH, space]);
            let mut bytes = guest.host.peek(SCRATCH, usize::try_from(len).expect("is listed"));
            if bytes.is_empty() {
                return names;
            }
            while !bytes.is_empty() {
                let record: Vec<u8> =
                    bytes.drain(..usize::from(u16::from_le_bytes([bytes[16], bytes[17]]))).collect();
                let name = record[19..].split(|&byte| byte == 0).next().unwrap();
                names.push((String::from_utf8(name.to_vec()).unwrap(), record[18]));
            }
        }
    };
    let (dir, file) = (libc::DT_DIR, libc::DT_REG);
    let entry = |name: &str, kind| (name.to_owned(), kind);
    assert_eq!(names(&mut guest, "/", 1000), [entry("app", dir)]);
    assert_eq!(names(&mut guest, "/app", 1000), [entry("a", dir), entry("z", file)]);
    assert_eq!(
        names(&mut guest, "/app/a", 32),
        [entry("b.txt", file), entry("b", dir), entry("d", file)],
        "one at a time"
    );
    assert_eq!(names(&mut guest, "app/a/b/", 1000), [entry("c", file)]);
    assert_eq!(guest.call(libc::SYS_getdents64, [3, SCRATCH, 8]), 0);
    let fd = open(&mut guest, "/app/a", 0).cast_unsigned();
    assert_eq!(guest.call(libc::SYS_getdents64, [fd, SCRATCH, 8]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_read, [fd, SCRATCH, 8]), errno(Errno::ISDIR));
    let path = guest.text("b/c");
    assert_eq!(guest.call(libc::SYS_openat, [fd, path, 0]), 8);
    assert_eq!(guest.call(libc::SYS_openat, [1, path, 0]), errno(Errno::NOTDIR));
    assert_eq!(guest.call(libc::SYS_openat, [99, path, 0]), errno(Errno::BADF));
}

#[test]
fn what_is_asked_of_files_is_told() {
    let mut guest = Guest::new();
    let mode = |guest: &mut Guest| u32::from_le_bytes(guest.host.peek(SCRATCH + 24, 4).try_into().unwrap());
    let path = guest.text("/app/a/d");
    assert_eq!(guest.call(libc::SYS_newfstatat, [CWD, path, SCRATCH, 0]), 0);
    assert_eq!((mode(&mut guest) & libc::S_IFMT, guest.host.peek_u64(SCRATCH + 48)), (libc::S_IFREG, 9000));
    assert_eq!(guest.call(libc::SYS_fstat, [1, SCRATCH]), 0);
    assert_eq!(mode(&mut guest) & libc::S_IFMT, libc::S_IFIFO);
    assert_eq!(guest.call(libc::SYS_statx, [CWD, path, 0, 0x7ff, SCRATCH]), 0);
    assert_eq!(guest.host.peek_u64(SCRATCH + 40), 9000);
    assert_eq!(guest.call(libc::SYS_faccessat, [CWD, path, libc::R_OK as u64]), 0);
    assert_eq!(guest.call(libc::SYS_access, [path, libc::W_OK as u64]), errno(Errno::ROFS));
    let empty = guest.text("");
    let flags = libc::AT_EMPTY_PATH as u64;
    assert_eq!(guest.call(libc::SYS_newfstatat, [2, empty, SCRATCH, flags]), 0, "as glibc does it");
    assert_eq!(guest.call(libc::SYS_statx, [2, 0, flags, 0x7ff, SCRATCH]), 0);
    assert_eq!(guest.call(libc::SYS_newfstatat, [2, empty, SCRATCH, 0]), errno(Errno::NOENT));
    assert_eq!(
        guest.call(libc::SYS_newfstatat, [CWD, path, BASE, 0]),
        errno(Errno::NOENT),
        "the path is gone"
    );
    let path = guest.text("/app/a");
    assert_eq!(guest.call(libc::SYS_stat, [path, BASE + PAGE]), errno(Errno::FAULT), "only readable");
    let path = guest.text("/proc/self/exe");
    assert_eq!(guest.call(libc::SYS_readlink, [path, SCRATCH, 64]), 9);
    assert_eq!(guest.host.peek(SCRATCH, 9), b"/function");
    assert_eq!(guest.call(libc::SYS_readlinkat, [CWD, path, SCRATCH, 4]), 4);
    assert_eq!(guest.call(libc::SYS_readlink, [path, SCRATCH, 0]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_getcwd, [SCRATCH, 64]), 2);
    assert_eq!(guest.host.peek(SCRATCH, 2), b"/\0");
}

#[test]
fn a_few_files_that_runtimes_look_for_are_there() {
    let mut guest = Guest::new();
    let zero = open(&mut guest, "/dev/zero", 0);
    assert_eq!(read(&mut guest, zero, 4), [0; 4]);
    let random = open(&mut guest, "/dev/urandom", 0);
    assert_eq!(read(&mut guest, random, 4), [0xa5; 4]);
    let null = open(&mut guest, "/dev/null", libc::O_RDWR).cast_unsigned();
    assert_eq!(guest.call(libc::SYS_write, [null, SCRATCH, 100]), 100);
    assert_eq!(guest.call(libc::SYS_read, [null, SCRATCH, 100]), 0);
    let online = open(&mut guest, "/sys/devices/system/cpu/online", 0);
    assert_eq!(read(&mut guest, online, 4), b"0\n");
}

#[test]
fn duplicates_share_where_they_are_and_descriptors_run_out() {
    let mut guest = Guest::new();
    open(&mut guest, "/app/a/b/c", 0);
    assert_eq!(guest.call(libc::SYS_dup, [3]), 4);
    assert_eq!(guest.call(libc::SYS_fcntl, [3, libc::F_DUPFD_CLOEXEC as u64, 10]), 10);
    assert_eq!(guest.call(libc::SYS_fcntl, [10, libc::F_GETFD as u64]), 1);
    assert_eq!(guest.call(libc::SYS_fcntl, [4, libc::F_GETFD as u64]), 0);
    assert_eq!(read(&mut guest, 3, 1), b"s");
    assert_eq!(guest.call(libc::SYS_close, [3]), 0);
    assert_eq!(guest.call(libc::SYS_close, [3]), errno(Errno::BADF));
    assert_eq!(read(&mut guest, 10, 1), b"e");
    assert_eq!(guest.call(libc::SYS_dup2, [10, 1]), 1);
    assert_eq!(guest.call(libc::SYS_write, [1, SCRATCH, 1]), errno(Errno::BADF), "the log is gone");
    assert_eq!(guest.call(libc::SYS_dup3, [10, 10, 0]), errno(Errno::INVAL));
    assert_eq!(guest.call(libc::SYS_dup2, [10, 256]), errno(Errno::BADF));
    assert_eq!(guest.call(libc::SYS_dup2, [10, u64::MAX]), errno(Errno::BADF));
    let opened = (0..1000).map(|_| open(&mut guest, "/app/a/b/c", 0)).filter(|fd| *fd >= 0).count();
    assert_eq!(opened, 256 - 5);
    assert_eq!(open(&mut guest, "/app/a/b/c", 0), errno(Errno::MFILE));
    assert_eq!(guest.call(libc::SYS_close_range, [3, u64::MAX, 0]), 0);
    assert_eq!(open(&mut guest, "/app/a/b/c", 0), 3);
}

#[test]
fn the_files_of_the_function_lie_below_one_directory() {
    let mut guest = Guest::new();
    for (path, expected) in [
        ("/a/d", Errno::NOENT),
        ("/apple", Errno::NOENT),
        ("/app/a/d/x", Errno::NOTDIR),
        ("/app/a/d/../x", Errno::NOENT),
        ("/app/a/e", Errno::NOENT),
        ("/app/z/", Errno::NOTDIR),
    ] {
        assert_eq!(open(&mut guest, path, 0), errno(expected), "{path}");
    }
    for (nth, path) in ["/app", "/app/", "/app/a/..", "app/../app/.", "/app/../../app/a"].iter().enumerate() {
        assert_eq!(open(&mut guest, path, libc::O_DIRECTORY), 3 + i64::try_from(nth).unwrap(), "{path}");
    }
    let up = guest.text("../z");
    assert_eq!(guest.call(libc::SYS_openat, [7, up, 0]), 8, "from a directory that is open");
    let mut config = super::fake::config();
    config.files = crate::bundle::Bundle::NONE;
    let mut guest = Guest::with(config);
    assert_eq!(open(&mut guest, "/app", 0), errno(Errno::NOENT), "a function without files");
    assert_eq!(open(&mut guest, "/", 0), 3);
    assert_eq!(guest.call(libc::SYS_getdents64, [3, SCRATCH, 1000]), 0);
}

#[test]
fn files_are_mapped_where_they_begin_and_end() {
    let mut guest = Guest::new();
    let fd = open(&mut guest, "/app/a/d", 0).cast_unsigned();
    let (read, private) = (libc::PROT_READ as u64, libc::MAP_PRIVATE as u64);
    let at = guest.call(libc::SYS_mmap, [0, 9000, read, private, fd, 0]).cast_unsigned();
    assert_eq!(guest.host.peek(at, 9001)[8999..], [7, 0]);
    let at = guest.call(libc::SYS_mmap, [0, PAGE, read, private, fd, 2 * PAGE]).cast_unsigned();
    assert_eq!(guest.host.peek(at, 1000)[807..809], [7, 0]);
    let both = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let shared = libc::MAP_SHARED as u64;
    assert_eq!(guest.call(libc::SYS_mmap, [0, PAGE, both, shared, fd, 0]), errno(Errno::ACCESS));
    assert_eq!(guest.call(libc::SYS_mmap, [0, PAGE, both | 4, private, fd, 0]), errno(Errno::ACCESS));
}
