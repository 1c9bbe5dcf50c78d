//! Who calls another node, or was just called by one, hears again from it in microseconds more often than not. A thread that sleeps
//! until then is woken through the kernel's scheduler, and on a machine whose cores halt when they idle that takes longer than the
//! message. So the data thread stays awake for a moment after each such message, and looks at its sockets instead.
//!
//! | bound | why |
//! |---|---|
//! | [`WATCH`] after the last message | without traffic nothing is spent |
//! | the processor is offered to others between two looks; [`TAKEN`] by them ends the vigil for [`REST`] | it is for cores that have nothing to do: functions on the same core come first |
//! | each vigil in a row that nobody came in doubles how many messages go by before the next, up to 2^[`MISSES_MAX`] | who calls seldom is not waited for |

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use crate::vault::Now;

/// How long a message is waited for after the last.
const WATCH: Duration = Duration::from_micros(50);
/// Others that had the core for this long have use for it.
const TAKEN: Duration = Duration::from_micros(200);
/// How long none is kept then.
const REST: Duration = Duration::from_millis(20);
/// See above.
const MISSES_MAX: u32 = 6;

/// The data thread's.
#[derive(Default)]
pub(crate) struct Vigil {
    until: Cell<Now>,
    not_before: Cell<Now>,
    kept: Cell<bool>,
    /// Messages since the last vigil began.
    seen: Cell<u32>,
    misses: Cell<u32>,
    begin: Notify,
}

impl Vigil {
    /// A call or an answer came, or went.
    pub(crate) fn stir(&self, now: Now) {
        self.seen.set(self.seen.get().saturating_add(1));
        self.until.set(now + WATCH);
        let is_due = self.seen.get() >= 1 << self.misses.get() && now >= self.not_before.get();
        if is_due && !self.kept.get() {
            self.begin.notify_one();
        }
    }

    /// Keeps vigils, for ever.
    pub(crate) async fn keep(&self, shared: &Shared) {
        loop {
            self.begin.notified().await;
            self.kept.set(true);
            self.seen.set(0);
            self.watch(shared).await;
            let missed = self.seen.get() == 0;
            self.misses.set(if missed { (self.misses.get() + 1).min(MISSES_MAX) } else { 0 });
            self.seen.set(0);
            self.kept.set(false);
        }
    }

    async fn watch(&self, shared: &Shared) {
        // Yielding to the runtime has it look at its sockets, without waiting there; what came is worked off before this goes on.
        tokio::task::yield_now().await;
        while shared.now() < self.until.get() {
            let offered = shared.now();
            std::thread::yield_now();
            let now = shared.now();
            if now.saturating_sub(offered) > TAKEN {
                self.not_before.set(now + REST);
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
