//! A connection, with or without TLS.
//!
//! TLS is driven here rather than by an async wrapper: a call lane moves from one thread's reactor to another's after its hello, and a
//! wrapper's stream cannot be taken apart and put together again.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use baton_pool::region;
use bytes::BytesMut;
use rustix::net::SendFlags;
use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::payload::Held;

/// Bytes of a piece that are waited for, so that a wake-up is worth it.
const LOW_WATER: u32 = 128 * 1024;
/// Largest payload that is copied into the socket's buffer whoever the peer is: most of it is in a cache anyway.
const COPIED_MAX: u64 = 1 << 20;
/// Bytes that TLS may have encrypted and not yet written.
const TLS_BUFFER: usize = 512 * 1024;

pub(crate) struct Pipe {
    tcp: TcpStream,
    tls: Option<Box<Connection>>,
    /// Payloads of more bytes than this are sent from the pool's file: its pages are in the socket's queue until the peer has them.
    from_file: Option<u64>,
    /// Bytes below which the socket does not call itself readable.
    low_water: u32,
}

/// A connection that belongs to no thread's reactor.
pub(crate) struct Parted {
    tcp: std::net::TcpStream,
    tls: Option<Box<Connection>>,
}

impl Parted {
    /// On this thread's reactor.
    pub(crate) fn join(self) -> io::Result<Pipe> {
        Ok(Pipe { tcp: TcpStream::from_std(self.tcp)?, tls: self.tls, from_file: None, low_water: 1 })
    }
}

/// The socket as TLS wants it: would block instead of pending.
struct Raw<'a, 'b>(&'a mut TcpStream, &'a mut Context<'b>);

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Raw<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        or_would_block(Pin::new(&mut *self.0).poll_read(self.1, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Raw<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.0).poll_write(self.1, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl Pipe {
    pub(crate) fn new(tcp: TcpStream, mut tls: Option<Box<Connection>>) -> io::Result<Pipe> {
        tcp.set_nodelay(true)?;
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(Some(TLS_BUFFER));
        }
        Ok(Pipe { tcp, tls, from_file: None, low_water: 1 })
    }

    pub(crate) fn part(self) -> io::Result<Parted> {
        Ok(Parted { tcp: self.tcp.into_std()?, tls: self.tls })
    }

    pub(crate) fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    /// Closing it tells the peer at once, and lets go of what was not sent.
    pub(crate) fn reset_on_close(&self) {
        // Fails only for what is no socket.
        let _ = rustix::net::sockopt::set_socket_linger(&self.tcp, Some(std::time::Duration::ZERO));
    }

    /// From now on held bytes are sent from the pool's file if `asked`, or, if nobody asks for either, if the peer is not `near`. To
    /// another machine that saves the copy into the socket's buffer; here the peer's processor copies anyway, and takes longer if this
    /// one has not just had the bytes. What is small costs more page by page than copied wherever it goes.
    pub(crate) fn send_from_file(&mut self, asked: Option<bool>, near: bool) {
        self.from_file = match asked {
            Some(true) => Some(0),
            None if !near => Some(COPIED_MAX),
            Some(false) | None => None,
        };
    }

    /// Whether the kernel has copies of what it was given.
    fn copies(&self) -> bool {
        self.tls.is_some() || self.from_file.is_none()
    }

    /// Bytes of those written that the kernel still reads from the pool.
    pub(crate) fn unacknowledged(&self) -> u64 {
        if self.copies() { 0 } else { region::unacknowledged(self.tcp.as_fd()).unwrap_or(u64::MAX) }
    }

    /// Does what the handshake wants until it is over.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(())) };
        while tls.is_handshaking() || tls.wants_write() {
            let mut raw = Raw(&mut self.tcp, cx);
            if tls.wants_write() {
                ready!(pending(tls.write_tls(&mut raw)))?;
                continue;
            }
            if ready!(pending(tls.read_tls(&mut raw)))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = tls.process_new_packets() {
                // The peer is to learn why, if it listens.
                let _ = tls.write_tls(&mut raw);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, error)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Decrypted bytes are there, or the connection has ended.
    fn poll_decrypt(tcp: &mut TcpStream, tls: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match tls.reader().fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                other => return Poll::Ready(other.map(|_| ())),
            }
            // At the end of the stream `fill_buf` says so the next time.
            ready!(pending(tls.read_tls(&mut Raw(tcp, cx))))?;
            tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Bytes that came; 0 at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            let mut buffer = ReadBuf::new(out);
            if Pin::new(&mut self.tcp).poll_read(cx, &mut buffer)?.is_pending() {
                self.wait_for(1)?;
                return Poll::Pending;
            }
            return Poll::Ready(Ok(buffer.filled().len()));
        };
        ready!(Pipe::poll_decrypt(&mut self.tcp, tls, cx))?;
        match tls.reader().read(out) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            other => Poll::Ready(other),
        }
    }

    /// Bytes that came, behind those in `buffer`, as far as it has room; 0 at the end.
    pub(crate) fn poll_read_more(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let (len, room) = (buffer.len(), buffer.capacity() - buffer.len());
        if let Some(tls) = &mut self.tls {
            ready!(Pipe::poll_decrypt(&mut self.tcp, tls, cx))?;
            buffer.resize(len + room, 0);
            let read = self.poll_read(cx, buffer.get_mut(len..).unwrap_or_default());
            let taken = if let Poll::Ready(Ok(taken)) = &read { *taken } else { 0 };
            buffer.truncate(len + taken);
            return read;
        }
        loop {
            if self.tcp.poll_read_ready(cx)?.is_pending() {
                self.wait_for(1)?;
                return Poll::Pending;
            }
            match self.tcp.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(taken) => {
                    if taken > 0 && taken < room {
                        self.note_empty();
                    }
                    return Poll::Ready(Ok(taken));
                }
                error => return Poll::Ready(error),
            }
        }
    }

    /// All that was there was taken: the next event tells of more.
    fn note_empty(&self) {
        let _ = self.tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }

    /// Up to `max` bytes that came, to `at` of `room`; 0 at the end.
    pub(crate) fn poll_read_room(
        &mut self,
        cx: &mut Context<'_>,
        room: &region::Room,
        (at, max): (u64, usize),
    ) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            return self.poll_recv(cx, room, (at, max));
        };
        ready!(Pipe::poll_decrypt(&mut self.tcp, tls, cx))?;
        let mut reader = tls.reader();
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
            other => other?,
        };
        let bytes = bytes.get(..bytes.len().min(max)).unwrap_or_default();
        if !room.write(at, bytes) {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        let len = bytes.len();
        reader.consume(len);
        Poll::Ready(Ok(len))
    }

    /// Has the socket wake this task when `bytes` are there. Woken for each segment, a large piece costs more in wake-ups than in
    /// copies. If they are there already, the kernel tells so at once.
    fn wait_for(&mut self, bytes: u32) -> io::Result<()> {
        if bytes != self.low_water {
            region::low_water(self.tcp.as_fd(), bytes)?;
            self.low_water = bytes;
        }
        Ok(())
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        room: &region::Room,
        (at, max): (u64, usize),
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.tcp.poll_read_ready(cx)?.is_pending() {
                self.wait_for(u32::try_from(max).unwrap_or(u32::MAX).min(LOW_WATER))?;
                return Poll::Pending;
            }
            let take = || room.read_from(self.tcp.as_fd(), at, max);
            match self.tcp.try_io(Interest::READABLE, take) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(taken) if taken > 0 && taken < max => {
                    self.note_empty();
                    return Poll::Ready(Ok(taken));
                }
                other => return Poll::Ready(other),
            }
        }
    }

    /// Takes bytes to be sent; how many it took. [`Pipe::poll_flush`] sees them off.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return Pin::new(&mut self.tcp).poll_write(cx, bytes) };
        let mut taken = tls.writer().write(bytes)?;
        if taken == 0 && !bytes.is_empty() {
            ready!(self.poll_flush(cx))?;
            taken = self.tls.as_mut().map_or(Ok(0), |tls| tls.writer().write(bytes))?;
        }
        if let Poll::Ready(result) = self.poll_flush(cx) {
            result?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Everything taken is with the kernel.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(())) };
        while tls.wants_write() {
            if ready!(pending(tls.write_tls(&mut Raw(&mut self.tcp, cx))))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As [`Pipe::poll_write`], for a header that `len` bytes of what is held follow, from `offset` on; with those, if they are copied.
    pub(crate) fn poll_write_headed(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        held: &Held,
        (offset, len): (u64, u64),
    ) -> Poll<io::Result<usize>> {
        if self.tls.is_some() {
            return self.poll_write(cx, head);
        }
        if self.sends_copies_of(held) {
            let body = held.part(offset, len);
            let both = [IoSlice::new(head), IoSlice::new(body.pass_on())];
            return Pin::new(&mut self.tcp).poll_write_vectored(cx, &both);
        }
        let flags = SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.poll_send(cx, |tcp| Ok(rustix::net::send(tcp, head, flags)?))
    }

    fn sends_copies_of(&self, held: &Held) -> bool {
        self.copies() || self.from_file.is_some_and(|copied| held.len() <= copied)
    }

    /// Sends up to `len` bytes of what is held, from `offset` on, without a copy in this process; how many it took.
    pub(crate) fn poll_send_held(
        &mut self,
        cx: &mut Context<'_>,
        held: &Held,
        (offset, len): (u64, u64),
    ) -> Poll<io::Result<usize>> {
        if self.sends_copies_of(held) {
            return self.poll_write(cx, held.part(offset, len).pass_on());
        }
        let (file, at) = held.file(offset);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.poll_send(cx, |tcp| {
            let mut at = at;
            Ok(rustix::fs::sendfile(tcp, file, Some(&mut at), len)?)
        })
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_io(Interest::WRITABLE, || send(&self.tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }
}
