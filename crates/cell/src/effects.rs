//! What system calls of a guest do to the world: the library OS's host.

use baton_abi::cell::FromCell;

use crate::memory;
use crate::os::{self, Errno, Fault, Host, Prot, Stream};
use crate::runtime::Runtime;
use crate::seat::Seat;
use crate::sys::{self, Access, Backing};

/// The effects of one seat's calls.
pub(crate) struct Effects<'a> {
    runtime: &'a Runtime,
    seat: &'a Seat,
}

impl<'a> Effects<'a> {
    pub(crate) fn new(runtime: &'a Runtime, seat: &'a Seat) -> Effects<'a> {
        Effects { runtime, seat }
    }
}

const fn access(prot: Prot) -> Access {
    match prot {
        Prot::None => Access::None,
        Prot::Read => Access::Read,
        Prot::ReadWrite => Access::Write,
    }
}

impl Host for Effects<'_> {
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.seat.reach.read(at, out).then_some(()).ok_or(Fault)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.seat.space.borrow_mut().write(at, bytes).then_some(()).ok_or(Fault)
    }

    fn read_outside(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        let len = out.len() as u64;
        let may = self.runtime.may_read(self.seat, at, len);
        (may && memory::copy(out.as_mut_ptr() as u64, at, len)).then_some(()).ok_or(Fault)
    }

    fn write_outside(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let len = bytes.len() as u64;
        let may = self.runtime.may_write(self.seat, at, len);
        (may && memory::copy(at, bytes.as_ptr() as u64, len)).then_some(()).ok_or(Fault)
    }

    fn map(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        self.seat.space.borrow_mut().map(at, len, access(prot), Backing::Anonymous)
    }

    fn protect(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        self.seat.space.borrow_mut().protect(at, len, access(prot))
    }

    fn unmap(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        self.seat.space.borrow_mut().unmap(at, len)
    }

    fn discard(&mut self, at: u64, len: u64) -> Result<(), Errno> {
        self.seat.space.borrow_mut().discard(at, len)
    }

    fn relocate(&mut self, from: u64, to: u64, len: u64) -> Result<(), Errno> {
        self.seat.space.borrow_mut().relocate(from, to, len)
    }

    fn now(&mut self, clock: i32) -> Option<(i64, i64)> {
        sys::clock(clock)
    }

    fn random(&mut self, out: &mut [u8]) {
        sys::random(out);
    }

    fn log(&mut self, stream: Stream, bytes: &[u8]) {
        let stream = match stream {
            Stream::Out => 1,
            Stream::Err => 2,
        };
        self.runtime.log(self.seat.id, stream, bytes);
    }

    fn set_fs_base(&mut self, at: u64) {
        self.seat.set_fs(at);
    }

    fn refused(&mut self, number: u64) {
        if self.runtime.trace {
            let line = format!("refused system call {number} ({})", os::call_name(number));
            self.runtime.tell(FromCell::Log { seat: u32::from(self.seat.id), stream: 2 }, line.as_bytes());
        }
    }
}
