//! What a sandboxed process is to be: plain data, no behaviour.
//!
//! The caller opens every descriptor itself: the program is executed by descriptor, and the process sees no file system at
//! all, or one directory that is named here.

use std::ffi::CString;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use crate::root::Root;

/// Everything that [`spawn`](crate::spawn()) needs to know about one process.
#[derive(Debug)]
pub struct SpawnSpec {
    /// The executable, a static (or static-PIE) ELF file, opened for reading.
    pub program: OwnedFd,
    /// The argument vector, with the program's name first.
    pub args: Vec<CString>,
    /// What it is for: which system calls it needs, and how its memory is bounded.
    pub role: Role,
    /// The environment, as `KEY=value`. Nothing of the caller's own environment is added.
    pub env: Vec<CString>,
    /// Becomes descriptor 3 of the process: its control socket.
    pub control: OwnedFd,
    /// Becomes descriptor 1. A pipe or a socket: the process may not grow files ([`Limits`] sets the file size to zero).
    pub stdout: OwnedFd,
    /// Becomes descriptor 2. A pipe or a socket, as for `stdout`.
    pub stderr: OwnedFd,
    /// A directory that the process sees, read-only, at [`baton_abi::boot::FILES_AT`], by its absolute path: a mount can
    /// only be made of what is reached inside the process's own mount namespace. `None` shows it no files. Without effect
    /// where there is no sandbox.
    pub files: Option<CString>,
    /// What the process sees of the machine, for [`Role::Program`]; nothing if absent. Without effect where there is no sandbox.
    pub root: Option<Root>,
    /// What the process may use at most.
    pub limits: Limits,
    /// Which network the process sees.
    pub network: NetworkAccess,
    /// Where the process listens in its own network before it becomes the program, for the node: `Child::take_doors`. Needs a
    /// network of its own; without effect where there is no sandbox.
    pub doors: Vec<SocketAddrV4>,
    /// The cores that the process may run on, by number; empty means all.
    pub cores: Vec<usize>,
    /// A name for people: host name inside the sandbox, part of the control group's name outside it.
    pub name: String,
    /// Starts the process without namespaces, Landlock and seccomp. Resource limits, descriptor hygiene and the death
    /// signal remain.
    pub insecure_no_sandbox: bool,
}

/// What a sandboxed process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// One replica of a function: an ordinary program.
    #[default]
    Replica,
    /// The template of a cell: trusted code that forks cells and walls itself and them in further. Each of these
    /// processes has [`Limits::memory_bytes`] of its own, and reserves far more address space than it uses.
    Template,
    /// A program in a language of its own: it starts others, opens files and sockets. One that forks copies of itself which have
    /// [`Limits::memory_bytes`] each says how many of them there are, itself included.
    Program {
        /// Such processes, 1 and up.
        copies: u32,
    },
}

/// Upper bounds of what one process may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Private memory (heap, anonymous mappings) in bytes. Also the bound of the control group, where there is one.
    pub memory_bytes: u64,
    /// Address space in bytes that shared mappings (the pool, the rings) need on top of `memory_bytes`.
    pub mapped_bytes: u64,
    /// Processor time in cores, e.g. `0.5`. `None` means unbounded. Held only where a control group is available.
    pub cpu: Option<f32>,
    /// How many threads the process may have at once, the first one included; for a template, how many processes.
    pub processes: u32,
    /// How many descriptors the process may have open, the four that it starts with included.
    pub files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, mapped_bytes: 0, cpu: None, processes: 16, files: 64 }
    }
}

/// Which network a process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NetworkAccess {
    /// An empty network namespace, and no right to create sockets.
    #[default]
    None,
    /// A network namespace of its own with the loopback device, and the right to create sockets: for [`Role::Program`].
    Loopback,
}
