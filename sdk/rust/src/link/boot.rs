//! The control socket: mappings and edges come from here.

// UNSAFETY: takes ownership of the inherited control descriptor.
#![expect(unsafe_code, reason = "the control socket is inherited by number")]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use baton_abi::ABI_VERSION;
use baton_abi::boot::{CONTROL_FD, Hello, MESSAGE_BYTES, MESSAGE_FDS_MAX, Message, PoolAccess, READY};
use baton_abi::limits::{DERIVED_MAX, REPLICAS_MAX};
use baton_pool::Placed;
use baton_pool::bell::Bell;
use baton_pool::capability::CapabilityTable;
use baton_pool::ledger::LedgerView;
use baton_pool::link::{Duplex, Side, map_bell};
use baton_pool::region::{Access, Mapping};
use rustix::net::RecvFlags;

use super::memory::Memory;

/// Why a function could not start.
#[derive(Debug)]
pub(crate) enum BootError {
    /// There is no control socket: nobody but a Baton node can start a function.
    NotUnderNode,
    /// The node speaks another version.
    Version { node: u32 },
    /// The node sent something else than was expected.
    Malformed(&'static str),
    /// A mapping failed.
    Mapping(String),
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BootError::NotUnderNode => {
                f.write_str("this program is a Baton function: start it by `baton up` in its app's directory")
            }
            BootError::Version { node } => {
                write!(f, "built for ABI version {ABI_VERSION}, the node speaks {node}: rebuild the function")
            }
            BootError::Malformed(what) => write!(f, "unexpected message from the node: {what}"),
            BootError::Mapping(what) => write!(f, "{what}"),
        }
    }
}

/// Everything that the first message brings.
pub(crate) struct Boot {
    pub(crate) control: OwnedFd,
    pub(crate) hello: Hello,
    pub(crate) memory: Memory,
    pub(crate) link: Duplex,
    pub(crate) bell: Bell,
    pub(crate) eventfd: OwnedFd,
    /// Where the kernel hands over.
    pub(crate) socket: Option<OwnedFd>,
}

fn mapping(error: impl core::fmt::Display) -> BootError {
    BootError::Mapping(error.to_string())
}

fn table<T: baton_pool::SharedLayout>(
    fd: &OwnedFd,
    len: u32,
    access: Access,
) -> Result<Placed<T>, BootError> {
    let bytes = (len as usize).saturating_mul(size_of::<T>());
    let map = Arc::new(Mapping::new(fd, bytes, access).map_err(mapping)?);
    Placed::mapped(&map, 0, len as usize).ok_or(BootError::Malformed("a table that does not fit its file"))
}

/// Keeps the control socket from the programs that this process starts. Nothing happens where there is none.
pub(crate) fn keep_control() {
    // SAFETY: the number is looked at during one call, and not kept; nothing closes it before the function serves.
    let control = unsafe { BorrowedFd::borrow_raw(CONTROL_FD) };
    // What fails has nothing to keep.
    let _ = rustix::io::fcntl_setfd(control, rustix::io::FdFlags::CLOEXEC);
}

/// Receives one message and its descriptors.
pub(crate) fn receive(control: &OwnedFd, flags: RecvFlags) -> Result<(Message, Vec<OwnedFd>), BootError> {
    let mut bytes = [0u8; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let received = baton_pool::control::receive(control.as_fd(), &mut bytes, &mut space, flags);
    let (len, fds) = received.map_err(|_| BootError::NotUnderNode)?;
    let message = bytes.get(..len).and_then(Message::decode);
    Ok((message.ok_or(BootError::Malformed("not a message of this version"))?, fds))
}

/// Takes the inherited control socket and waits for the mappings.
pub(crate) fn boot() -> Result<Boot, BootError> {
    // SAFETY: by the start protocol the node leaves the control socket at this number and nothing else in this
    // process knows of it; if the number is not open, every use of it fails with EBADF.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    if rustix::net::sockopt::socket_type(&control).is_err() {
        // Not a socket, or not open at all: leave the number alone.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(control);
        return Err(BootError::NotUnderNode);
    }
    let (message, fds) = receive(&control, RecvFlags::empty())?;
    let Message::Hello(hello) = message else { return Err(BootError::Malformed("no hello")) };
    if hello.abi_version != ABI_VERSION {
        return Err(BootError::Version { node: hello.abi_version });
    }
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(BootError::Malformed("a descriptor is missing"));
    let pool_bytes = usize::try_from(hello.pool_bytes).map_err(mapping)?;
    let pool = match hello.access {
        PoolAccess::Absent => None,
        PoolAccess::Read => Some(Mapping::new(next()?, pool_bytes, Access::Read).map_err(mapping)?),
        PoolAccess::Write => Some(Mapping::new(next()?, pool_bytes, Access::ReadWrite).map_err(mapping)?),
    };
    let ledger = table(&next()?, hello.slots, Access::Read)?;
    let entries = hello.slots + REPLICAS_MAX * DERIVED_MAX;
    let access = if hello.is_guarded { Access::Read } else { Access::ReadWrite };
    let capabilities = table(&next()?, entries, access)?;
    let link = Duplex::map(next()?, hello.ring_entries, Side::Far).map_err(mapping)?;
    let bell = map_bell(next()?).map_err(mapping)?;
    let eventfd = next()?;
    let socket = if hello.is_guarded { Some(next()?) } else { None };
    let memory = Memory {
        holder: hello.holder,
        access: hello.access,
        pool: pool.map(Arc::new),
        ledger: LedgerView::new(ledger),
        table: CapabilityTable::new(capabilities),
        slots: hello.slots,
    };
    Ok(Boot { control, hello, memory, link, bell, eventfd, socket })
}

/// Tells the node that the handler can take requests.
pub(crate) fn announce_ready(control: &OwnedFd) -> Result<(), BootError> {
    rustix::net::send(control, &[READY], rustix::net::SendFlags::NOSIGNAL)
        .map(|_sent| ())
        .map_err(|_| BootError::NotUnderNode)
}
