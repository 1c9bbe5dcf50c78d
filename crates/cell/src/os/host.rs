//! The effects of system calls, behind a trait: the trap layer of a cell, or a test.

pub use rustix::io::Errno;

/// An address is not in memory that the guest may use in that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// What a guest may do with pages of its own. Executing is never among it: that is the loader's to grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prot {
    /// Nothing; what the pages hold is kept.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// Where a function's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Out,
    /// Descriptor 2.
    Err,
}

/// The effects of system calls.
///
/// Ranges are whole pages, not empty, inside the seat, and never executable. `read` and `write` get ranges that the
/// [`super::Os`] knows to be the guest's own with pages behind them, so that they cannot fault; all other addresses go to
/// `read_outside` and `write_outside`, where an implementation lets through what else the guest may use at that moment
/// (its mail, the buffers that it holds) and refuses the rest.
pub trait Host {
    /// Copies from the guest's own memory.
    ///
    /// # Errors
    /// If the memory is not what the `Os` believes it is.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault>;

    /// Copies into the guest's own memory.
    ///
    /// # Errors
    /// If the memory is not what the `Os` believes it is.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Copies from an address that is none of the `Os`'s, as hostile as can be.
    ///
    /// # Errors
    /// Unless the guest may read all of it.
    fn read_outside(&mut self, _at: u64, _out: &mut [u8]) -> Result<(), Fault> {
        Err(Fault)
    }

    /// Copies to an address that is none of the `Os`'s, as hostile as can be.
    ///
    /// # Errors
    /// Unless the guest may write all of it.
    fn write_outside(&mut self, _at: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Err(Fault)
    }

    /// Puts fresh zero pages with the seat's key there, in place of what there was.
    ///
    /// # Errors
    /// If the kernel refuses; then nothing has changed.
    fn map(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno>;

    /// Changes what the guest may do with pages, and keeps what they hold.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn protect(&mut self, at: u64, len: u64, prot: Prot) -> Result<(), Errno>;

    /// Makes pages inaccessible and frees them.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn unmap(&mut self, at: u64, len: u64) -> Result<(), Errno>;

    /// Makes pages read as zeros again, whatever was mapped there, and frees what they held. Their protection stays.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn discard(&mut self, at: u64, len: u64) -> Result<(), Errno>;

    /// Moves pages with what they hold to a place that has none; where they were is inaccessible afterwards.
    ///
    /// # Errors
    /// If the kernel refuses; then nothing has changed.
    fn relocate(&mut self, from: u64, to: u64, len: u64) -> Result<(), Errno>;

    /// Reads a clock as seconds and nanoseconds; `None` if there is no such clock.
    fn now(&mut self, clock: i32) -> Option<(i64, i64)>;

    /// Random bytes of the kernel's quality.
    fn random(&mut self, out: &mut [u8]);

    /// Output of the function: any bytes, at most [`super::IO_BYTES_MAX`] of them.
    fn log(&mut self, stream: Stream, bytes: &[u8]);

    /// The current thread's FS base from now on.
    fn set_fs_base(&mut self, at: u64);

    /// A system call was refused, or not done in full. [`super::call_name`] says what it is called.
    fn refused(&mut self, number: u64);
}
