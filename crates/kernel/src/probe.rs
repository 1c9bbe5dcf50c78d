//! Whether the kernel can hand over on this machine.

use std::fmt;
use std::io;
use std::path::Path;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use baton_abi::packet::{Op, PACKET_BYTES, Packet};
use baton_abi::{Descriptor, Kind};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::plane::{KernelError, Plane, Seat, Setup};

/// Where the kernel says what its structures look like.
const TYPES: &str = "/sys/kernel/btf/vmlinux";
/// More packets than may wait unread at one socket.
const FLOOD: u32 = 16_000;

/// Why the kernel cannot hand over here, in words for people.
#[derive(Debug)]
pub enum Unsupported {
    /// The process may not load programs into the kernel.
    Privileges,
    /// The kernel does not say what its structures look like.
    Types,
    /// The kernel does not account for what waits at a socket, so that nothing would bound it.
    Unbounded,
    /// Packets do not arrive.
    Silent,
    /// Anything else: what the kernel said.
    Kernel(KernelError),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsupported::Privileges => f.write_str(
                "loading programs into the kernel needs root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN",
            ),
            Unsupported::Types => {
                write!(f, "{TYPES} is missing: the kernel was built without CONFIG_DEBUG_INFO_BTF")
            }
            Unsupported::Unbounded => f.write_str(
                "the kernel does not account for messages that wait at a socket of a sockmap (Linux 6.13 and newer do)",
            ),
            Unsupported::Silent => f.write_str("messages that the program redirects do not arrive"),
            Unsupported::Kernel(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unsupported {}

/// Tries it: loads the program for a moment, hands nothing over between two sockets of its own, and floods one.
///
/// # Errors
/// Why it does not work.
pub fn probe() -> Result<(), Unsupported> {
    if !Path::new(TYPES).exists() {
        return Err(Unsupported::Types);
    }
    let seat = Seat { holder: 1, arena: 0 };
    let mut plane = Plane::load(Setup { slots: 1, arenas: 1, edges: 1 }).map_err(explain)?;
    let ends = plane.join(seat).map_err(explain)?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let wake = bytes(&Packet::new(Op::Wake, Descriptor::new(Kind::Cancel)));
    for sent in 0..FLOOD {
        // What is refused goes to the other end, which is full at some time; a socket that was closed is no answer.
        match send(&ends.replica, &wake, flags) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(explain(KernelError::Network(errno.into()))),
        }
        if sent == 0 {
            let mut back = [0; PACKET_BYTES];
            match recv(&ends.replica, &mut back, RecvFlags::DONTWAIT) {
                Ok((PACKET_BYTES, _)) if back == wake => {}
                _ => return Err(Unsupported::Silent),
            }
        }
    }
    let mut back = [0; PACKET_BYTES];
    match recv(&ends.node, &mut back, RecvFlags::DONTWAIT) {
        Ok((1.., _)) => Ok(()),
        _ => Err(Unsupported::Unbounded),
    }
}

fn bytes(packet: &Packet) -> [u8; PACKET_BYTES] {
    let mut bytes = [0; PACKET_BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(packet.to_words()) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn explain(error: KernelError) -> Unsupported {
    if is_about_privileges(&error) { Unsupported::Privileges } else { Unsupported::Kernel(error) }
}

/// Whether anything below says that it was not permitted.
fn is_about_privileges(error: &KernelError) -> bool {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        let io = match (error.downcast_ref::<io::Error>(), error.downcast_ref::<EbpfError>()) {
            (Some(io), _) => Some(io),
            (_, Some(EbpfError::MapError(MapError::CreateError { io_error, .. }))) => Some(io_error),
            _ => match error.downcast_ref::<ProgramError>() {
                Some(ProgramError::LoadError { io_error, .. }) => Some(io_error),
                _ => None,
            },
        };
        if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        at = error.source();
    }
    false
}
