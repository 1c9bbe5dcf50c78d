//! System calls about memory.

use super::call::{Answer, Call, Step, int, low};
use super::space::Place;
use super::{Errno, Host, Os, PAGE, Prot, Stream};

/// All flags of `mmap` that are known here.
const MAP_SERVED: u32 = (libc::MAP_PRIVATE
    | libc::MAP_SHARED
    | libc::MAP_ANONYMOUS
    | libc::MAP_FIXED
    | libc::MAP_FIXED_NOREPLACE
    | libc::MAP_NORESERVE
    | libc::MAP_POPULATE
    | libc::MAP_NONBLOCK
    | libc::MAP_LOCKED
    | libc::MAP_STACK
    | libc::MAP_DENYWRITE
    | libc::MAP_EXECUTABLE)
    .cast_unsigned();

impl Os {
    pub(super) fn memory_call<H: Host>(&mut self, call: &mut Call<'_, H>) -> Option<Answer> {
        let [a, b, c, ..] = call.args;
        let done = |result: Result<(), Errno>| result.map(|()| Step::Done(0));
        Some(match call.number.cast_signed() {
            libc::SYS_brk => Ok(Step::Done(self.space.brk(call.host, a))),
            libc::SYS_mmap => self.mmap(call),
            libc::SYS_munmap => done(self.space.unmap(call.host, a, b)),
            libc::SYS_mprotect => {
                self.prot(call, c).and_then(|prot| done(self.space.protect(call.host, a, b, prot)))
            }
            libc::SYS_mremap => self.mremap(call),
            libc::SYS_madvise => done(self.madvise(call)),
            _ => return None,
        })
    }

    /// The protection that a call asks for. Never to execute.
    fn prot<H: Host>(&mut self, call: &mut Call<'_, H>, bits: u64) -> Result<Prot, Errno> {
        let bits = int(bits);
        if bits & libc::PROT_EXEC != 0 {
            if !self.told_jit {
                self.told_jit = true;
                call.host.log(
                    Stream::Err,
                    b"baton: memory to execute was refused: a JIT cannot run in a compartment\n",
                );
            }
            return Err(call.refuse(Errno::ACCESS));
        }
        match bits {
            libc::PROT_NONE => Ok(Prot::None),
            libc::PROT_READ => Ok(Prot::Read),
            // On this machine what can be written can be read.
            _ if bits & !(libc::PROT_READ | libc::PROT_WRITE) == 0 => Ok(Prot::ReadWrite),
            _ => Err(Errno::INVAL),
        }
    }

    fn mmap<H: Host>(&mut self, call: &mut Call<'_, H>) -> Answer {
        let [at, len, prot, flags, fd, offset] = call.args;
        let flags = low(flags);
        let has = |flag: i32| flags & flag.cast_unsigned() != 0;
        let prot = self.prot(call, prot)?;
        if flags & !MAP_SERVED != 0
            || has(libc::MAP_PRIVATE) == has(libc::MAP_SHARED)
            || !offset.is_multiple_of(PAGE)
        {
            // Huge pages and the lower 4 GiB among them: programs do without.
            return Err(call.refuse(Errno::INVAL));
        }
        let place = if has(libc::MAP_FIXED_NOREPLACE) {
            Place::Free(at)
        } else if has(libc::MAP_FIXED) {
            Place::Over(at)
        } else {
            Place::Near(at)
        };
        if has(libc::MAP_ANONYMOUS) {
            // Nobody else ever sees the pages, whether they are shared or not.
            return self.space.map(call.host, place, len, prot).map(|span| Step::Done(span.start));
        }
        let bytes = self.file_of(low(fd))?;
        if has(libc::MAP_SHARED) && prot == Prot::ReadWrite {
            return Err(Errno::ACCESS);
        }
        self.map_file(call, place, len, prot, (bytes, offset))
    }

    /// Maps a copy of a part of a file; what is behind its end is zeros.
    fn map_file<H: Host>(
        &mut self,
        call: &mut Call<'_, H>,
        place: Place,
        len: u64,
        prot: Prot,
        (bytes, offset): (&[u8], u64),
    ) -> Answer {
        let span = self.space.map(call.host, place, len, Prot::ReadWrite)?;
        let written = call.write(&self.space, span.start, super::files::part(bytes, offset, len));
        let done = written.and_then(|()| self.space.protect(call.host, span.start, span.len(), prot));
        if let Err(error) = done {
            self.space.unmap(call.host, span.start, span.len())?;
            return Err(error);
        }
        Ok(Step::Done(span.start))
    }

    fn mremap<H: Host>(&mut self, call: &mut Call<'_, H>) -> Answer {
        let [at, old_len, new_len, flags, ..] = call.args;
        let flags = int(flags);
        if flags & !libc::MREMAP_MAYMOVE != 0 {
            return Err(call.refuse(Errno::INVAL));
        }
        let may_move = flags & libc::MREMAP_MAYMOVE != 0;
        self.space.remap(call.host, at, (old_len, new_len), may_move).map(Step::Done)
    }

    fn madvise<H: Host>(&mut self, call: &mut Call<'_, H>) -> Result<(), Errno> {
        let [at, len, advice, ..] = call.args;
        match int(advice) {
            libc::MADV_DONTNEED | libc::MADV_FREE => self.space.discard(call.host, at, len),
            libc::MADV_NORMAL
            | libc::MADV_RANDOM
            | libc::MADV_SEQUENTIAL
            | libc::MADV_WILLNEED
            | libc::MADV_HUGEPAGE
            | libc::MADV_NOHUGEPAGE
            | libc::MADV_DONTDUMP
            | libc::MADV_DODUMP
            | libc::MADV_COLD
            | libc::MADV_PAGEOUT => Ok(()),
            // MADV_WIPEONFORK above all: a cell is forked behind the guest's back, and nothing would be wiped. Who is
            // told so asks for random bytes each time instead.
            _ => Err(call.refuse(Errno::INVAL)),
        }
    }
}
