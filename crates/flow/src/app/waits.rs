//! How busy a function is here, and what it cost those who found no replica.

use std::rc::Rc;
use std::time::Instant;

use baton_placement::Here;

use super::{FunctionState, Reserved, count};
use crate::error::InvokeError;
use crate::replica::{Phase, Replica};

impl FunctionState {
    /// Calls in the hands of its replicas that are up.
    pub(super) fn in_flight(&self) -> u32 {
        let up = |replica: &&Rc<Replica>| replica.phase.get() != Phase::Dead;
        self.replicas.borrow().iter().flatten().filter(up).map(|replica| replica.in_flight()).sum()
    }

    /// How busy its replicas on this node are; those of one that `sleeps` when it has nothing to do are there at once.
    /// `node`: how busy the node's cores are, in thousandths.
    pub(crate) fn here(&self, sleeps: bool, node: u32) -> Here {
        let ready = self.loads().into_iter().filter(|load| load.ready);
        let (running, room) =
            ready.fold((0, 0), |(running, room), load| (running + load.in_flight, room + load.concurrency));
        let room = if sleeps { room.max(self.spec.scale.concurrency) } else { room };
        Here { running, room, queued: count(self.queued()), bound: self.spec.scale.queue, node }
    }

    /// A call that had found no replica, and waited since then, was given to one.
    pub(super) fn note_cold(&self, since: Option<Instant>, mut reserved: Reserved) -> Reserved {
        if let Some(since) = since {
            self.cold_starts.borrow_mut().get_or_insert_default().queue.add(since.elapsed());
            reserved.cold = Some(Instant::now());
        }
        reserved
    }
}

impl Reserved {
    /// The call is not made after all.
    pub(crate) fn give_back(self) {
        let mut slots = self.replica.slots.borrow_mut();
        slots.answer(self.tag, Err(InvokeError::Draining));
        let _ = slots.abandon(self.tag);
    }
}
