//! The loop of a call lane, either end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Shared;
use super::frames::Frames;
use super::pipe::Pipe;
use crate::call::Violation;
use crate::counts::Counted;
use crate::nudge::Nudge;
use crate::vault::Now;
use crate::wire::{Header, Road};

/// Bytes that are gathered for one write.
const BATCH: usize = 64 * 1024;

/// Why a lane ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer closed it.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// The peer broke the protocol.
    Violation(Violation),
    /// The peer was silent for too long.
    Silent,
    /// The peer is none any more.
    Unwanted,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Closed => f.write_str("the node closed the connection"),
            Ended::Broken(error) => write!(f, "the connection broke: {error}"),
            Ended::Violation(violation) => write!(f, "the node broke the protocol: {violation}"),
            Ended::Silent => f.write_str("the node was not heard from in time"),
            Ended::Unwanted => f.write_str("the node is no member, or was started anew"),
        }
    }
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Ended {
        Ended::Violation(violation)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Broken(error)
    }
}

/// One end of a call lane.
pub(crate) trait End {
    /// Where its frames come from.
    const ROAD: Road;
    /// Takes in a frame.
    fn receive(&self, now: Now, header: &Header, body: &Bytes) -> Result<(), Violation>;
    /// Some bytes came.
    fn heard(&self, now: Now);
    /// Does what frames, answers and time have brought about. `false`: the peer is silent.
    fn turn(&self, now: Now) -> bool;
    /// When the next turn is due.
    fn wake_at(&self) -> Now;
    /// Appends what is to be sent.
    fn transmit(&self, now: Now, out: &mut Vec<u8>, enough: usize);
    /// Whether frames may be taken in.
    fn may_read(&self) -> bool;
}

enum Turn {
    Wrote(usize),
    Read(usize),
    Woken,
    Time,
}

/// Runs a lane until it ends.
pub(crate) async fn run(mut pipe: Pipe, end: &impl End, wake: &Nudge, shared: &Shared) -> Ended {
    let ended = turns(&mut pipe, end, wake, shared).await.err().unwrap_or(Ended::Closed);
    if matches!(ended, Ended::Violation(_)) {
        shared.counters.one(Counted::Violations);
    }
    ended
}

async fn turns<E: End>(pipe: &mut Pipe, end: &E, wake: &Nudge, shared: &Shared) -> Result<(), Ended> {
    let mut frames = Frames::new(E::ROAD);
    let (mut out, mut at) = (Vec::new(), 0);
    let mut sleep = pin!(sleep_until(Instant::now()));
    let mut asleep_until = Duration::ZERO;
    let mut now = shared.now();
    loop {
        if !end.turn(now) {
            return Err(Ended::Silent);
        }
        if at == out.len() {
            out.clear();
            at = 0;
            end.transmit(now, &mut out, BATCH);
        }
        let wake_at = end.wake_at();
        // Late by design: a timer that is set for something that was done meanwhile only costs one turn.
        if wake_at < asleep_until || asleep_until <= now {
            asleep_until = wake_at;
            sleep.as_mut().reset(Instant::from_std(shared.start + wake_at));
        }
        let mut slept = false;
        let turn = poll_fn(|cx| {
            let out = out.get(at..).unwrap_or_default();
            match poll_io(cx, pipe, out, (end.may_read(), &mut frames)) {
                Poll::Pending => {
                    let other = poll_others(cx, wake, sleep.as_mut());
                    slept |= other.is_pending();
                    other.map(Ok)
                }
                ready => ready,
            }
        });
        let turn = turn.await?;
        // What was done in between took no time worth a look at the clock.
        if slept {
            now = shared.now();
        }
        match turn {
            Turn::Wrote(taken) => at += taken,
            Turn::Read(0) => return Ok(()),
            Turn::Read(_) => {
                end.heard(now);
                while let Some((header, body)) = frames.next().map_err(Violation::Wire)? {
                    end.receive(now, &header, &body)?;
                }
            }
            Turn::Woken => {}
            Turn::Time => asleep_until = Duration::ZERO,
        }
    }
}

fn poll_io(
    cx: &mut Context<'_>,
    pipe: &mut Pipe,
    out: &[u8],
    (may_read, frames): (bool, &mut Frames),
) -> Poll<io::Result<Turn>> {
    if out.is_empty() {
        if let Poll::Ready(Err(error)) = pipe.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
    } else if let Poll::Ready(taken) = pipe.poll_write(cx, out) {
        return Poll::Ready(taken.map(Turn::Wrote));
    }
    if may_read && let Poll::Ready(taken) = frames.poll_fill(cx, pipe) {
        return Poll::Ready(taken.map(Turn::Read));
    }
    Poll::Pending
}

fn poll_others(cx: &mut Context<'_>, wake: &Nudge, sleep: Pin<&mut Sleep>) -> Poll<Turn> {
    if wake.poll(cx).is_ready() {
        return Poll::Ready(Turn::Woken);
    }
    sleep.poll(cx).map(|()| Turn::Time)
}
