//! Networks that a test, a benchmark or a demonstration makes for itself, and that nobody else sees.
//!
//! ```text
//!   namespace 0          namespace 1          namespace n            one network namespace each
//!   10.77.0.1 eth0       10.77.0.2 eth0       10.77.0.n+1 eth0
//!        │                    │                    │                 pairs of virtual interfaces
//!   ┌────┴────────────────────┴────────────────────┴────┐
//!   │ hub: a bridge with 10.77.0.254, a namespace too   │
//!   └───────────────────────────────────────────────────┘
//! ```
//! Nothing of it is in the machine's own network, so that addresses and ports meet nobody else's, and traffic cannot leave.
//! Everything goes when the [`Net`] is dropped; what a killed program left behind goes with the next [`Net`] that is made.
//! Needs root and Debian's `iproute2`.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Most namespaces of one network, its hub not counted.
pub const MEMBERS_MAX: usize = 16;
/// Where `ip netns` keeps names of namespaces.
const NAMES: &str = "/run/netns";
const PREFIX: &str = "baton-";
const HUB_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

static MADE: AtomicU32 = AtomicU32::new(0);

/// Why a network could not be made or changed.
#[derive(Debug)]
pub enum NetError {
    /// The user is not root.
    NotRoot,
    /// A program is missing, or cannot be started.
    Program {
        /// Which one.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It did not do what it was told.
    Refused {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::NotRoot => f.write_str("network namespaces are made by root only"),
            NetError::Program { program, source } => {
                write!(f, "{program} cannot be started: {source}; Debian's iproute2 has it")
            }
            NetError::Refused { command, said } => write!(f, "`{command}`: {said}"),
        }
    }
}

impl std::error::Error for NetError {}

/// Network namespaces in a star.
#[derive(Debug)]
pub struct Net {
    name: String,
    members: usize,
}

impl Net {
    /// A network of `members` namespaces, up and reachable from each other.
    ///
    /// # Errors
    /// [`NetError`]; what was made of it is gone then.
    pub fn star(members: usize) -> Result<Net, NetError> {
        if !rustix::process::geteuid().is_root() {
            return Err(NetError::NotRoot);
        }
        sweep();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let net = Net {
            name: format!("{PREFIX}{}-{number}", std::process::id()),
            members: members.min(MEMBERS_MAX),
        };
        // Whatever fails from here on, the drop takes away what is there.
        net.make()?;
        Ok(net)
    }

    fn make(&self) -> Result<(), NetError> {
        let hub = self.hub();
        ip(["netns", "add", &hub])?;
        self.ip_in(&hub, ["link", "set", "lo", "up"])?;
        self.ip_in(&hub, ["link", "add", "bridge", "type", "bridge"])?;
        self.ip_in(&hub, ["address", "add", &format!("{HUB_ADDRESS}/24"), "dev", "bridge"])?;
        self.ip_in(&hub, ["link", "set", "bridge", "up"])?;
        for member in 0..self.members {
            let (name, port) = (self.namespace(member), port(member));
            ip(["netns", "add", &name])?;
            self.ip_in(&hub, ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            self.ip_in(&hub, ["link", "set", &port, "master", "bridge", "up"])?;
            self.ip_in(&name, ["link", "set", "lo", "up"])?;
            let address = format!("{}/24", self.address(member));
            self.ip_in(&name, ["address", "add", &address, "dev", "eth0"])?;
            self.ip_in(&name, ["link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// The name of the hub's namespace.
    #[must_use]
    pub fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    /// The name of a namespace, for `ip netns exec`.
    #[must_use]
    pub fn namespace(&self, member: usize) -> String {
        format!("{}-{member}", self.name)
    }

    /// The address of a namespace.
    #[must_use]
    pub fn address(&self, member: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(member + 1).unwrap_or(u8::MAX))
    }

    /// The address of the hub, which all namespaces reach whatever becomes of the others.
    #[must_use]
    pub fn hub_address(&self) -> Ipv4Addr {
        HUB_ADDRESS
    }

    /// `program`, to be started in a namespace.
    #[must_use]
    pub fn command(&self, member: usize, program: impl AsRef<OsStr>) -> Command {
        inside(&self.namespace(member), program)
    }

    /// `program`, to be started in the hub.
    #[must_use]
    pub fn hub_command(&self, program: impl AsRef<OsStr>) -> Command {
        inside(&self.hub(), program)
    }

    /// Moves the calling thread into the hub: its sockets, and those of threads that it starts, are there from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter_hub(&self) -> io::Result<()> {
        enter(&self.hub())
    }

    /// Runs `work` on a thread in a namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn inside<R: Send>(&self, member: usize, work: impl FnOnce() -> R + Send) -> io::Result<R> {
        let name = self.namespace(member);
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&name).map(|()| work()));
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Takes the namespaces away, as the drop does: for who ends without one. Processes in them keep theirs until they end.
    pub fn remove(&self) {
        let names = (0..self.members).map(|member| self.namespace(member)).chain([self.hub()]);
        for name in names {
            // One that was never made, or is gone, is not there to be removed.
            let _ = ip(["netns", "del", &name]);
        }
    }

    /// Pulls the cable of a namespace out, or puts it back. Nobody is told: packets are lost from here on.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn set_cable(&self, member: usize, is_in: bool) -> Result<(), NetError> {
        let wanted = if is_in { "up" } else { "down" };
        self.ip_in(&self.hub(), ["link", "set", &port(member), wanted])
    }

    /// Cuts one direction of a namespace's cable, or heals it: what others send does not arrive, what it sends does.
    ///
    /// # Errors
    /// [`NetError`].
    pub fn set_deaf(&self, member: usize, is_deaf: bool) -> Result<(), NetError> {
        // The bridge does not forward to a port that only listens.
        let state = if is_deaf { "off" } else { "on" };
        let (hub, port) = (self.hub(), port(member));
        let flags = ["flood", "mcast_flood", "bcast_flood", "learning"];
        for flag in flags {
            bridge_in(&hub, ["link", "set", "dev", &port, flag, state])?;
        }
        // What was learned would still be sent there.
        self.ip_in(&hub, ["link", "set", "dev", &port, "type", "bridge_slave", "fdb_flush"])
    }

    fn ip_in<const N: usize>(&self, namespace: &str, args: [&str; N]) -> Result<(), NetError> {
        let mut command = Command::new("ip");
        run(command.args(["-n", namespace]).args(args))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}

fn enter(namespace: &str) -> io::Result<()> {
    let file = std::fs::File::open(Path::new(NAMES).join(namespace))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn port(member: usize) -> String {
    format!("port{member}")
}

fn inside(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn ip<const N: usize>(args: [&str; N]) -> Result<(), NetError> {
    run(Command::new("ip").args(args))
}

fn bridge_in<const N: usize>(namespace: &str, args: [&str; N]) -> Result<(), NetError> {
    run(Command::new("bridge").args(["-n", namespace]).args(args))
}

fn run(command: &mut Command) -> Result<(), NetError> {
    let shown = || {
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = words.collect();
        format!("{} {}", command.get_program().to_string_lossy(), words.join(" "))
    };
    let shown = shown();
    let output = command.output().map_err(|source| NetError::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(NetError::Refused {
            command: shown,
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

/// Removes what programs that do not run any more have left.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(NAMES) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let is_left = owner
            .and_then(|owner| owner.parse::<u32>().ok())
            .is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists());
        if is_left {
            let _ = ip(["netns", "del", &name]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net() -> Option<Net> {
        match Net::star(2) {
            Ok(net) => Some(net),
            Err(error) => {
                println!("SKIP: no networks of a test's own here: {error}");
                None
            }
        }
    }

    fn reaches(net: &Net, from: usize, to: Ipv4Addr) -> bool {
        // bash speaks TCP by itself; a refused connection was an answer.
        let script = format!("exec 3<>/dev/tcp/{to}/9");
        let mut command = net.command(from, "timeout");
        let output = command.args(["1", "bash", "-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("refused")
    }

    #[test]
    fn members_reach_each_other_until_a_cable_is_pulled() {
        let Some(net) = net() else { return };
        assert!(reaches(&net, 0, net.address(1)) && reaches(&net, 1, net.hub_address()));
        net.set_cable(1, false).unwrap();
        assert!(!reaches(&net, 0, net.address(1)) && reaches(&net, 0, net.hub_address()));
        net.set_cable(1, true).unwrap();
        let healed = (0..20).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            reaches(&net, 0, net.address(1))
        });
        assert!(healed, "the cable is in again");
        net.set_deaf(1, true).unwrap();
        assert!(!reaches(&net, 0, net.address(1)), "nothing arrives there");
        assert!(!reaches(&net, 1, net.address(0)), "nor do answers");
        net.set_deaf(1, false).unwrap();
        assert!(reaches(&net, 0, net.address(1)) && reaches(&net, 1, net.address(0)));
    }

    #[test]
    fn nothing_of_it_stays() {
        let Some(net) = net() else { return };
        let names: Vec<String> = vec![net.namespace(0), net.namespace(1), net.hub()];
        assert!(names.iter().all(|name| Path::new(NAMES).join(name).exists()));
        drop(net);
        assert!(names.iter().all(|name| !Path::new(NAMES).join(name).exists()));
    }
}
