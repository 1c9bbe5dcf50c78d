//! A system call while it is served, and the guest's memory as it may be used for that.

use super::space::{Space, Span};
use super::threads::Wait;
use super::{Ending, Errno, Fault, Host, NewThread, PAGE};

/// Longest path, its NUL included.
const PATH_BYTES_MAX: usize = 4096;
/// Most parts of a scattered buffer.
pub(super) const IOVECS_MAX: u64 = 1024;

/// What a system call asks for.
pub(super) struct Call<'a, H> {
    pub(super) host: &'a mut H,
    pub(super) number: u64,
    pub(super) args: [u64; 6],
    /// It waited, and is tried again; with the time at which it gives up.
    pub(super) again: Option<Option<u64>>,
}

/// What comes of a call, if not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The thread goes on with a result.
    Done(u64),
    /// It waits, at most until then.
    Wait(Wait, Option<u64>),
    /// It lets the others run first.
    Yield,
    /// There is another thread; the result is its number.
    Spawned(NewThread, u64),
    /// The thread ends.
    ThreadEnd(i32),
    /// The compartment ends.
    End(Ending),
}

/// What comes of a call.
pub(super) type Answer = Result<Step, Errno>;

/// The lower half of an argument, which is all that the kernel looks at where C has an `unsigned int`.
#[expect(clippy::cast_possible_truncation, reason = "that is its purpose")]
pub(super) fn low(arg: u64) -> u32 {
    arg as u32
}

/// The same for an `int`.
pub(super) fn int(arg: u64) -> i32 {
    low(arg).cast_signed()
}

/// Does `each` with piece after piece of the `len` bytes at `at`, through `N` bytes of its own; says how many are done.
/// Only if the first piece fails, all does.
pub(super) fn piecewise<const N: usize>(
    at: u64,
    len: u64,
    mut each: impl FnMut(u64, &mut [u8]) -> Result<(), Errno>,
) -> Answer {
    let mut piece = [0; N];
    let mut done = 0;
    while done < len {
        let size = usize::try_from(len - done).map_or(N, |left| left.min(N));
        let Some(piece) = piece.get_mut(..size) else { break };
        match at.checked_add(done).ok_or(Errno::FAULT).and_then(|at| each(at, piece)) {
            Ok(()) => done += size as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(Step::Done(done))
}

impl<H: Host> Call<'_, H> {
    /// The call is not done, or not in full: says so to the host, and gives the error back.
    pub(super) fn refuse(&mut self, errno: Errno) -> Errno {
        self.host.refused(self.number);
        errno
    }

    /// Copies from the guest.
    pub(super) fn read(&mut self, space: &Space, at: u64, out: &mut [u8]) -> Result<(), Errno> {
        if out.is_empty() {
            return Ok(());
        }
        let span = Span::new(at, out.len() as u64).ok_or(Errno::FAULT)?;
        let read =
            if space.owns(span, false) { self.host.read(at, out) } else { self.host.read_outside(at, out) };
        read.map_err(|Fault| Errno::FAULT)
    }

    /// Copies to the guest.
    pub(super) fn write(&mut self, space: &Space, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let span = Span::new(at, bytes.len() as u64).ok_or(Errno::FAULT)?;
        let written = if space.owns(span, true) {
            self.host.write(at, bytes)
        } else {
            self.host.write_outside(at, bytes)
        };
        written.map_err(|Fault| Errno::FAULT)
    }

    /// Copies to the guest, if it gave an address.
    pub(super) fn write_if(&mut self, space: &Space, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        if at == 0 { Ok(()) } else { self.write(space, at, bytes) }
    }

    pub(super) fn read_array<const N: usize>(&mut self, space: &Space, at: u64) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.read(space, at, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_u32(&mut self, space: &Space, at: u64) -> Result<u32, Errno> {
        self.read_array(space, at).map(u32::from_le_bytes)
    }

    pub(super) fn read_u64(&mut self, space: &Space, at: u64) -> Result<u64, Errno> {
        self.read_array(space, at).map(u64::from_le_bytes)
    }

    pub(super) fn read_words<const N: usize>(&mut self, space: &Space, at: u64) -> Result<[u64; N], Errno> {
        let mut words = [[0; 8]; N];
        self.read(space, at, words.as_flattened_mut())?;
        Ok(words.map(u64::from_le_bytes))
    }

    /// A path, without its NUL.
    pub(super) fn read_path(&mut self, space: &Space, at: u64) -> Result<Vec<u8>, Errno> {
        let mut path = Vec::new();
        let mut chunk = [0; 256];
        while path.len() < PATH_BYTES_MAX {
            // Never beyond the page that is known to have more of it: the next one may not be there.
            let next = at.checked_add(path.len() as u64).ok_or(Errno::FAULT)?;
            let len = usize::try_from(PAGE - next % PAGE).map_or(chunk.len(), |left| left.min(chunk.len()));
            let Some(chunk) = chunk.get_mut(..len) else { return Err(Errno::FAULT) };
            self.read(space, next, chunk)?;
            match chunk.iter().position(|&byte| byte == 0) {
                Some(end) => {
                    path.extend(chunk.iter().take(end));
                    return if path.len() < PATH_BYTES_MAX { Ok(path) } else { Err(Errno::NAMETOOLONG) };
                }
                None => path.extend_from_slice(chunk),
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    /// The parts of a scattered buffer: addresses and lengths, of which the sum does not wrap.
    pub(super) fn read_iovecs(
        &mut self,
        space: &Space,
        at: u64,
        count: u64,
    ) -> Result<Vec<(u64, u64)>, Errno> {
        let count =
            usize::try_from(count).ok().filter(|&count| count as u64 <= IOVECS_MAX).ok_or(Errno::INVAL)?;
        let mut bytes = vec![0; count * 16];
        self.read(space, at, &mut bytes)?;
        let mut sum = 0u64;
        let mut parts = Vec::with_capacity(count);
        for [base, len] in bytes.as_chunks::<8>().0.as_chunks::<2>().0 {
            let len = u64::from_le_bytes(*len);
            sum = sum.checked_add(len).filter(|&sum| sum <= i64::MAX.cast_unsigned()).ok_or(Errno::INVAL)?;
            parts.push((u64::from_le_bytes(*base), len));
        }
        Ok(parts)
    }
}
