//! The holder's end of a bulk lane over a connection.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::frames::Frames;
use super::lane::Ended;
use super::pipe::Pipe;
use super::{Peer, Shared};
use crate::bulk::{Sender, Sending, Verdict};
use crate::call::Violation;
use crate::counts::Counted;
use crate::limits::{IDLE, PROGRESS_WITHIN};
use crate::payload::Held;
use crate::wire::bulk::to_holder;
use crate::wire::{HEADER, Road};

/// Bytes after which other connections of the thread get their turn.
const TURN: u64 = 1 << 20;
/// Between two looks at what settles.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks at a lane on which nothing happens.
const LOOK_IDLE: Duration = Duration::from_millis(500);

enum Writing {
    Nothing,
    Frames(Bytes),
    Head { header: [u8; HEADER], at: usize, held: Held, offset: u64, len: u64 },
    Body { held: Held, offset: u64, len: u64 },
}

struct Serving<'a> {
    pipe: Pipe,
    frames: Frames,
    writing: Writing,
    /// Bytes written altogether.
    written: u64,
    /// When some last were.
    wrote: Duration,
    shared: &'a Shared,
    peer: Peer,
    // Below the pipe: fields are dropped in this order, and the leases in here must outlive the connection.
    sender: Sender,
}

/// Runs a lane until it ends.
pub(crate) async fn run(mut pipe: Pipe, peer: Peer, shared: &Shared) -> Ended {
    pipe.send_from_file(shared.limits().send_from_file, shared.is_near(&peer));
    let sender = Sender::new(shared.now(), &peer.name, shared.limits());
    let (frames, writing, wrote) = (Frames::new(Road::Pulls), Writing::Nothing, shared.now());
    let mut serving = Serving { pipe, frames, writing, written: 0, wrote, shared, peer, sender };
    let ended = serving.turns().await.err().unwrap_or(Ended::Closed);
    if matches!(ended, Ended::Violation(_)) {
        shared.counters.one(Counted::Violations);
    }
    ended
}

/// However a lane ends: what the kernel still reads is let go of by a reset, before the leases are.
impl Drop for Serving<'_> {
    fn drop(&mut self) {
        let acknowledged = self.acknowledged();
        if !matches!(self.writing, Writing::Nothing) || self.sender.unsettled(acknowledged) {
            self.shared.counters.one(Counted::Resets);
            self.pipe.reset_on_close();
        }
    }
}

impl Serving<'_> {
    /// How many of the connection's bytes nobody reads from the pool any more.
    fn acknowledged(&self) -> u64 {
        self.written.saturating_sub(self.pipe.unacknowledged())
    }

    async fn turns(&mut self) -> Result<(), Ended> {
        let mut news = self.shared.news.subscribe();
        let mut settling = false;
        loop {
            let look = if settling { LOOK } else { LOOK_IDLE };
            let checked = tokio::select! {
                biased;
                _ = news.changed() => true,
                moved = poll_fn(|cx| self.poll(cx)) => {
                    let moved = moved?;
                    if moved == 0 {
                        return Ok(());
                    }
                    // Whoever else has something to do on this thread comes first, if this lane has more.
                    if moved >= TURN {
                        tokio::task::yield_now().await;
                    }
                    false
                }
                () = tokio::time::sleep(look) => true,
            };
            if checked {
                settling = self.look()?;
            }
        }
    }

    /// Judges the connection; whether to look again soon.
    fn look(&mut self) -> Result<bool, Ended> {
        if !self.shared.knows(&self.peer) {
            return Err(Ended::Unwanted);
        }
        let now = self.shared.now();
        let stalled =
            !matches!(self.writing, Writing::Nothing) && now.saturating_sub(self.wrote) > PROGRESS_WITHIN;
        let idle = self.sender.pulls() == 0 && now.saturating_sub(self.sender.moved()) > IDLE * 2;
        if stalled || idle {
            return Err(Ended::Silent);
        }
        let acknowledged = self.acknowledged();
        match self.sender.check(now, self.written, acknowledged) {
            Verdict::Fine => Ok(false),
            Verdict::Settling => Ok(true),
            Verdict::Reset => Err(Ended::Broken(io::Error::other("what it sent was revoked"))),
        }
    }

    /// Moves bytes: how many, 0 at the end of the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, Ended>> {
        let mut moved = 0;
        while let Poll::Ready(wrote) = self.poll_write(cx) {
            let wrote = wrote?;
            if wrote == 0 {
                break;
            }
            moved += wrote;
            if moved >= TURN {
                return Poll::Ready(Ok(moved));
            }
        }
        if self.sender.may_read()
            && let Poll::Ready(taken) = self.frames.poll_fill(cx, &mut self.pipe)
        {
            let taken = taken?;
            if taken > 0 {
                self.receive()?;
            }
            return Poll::Ready(Ok(taken as u64));
        }
        if moved > 0 { Poll::Ready(Ok(moved)) } else { Poll::Pending }
    }

    fn receive(&mut self) -> Result<(), Ended> {
        let now = self.shared.now();
        while let Some((header, body)) = self.frames.next().map_err(Violation::Wire)? {
            let frame = to_holder(&header, &body).map_err(Violation::Wire)?;
            let mut vault = self.shared.vault();
            let before = vault.len();
            let received = self.sender.receive(now, header.id, frame, &mut vault, &self.shared.counters);
            let ended = vault.len() != before;
            drop(vault);
            received?;
            if ended {
                // Other lanes may send from what was acknowledged.
                self.shared.tell();
            }
        }
        Ok(())
    }

    /// Writes what is next; how many bytes, 0 if there is nothing.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        if matches!(self.writing, Writing::Nothing) {
            self.writing = match self.sender.next(self.shared.now()) {
                None => {
                    ready!(self.pipe.poll_flush(cx))?;
                    return Poll::Ready(Ok(0));
                }
                Some(Sending::Frames(frames)) => Writing::Frames(Bytes::from(frames)),
                Some(Sending::Chunk { header, held, offset, len }) => {
                    Writing::Head { header, at: 0, held, offset, len }
                }
            };
        }
        let written = match &mut self.writing {
            Writing::Nothing => 0,
            Writing::Frames(bytes) => {
                let taken = ready!(self.pipe.poll_write(cx, bytes))?;
                drop(bytes.split_to(taken));
                taken
            }
            Writing::Head { header, at, held, offset, len } => {
                let head = header.get(*at..).unwrap_or_default();
                let taken = ready!(self.pipe.poll_write_headed(cx, head, held, (*offset, *len)))?;
                let of_head = taken.min(head.len());
                let of_body = (taken - of_head) as u64;
                *at += of_head;
                *offset += of_body;
                *len = len.saturating_sub(of_body);
                self.shared.counters.add(Counted::BytesSent, of_body);
                taken
            }
            Writing::Body { held, offset, len } => {
                let taken = ready!(self.pipe.poll_send_held(cx, held, (*offset, *len)))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                *offset += taken as u64;
                *len = len.saturating_sub(taken as u64);
                self.shared.counters.add(Counted::BytesSent, taken as u64);
                taken
            }
        };
        self.step();
        self.wrote = self.shared.now();
        self.written += written as u64;
        Poll::Ready(Ok(written as u64))
    }

    fn step(&mut self) {
        let next = match &self.writing {
            Writing::Frames(bytes) if bytes.is_empty() => Writing::Nothing,
            Writing::Head { at: HEADER, len: 0, .. } => Writing::Nothing,
            Writing::Head { at: HEADER, held, offset, len, .. } => {
                Writing::Body { held: held.clone(), offset: *offset, len: *len }
            }
            Writing::Body { len: 0, .. } => Writing::Nothing,
            _ => return,
        };
        self.writing = next;
    }
}
