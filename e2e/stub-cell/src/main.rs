//! A stand-in for `baton-cell`: it speaks the same messages and hosts no guests. What a function "does" is the word in its
//! first argument:
//!
//! | word | what happens |
//! |---|---|
//! | `echo` | every request is answered with the first eight bytes of the function's name |
//! | `forgets` | as `echo`, but it refuses its own snapshots |
//! | `cannot-load` | loading it fails, with a reason |
//! | `template-exits` | loading it ends the template |
//! | `never-loads` | loading it takes for ever |
//! | `never-ready` | its cells never say that they are ready |
//! | `dies` | a request ends its cell |
//! | `lies` | a request is answered with payloads that are not there |
//! | `faults` | a request is a fault: reported, and answered with a failure |
//! | `talks` | a request is two lines in its log |

// UNSAFETY: takes ownership of the inherited control descriptor, and forks.

mod cell;
mod wire;

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use baton_abi::boot::CONTROL_FD;
use baton_abi::cell::{FromCell, Load, Setup, ToTemplate};
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_abi::{ABI_VERSION, plan};
use baton_pool::Placed;
use baton_pool::capability::{CapabilityTable, Entry};
use baton_pool::region::{Access, Mapping};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};

/// A function of the plan.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) word: String,
}

/// A template.
pub(crate) struct Template {
    pub(crate) control: OwnedFd,
    pub(crate) table: CapabilityTable,
    pub(crate) functions: Vec<Function>,
}

#[expect(unsafe_code, reason = "the control socket is inherited by number")]
fn main() {
    // SAFETY: the node leaves the control socket at this number; it is taken once.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    let Some((ToTemplate::Setup(setup), fds)) = wire::order(&control, true) else {
        panic!("the first order is no set-up")
    };
    assert_eq!(setup.abi_version, ABI_VERSION);
    assert_eq!(std::env::vars().count(), 1, "more than the tunables of glibc");
    let template = set_up(control, &setup, fds).expect("a set-up");
    loop {
        match wire::order(&template.control, false) {
            Some((ToTemplate::Load(load), fds)) => template.load(&load, fds),
            Some((ToTemplate::Fork(fork), fds)) => template.fork(&fork, fds),
            Some((ToTemplate::Setup(_), _)) => panic!("a second set-up"),
            None => template.reap(),
        }
    }
}

fn set_up(control: OwnedFd, setup: &Setup, fds: Vec<OwnedFd>) -> Option<Template> {
    let mut fds = fds.into_iter();
    let plan = Mapping::new(fds.next()?, setup.plan_bytes as usize, Access::Read).ok()?;
    let mut bytes = vec![0; setup.plan_bytes as usize];
    plan.read(0, &mut bytes);
    let functions = plan::entries(&bytes).map(|entry| {
        let word = entry.args.iter().nth(1).unwrap_or_default();
        let (name, word) = (entry.name.to_owned(), String::from_utf8_lossy(word).into_owned());
        Function { name, word }
    });
    let functions: Vec<Function> = functions.collect();
    assert_eq!(functions.len(), setup.functions as usize);
    if setup.pool_bytes > 0 {
        fds.next()?;
    }
    let (_ledger, table) = (fds.next()?, fds.next()?);
    assert!(fds.next().is_none());
    let entries = setup.slots + REPLICAS_MAX * DERIVED_MAX;
    let table = Arc::new(Mapping::new(table, entries as usize * 64, Access::ReadWrite).ok()?);
    let table = CapabilityTable::new(Placed::<Entry>::mapped(&table, 0, entries as usize)?);
    Some(Template { control, table, functions })
}

impl Template {
    fn load(&self, load: &Load, fds: Vec<OwnedFd>) {
        let index = load.index;
        let function = &self.functions[index as usize];
        let has_files = load.files_bytes > 0;
        assert_eq!(fds.len(), 1 + usize::from(has_files) + usize::from(load.has_snapshot));
        assert_eq!(rustix::fs::fstat(&fds[0]).unwrap().st_size as u64, load.elf_bytes);
        let say = |message, text: &str, fds: &[_]| wire::say(&self.control, message, text.as_bytes(), fds);
        if has_files {
            assert_eq!(rustix::fs::fstat(&fds[1]).unwrap().st_size as u64, load.files_bytes);
            let mut found = [0; 64];
            let read = rustix::io::pread(&fds[1], &mut found, 0).unwrap();
            let text = format!("its files: {}", String::from_utf8_lossy(&found[..read]));
            say(FromCell::Log { seat: index, stream: 2 }, &text, &[]);
        }
        match function.word.as_str() {
            "cannot-load" => {
                return say(FromCell::Failed { index }, "no such instruction; use another compiler", &[]);
            }
            "template-exits" => std::process::exit(9),
            "never-loads" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => {}
        }
        if load.has_snapshot && function.word == "forgets" {
            return say(FromCell::Failed { index }, "a snapshot of somebody else", &[]);
        }
        if load.has_snapshot {
            let mut found = [0; 64];
            let read = rustix::io::pread(&fds[1 + usize::from(has_files)], &mut found, 0).unwrap();
            assert_eq!(&found[..read], function.name.as_bytes(), "another's snapshot");
            say(FromCell::Log { seat: index, stream: 2 }, "from its snapshot", &[]);
            return say(FromCell::Loaded { index, load_ns: 1, snapshot_bytes: 0 }, "", &[]);
        }
        let snapshot =
            rustix::fs::memfd_create("stub", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::io::write(&snapshot, function.name.as_bytes()).unwrap();
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
        rustix::fs::fcntl_add_seals(&snapshot, seals).unwrap();
        let snapshot_bytes = function.name.len() as u64;
        say(FromCell::Loaded { index, load_ns: 1, snapshot_bytes }, "", &[snapshot.as_fd()]);
    }

    /// Tells of cells that have ended.
    fn reap(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let ended = match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => (1, status),
                (None, signal) => (2, signal.unwrap_or_default()),
            };
            let cell = cell::number_of(pid);
            wire::say(&self.control, FromCell::Ended { cell, code: ended.0, status: ended.1 }, b"", &[]);
        }
        std::thread::sleep(Duration::from_micros(300));
    }

    #[expect(unsafe_code, reason = "forks")]
    fn fork(&self, fork: &baton_abi::cell::Fork, fds: Vec<OwnedFd>) {
        // SAFETY: single-threaded; the child goes on as a copy of this process.
        match Pid::from_raw(unsafe { libc::fork() }) {
            None => cell::run(self, fork, fds),
            Some(pid) => {
                cell::remember(pid, fork.cell);
                let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
                wire::say(&self.control, FromCell::Forked { cell: fork.cell }, b"", &[pidfd.as_fd()]);
            }
        }
    }
}
