//! `poll_oneoff`: how programs of WASI sleep. There are clocks to wait for, and nothing else.
//!
//! ```text
//! subscription  0        8     16       24        32          40      48     all little-endian
//!                word │ tag │ clock │ nanoseconds │ precision │ flags │
//! event         0        8       10     32
//!                word │ errno │ type │ zeros │
//! ```

use std::time::Duration;

use super::{BADF, FAULT, Guest, INVAL, SUCCESS, bytes, put, time};

const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;
/// Subscriptions of one call.
const SUBSCRIPTIONS_MAX: usize = 64;
/// The tag of a clock; others are descriptors.
const CLOCK_TAG: u8 = 0;
/// A flag: the time is one of the clock's, not from now on.
const ABSOLUTE: u8 = 1;

/// What somebody waits for.
struct Subscription {
    word: [u8; 8],
    tag: u8,
    clock: i32,
    nanos: u64,
    is_absolute: bool,
}

/// What there is to say about it.
struct Event {
    word: [u8; 8],
    errno: i32,
    tag: u8,
    /// From the call on.
    after_ns: u64,
}

impl Subscription {
    fn read(from: &[u8]) -> Option<Self> {
        let (words, _) = from.as_chunks::<8>();
        let &[word, [tag, ..], clock, nanos, _, [flags, ..]] = words.first_chunk::<6>()?;
        let [a, b, c, d, ..] = clock;
        Some(Self {
            word,
            tag,
            clock: i32::from_le_bytes([a, b, c, d]),
            nanos: u64::from_le_bytes(nanos),
            is_absolute: flags & ABSOLUTE != 0,
        })
    }

    /// When it is due. A time that is needed for that is written to `space` in the guest's memory.
    fn event(&self, guest: &mut Guest<'_>, space: i32) -> Event {
        let &Self { word, tag, clock, nanos, is_absolute } = self;
        let event = |errno, after_ns| Event { word, errno, tag, after_ns };
        if tag != CLOCK_TAG {
            return event(BADF, 0);
        }
        match time(guest, clock, space) {
            SUCCESS if !is_absolute => event(SUCCESS, nanos),
            SUCCESS => {
                let now = bytes(guest, space, 8).and_then(|now| now.first_chunk().copied());
                event(SUCCESS, nanos.saturating_sub(now.map_or(0, u64::from_le_bytes)))
            }
            errno => event(errno, 0),
        }
    }
}

impl Event {
    fn encode(&self) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        let [low, high, ..] = self.errno.to_le_bytes();
        let fields = self.word.into_iter().chain([low, high, self.tag]);
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// Sleeps until the first of `count` subscriptions at `from` is due, and writes the events that are to `to`.
pub(super) fn poll(guest: &mut Guest<'_>, (from, to): (i32, i32), count: i32, written_at: i32) -> i32 {
    let Some(count) = usize::try_from(count).ok().filter(|count| (1..=SUBSCRIPTIONS_MAX).contains(count))
    else {
        return INVAL;
    };
    let len = |each: usize| i32::try_from(count * each).unwrap_or(i32::MAX);
    let Some(subscriptions) = bytes(guest, from, len(SUBSCRIPTION_BYTES)).map(|bytes| bytes.to_vec()) else {
        return FAULT;
    };
    // Before anybody sleeps.
    if bytes(guest, to, len(EVENT_BYTES)).is_none() || bytes(guest, written_at, 4).is_none() {
        return FAULT;
    }
    let read = subscriptions.chunks_exact(SUBSCRIPTION_BYTES).filter_map(Subscription::read);
    let events: Vec<Event> = read.map(|subscription| subscription.event(guest, to)).collect();
    let first = events.iter().map(|event| event.after_ns).min().unwrap_or(0);
    std::thread::sleep(Duration::from_nanos(first));
    let due: Vec<u8> =
        events.iter().filter(|event| event.after_ns == first).flat_map(Event::encode).collect();
    let number = u32::try_from(due.len() / EVENT_BYTES).unwrap_or(u32::MAX);
    match put(guest, to, &due) {
        SUCCESS => put(guest, written_at, &number.to_le_bytes()),
        errno => errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_events_have_their_layout() {
        let mut bytes = [0; SUBSCRIPTION_BYTES];
        for (place, value) in [(0, 7), (8, 1), (16, 1), (25, 1), (40, 1)] {
            bytes[place] = value;
        }
        let Subscription { word, tag, clock, nanos, is_absolute } = Subscription::read(&bytes).unwrap();
        assert_eq!((word[0], tag, clock, nanos, is_absolute), (7, 1, 1, 256, true));
        assert!(Subscription::read(&bytes[..47]).is_none());
        let event = Event { word, errno: BADF, tag, after_ns: 9 }.encode();
        assert_eq!(event[..12], [7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0]);
    }
}
