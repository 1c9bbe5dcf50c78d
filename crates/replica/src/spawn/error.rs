//! Why a process did not start: the failing step, the kernel's errno and what to do about it.

use std::fmt;

use rustix::io::Errno;

/// Declares [`Step`] with its wire code and its words in one place.
macro_rules! steps {
    ($($name:ident = $code:literal, $words:literal;)+) => {
        /// One step of starting a process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Step {
            $(#[doc = $words] $name = $code,)+
        }

        impl Step {
            /// The step that a child reported by number, if there is such a step.
            pub(crate) fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The step in words, to follow "cannot".
            #[must_use]
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)+
                }
            }
        }
    };
}

steps! {
    Prepare = 1, "prepare descriptors";
    Clone = 2, "create a process";
    UserMap = 3, "write the user map";
    GroupMap = 4, "write the group map";
    Handshake = 5, "talk to the new process";
    Groups = 6, "drop supplementary groups";
    Identity = 7, "become the unprivileged user";
    DeathSignal = 8, "tie the process to its node";
    Signals = 9, "reset signal handling";
    Descriptors = 10, "place descriptors";
    CloseOthers = 11, "close inherited descriptors";
    MountPrivate = 12, "make mounts private";
    MountRoot = 13, "create the empty root";
    MountAttach = 14, "attach the empty root";
    PivotRoot = 15, "enter the empty root";
    UnmountOld = 16, "detach the old root";
    HostName = 17, "set the host name";
    Session = 18, "leave the terminal's session";
    Affinity = 19, "pin the process to its cores";
    ResourceLimits = 20, "set resource limits";
    NoNewPrivileges = 21, "renounce new privileges";
    Capabilities = 22, "drop capabilities";
    LandlockRules = 23, "build the Landlock rules";
    Landlock = 24, "enter Landlock";
    Seccomp = 25, "enter the system-call filter";
    Exec = 26, "execute the program";
    OpenFiles = 27, "open the directory of the function's files";
    ShowFiles = 28, "mount the directory of the function's files";
    OpenRoot = 29, "open the machine's programs and libraries";
    FurnishRoot = 30, "furnish the root";
    ShowRoot = 31, "mount the machine's programs and libraries";
    Loopback = 32, "switch the loopback device on";
    OpenProgram = 33, "find the program in the sandbox";
    Doors = 40, "listen in the network of the process";
}

/// Why [`spawn`](crate::spawn()) failed. No process is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnError {
    /// The machine does not let the node create the namespaces that a sandbox consists of.
    NamespacesForbidden {
        /// The step that was refused.
        step: Step,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The machine is short of processes, memory or descriptors. Trying again later may work.
    Resources {
        /// The step that ran short.
        step: Step,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The empty root file system could not be set up.
    Mount {
        /// Which of the mount steps failed.
        step: Step,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The process could not give up a privilege, take a limit or place a descriptor.
    Setup {
        /// The step that failed.
        step: Step,
        /// The kernel's reason.
        errno: Errno,
    },
    /// Landlock is there but refused the rules.
    Landlock {
        /// The step that failed.
        step: Step,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The system-call filter was refused.
    Seccomp {
        /// The kernel's reason.
        errno: Errno,
    },
    /// The kernel would not execute the program.
    Exec {
        /// The kernel's reason.
        errno: Errno,
    },
    /// The program is not where it should be in the root of its own.
    NoProgram {
        /// The kernel's reason.
        errno: Errno,
    },
    /// The new process died before it executed the program, without saying why.
    Died,
}

impl SpawnError {
    /// Sorts a failed step into the variant that tells the caller what to do.
    pub(crate) fn at(step: Step, errno: Errno) -> Self {
        let refused = matches!(errno, Errno::PERM | Errno::ACCESS);
        match step {
            Step::Clone if matches!(errno, Errno::AGAIN | Errno::NOMEM) => Self::Resources { step, errno },
            Step::Clone => Self::NamespacesForbidden { step, errno },
            Step::UserMap | Step::GroupMap if refused => Self::NamespacesForbidden { step, errno },
            // Some distributions let a user namespace be created and then refuse whatever is done in it.
            Step::MountPrivate if refused => Self::NamespacesForbidden { step, errno },
            Step::MountPrivate | Step::MountRoot | Step::MountAttach | Step::PivotRoot | Step::UnmountOld => {
                Self::Mount { step, errno }
            }
            Step::Prepare if matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                Self::Resources { step, errno }
            }
            Step::OpenFiles | Step::ShowFiles | Step::OpenRoot | Step::FurnishRoot | Step::ShowRoot => {
                Self::Mount { step, errno }
            }
            Step::OpenProgram => Self::NoProgram { errno },
            Step::LandlockRules | Step::Landlock => Self::Landlock { step, errno },
            Step::Seccomp => Self::Seccomp { errno },
            Step::Exec => Self::Exec { errno },
            _ => Self::Setup { step, errno },
        }
    }

    /// The step that failed; `None` if the process died without a word.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::NamespacesForbidden { step, .. }
            | Self::Resources { step, .. }
            | Self::Mount { step, .. }
            | Self::Setup { step, .. }
            | Self::Landlock { step, .. } => Some(*step),
            Self::Seccomp { .. } => Some(Step::Seccomp),
            Self::Exec { .. } => Some(Step::Exec),
            Self::NoProgram { .. } => Some(Step::OpenProgram),
            Self::Died => None,
        }
    }

    /// The kernel's reason, if it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::NamespacesForbidden { errno, .. }
            | Self::Resources { errno, .. }
            | Self::Mount { errno, .. }
            | Self::Setup { errno, .. }
            | Self::Landlock { errno, .. }
            | Self::Seccomp { errno }
            | Self::Exec { errno }
            | Self::NoProgram { errno } => Some(*errno),
            Self::Died => None,
        }
    }

    /// What the person who runs the node can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NamespacesForbidden { .. } => {
                "allow user namespaces (sysctl user.max_user_namespaces > 0, \
                 kernel.apparmor_restrict_unprivileged_userns = 0, a container profile that permits clone3), \
                 or accept unprotected functions with --insecure-no-sandbox"
            }
            Self::Resources { .. } => {
                "try again later, or raise the limits on processes, memory and descriptors"
            }
            Self::Mount { .. } => {
                "run the node from an ordinary root file system (not from an initial ramdisk or a bare chroot)"
            }
            Self::Setup { .. } => "see `baton doctor` for what this machine offers",
            Self::Landlock { .. } => {
                "boot with Landlock complete (lsm=landlock,...) or without it altogether"
            }
            Self::Seccomp { .. } => "use a kernel with CONFIG_SECCOMP_FILTER",
            Self::Exec { errno } => exec_remedy(*errno),
            Self::NoProgram { .. } => {
                "install the interpreter on this machine, where everybody may read and execute it"
            }
            Self::Died => {
                "look into the kernel's log for an out-of-memory kill, and raise the function's memory"
            }
        }
    }
}

/// What to do about a program that the kernel will not execute.
fn exec_remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::NOEXEC => "give the function a static ELF executable for this machine's architecture",
        Errno::NOENT => {
            "link the program statically (it asks for an interpreter or a dynamic loader, \
             and there is no file system in the sandbox)"
        }
        Errno::ACCESS => "make the artifact executable, on a file system that is not mounted noexec",
        Errno::NOMEM | Errno::TOOBIG => "raise the function's memory",
        _ => "check that the artifact is a complete static ELF executable",
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step(), self.errno()) {
            (Some(step), Some(errno)) => write!(f, "cannot {}: {errno}", step.words())?,
            _ => f.write_str("the new process died before it executed the program")?,
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for SpawnError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in 1..=Step::OpenProgram as u32 {
            let step = Step::from_code(code).expect("codes are dense");
            assert_eq!(step as u32, code);
        }
        assert_eq!(Step::from_code(0), None);
        assert_eq!(Step::from_code(Step::OpenProgram as u32 + 1), None);
    }

    #[test]
    fn refused_user_namespaces_name_the_way_out() {
        for errno in [Errno::PERM, Errno::NOSPC, Errno::NOSYS, Errno::INVAL] {
            let error = SpawnError::at(Step::Clone, errno);
            assert_eq!(error, SpawnError::NamespacesForbidden { step: Step::Clone, errno });
            assert!(error.to_string().contains("--insecure-no-sandbox"), "{error}");
        }
        assert!(matches!(SpawnError::at(Step::Clone, Errno::AGAIN), SpawnError::Resources { .. }));
    }
}
