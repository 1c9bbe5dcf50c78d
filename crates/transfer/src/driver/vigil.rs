//! Stays awake for a moment after a message of another node, since the next one often follows within microseconds.
//!
//! A thread that sleeps until then is woken through the scheduler, and its core has to come out of its halt first: that takes as long
//! as the message itself. So the data thread looks at its sockets a little longer before it sleeps.
//!
//! | bound | why |
//! |---|---|
//! | [`WATCH`] after the last message | without traffic nothing is spent |
//! | the core is offered to others between two looks; if they have it for [`TAKEN`], there is no vigil for [`REST`] | functions on the same core come first |
//! | each vigil in a row that nothing came in doubles the messages before the next, up to 2^[`MISSES_MAX`] | who calls seldom is not waited for |

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

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
    /// Messages since the last vigil ended, or in this one.
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

    /// Whether one is being kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.get()
    }

    /// Keeps vigils, for ever. `offer` gives others a chance to run on this core.
    pub(crate) async fn keep(&self, now: impl Fn() -> Now, offer: impl Fn()) {
        loop {
            self.begin.notified().await;
            self.kept.set(true);
            self.seen.set(0);
            self.watch(&now, &offer).await;
            let missed = self.seen.replace(0) == 0;
            self.misses.set(if missed { (self.misses.get() + 1).min(MISSES_MAX) } else { 0 });
            self.kept.set(false);
        }
    }

    async fn watch(&self, now: impl Fn() -> Now, offer: impl Fn()) {
        loop {
            // Has the runtime look at its sockets without waiting there; what came is worked off before this goes on.
            tokio::task::yield_now().await;
            let before = now();
            if before >= self.until.get() {
                return;
            }
            offer();
            let after = now();
            if after.saturating_sub(before) > TAKEN {
                self.not_before.set(after + REST);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// A clock of which each look takes a microsecond, and a core that others have for `taken` whenever it is offered.
    struct World {
        vigil: Vigil,
        clock: Cell<Now>,
        taken: Cell<Duration>,
        offers: Cell<u32>,
    }

    impl World {
        fn look(&self) -> Now {
            self.clock.set(self.clock.get() + Duration::from_micros(1));
            self.clock.get()
        }

        fn stir(&self) {
            self.vigil.stir(self.clock.get());
        }

        /// Lets `turns` of the runtime go by.
        async fn turns(&self, turns: u32) {
            for _ in 0..turns {
                yield_now().await;
            }
        }

        /// How often the core was offered since this was last asked.
        fn offers(&self) -> u32 {
            self.offers.replace(0)
        }
    }

    fn run<T>(test: impl AsyncFnOnce(Rc<World>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let world = Rc::new(World {
                vigil: Vigil::default(),
                clock: Cell::new(Now::from_secs(1)),
                taken: Cell::default(),
                offers: Cell::default(),
            });
            let kept = Rc::clone(&world);
            let task = spawn_local(async move {
                let offer = || {
                    kept.offers.set(kept.offers.get() + 1);
                    kept.clock.set(kept.clock.get() + kept.taken.get());
                };
                kept.vigil.keep(|| kept.look(), offer).await;
            });
            world.turns(2).await;
            let result = test(Rc::clone(&world)).await;
            task.abort();
            result
        })
    }

    #[test]
    fn without_a_message_there_is_none_and_after_one_it_ends_with_its_time() {
        run(async |world| {
            world.turns(200).await;
            assert_eq!(world.offers(), 0);
            world.stir();
            world.turns(200).await;
            let offers = world.offers();
            // Two looks at the clock for each.
            assert!((20..=25).contains(&offers), "{offers}");
            world.turns(200).await;
            assert_eq!(world.offers(), 0);
        });
    }

    #[test]
    fn a_message_prolongs_it() {
        run(async |world| {
            for _ in 0..20 {
                world.stir();
                world.turns(10).await;
            }
            assert!(world.offers() > 150);
        });
    }

    #[test]
    fn who_calls_seldom_is_waited_for_less_and_less() {
        run(async |world| {
            let mut vigils = 0;
            for _ in 0..256 {
                world.clock.set(world.clock.get() + Duration::from_millis(1));
                world.stir();
                world.turns(60).await;
                vigils += u32::from(world.offers() > 0);
            }
            // After 1, 2, 4 … messages; from 64 on after each 64.
            assert!((8..=10).contains(&vigils), "{vigils}");
            // A hit, and it is every time again.
            while world.offers() == 0 {
                world.stir();
                world.turns(1).await;
            }
            world.stir();
            world.turns(60).await;
            world.offers();
            world.stir();
            world.turns(60).await;
            assert!(world.offers() > 0);
        });
    }

    #[test]
    fn a_core_that_others_want_is_left_to_them() {
        run(async |world| {
            world.taken.set(Duration::from_millis(1));
            world.stir();
            world.turns(60).await;
            assert_eq!(world.offers(), 1);
            world.taken.set(Duration::ZERO);
            for _ in 0..4 {
                world.stir();
                world.turns(60).await;
            }
            assert_eq!(world.offers(), 0, "not while it rests");
            world.clock.set(world.clock.get() + REST);
            world.stir();
            world.turns(60).await;
            assert!(world.offers() > 0);
        });
    }
}
