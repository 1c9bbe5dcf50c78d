//! What an app knows of its cells.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Group;
use crate::app::{App, FunctionState};
use crate::replica::Replica;
use crate::start::ring_entries;

impl App {
    /// The group whose cells hold a function.
    pub(crate) fn group_of(&self, function: usize) -> Option<&Rc<Group>> {
        self.functions.get(function)?.group.as_ref()
    }

    /// The functions of a group, by seat.
    pub(crate) fn of_group<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a FunctionState> {
        group.seats.iter().filter_map(|&function| self.functions.get(function))
    }

    /// Entries of the rings of a group's seats.
    pub(crate) fn rings_of<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = u32> {
        self.of_group(group).map(|state| ring_entries(&state.spec))
    }

    /// The functions of a group, for a person to read.
    pub(crate) fn names_of(&self, group: &Group) -> String {
        let names: Vec<&str> = self.of_group(group).map(|state| state.name.as_str()).collect();
        names.join(", ")
    }

    /// The group that two replicas belong to, if they belong to one.
    pub(crate) fn common_group(&self, one: &Replica, other: &Replica) -> Option<&Rc<Group>> {
        let (one, other) = (self.group_of(one.function)?, self.group_of(other.function)?);
        Rc::ptr_eq(one, other).then_some(one)
    }

    /// Whether there is no cell for a function, and none is on its way.
    pub(crate) fn is_asleep(&self, function: usize) -> bool {
        self.group_of(function).is_some_and(|group| group.is_asleep())
    }

    /// Whether the cells of a function are there only while they are used.
    pub(crate) fn comes_and_goes(&self, function: usize) -> bool {
        self.group_of(function).is_some_and(|group| group.floor == 0)
    }

    /// How long a replica may stand still: in a cell, that is the others' work too.
    pub(crate) fn patience(&self, function: usize) -> Duration {
        let own = self.functions.get(function).map(|state| state.spec.timeout.duration());
        self.group_of(function).map_or(own.unwrap_or_default(), |group| group.patience)
    }

    /// Wakes every cell to which a request of this function may lead: an edge can be waited for, and nobody hears that
    /// someone waits for one.
    pub(crate) fn wake_cells(&self, state: &FunctionState) {
        for &number in &state.sleepers {
            if let Some(group) = self.groups.get(number) {
                group.wake();
            }
        }
    }

    /// Whether a request is waiting or under way that may lead to this group.
    pub(crate) fn is_wanted(&self, group: &Group) -> bool {
        let wants = |(number, state): (usize, &FunctionState)| {
            let is_busy = |place: &Option<Rc<Replica>>| place.as_ref().is_some_and(|up| up.in_flight() > 0);
            group.is_behind(number) && (state.queued() > 0 || state.replicas.borrow().iter().any(is_busy))
        };
        self.functions.iter().enumerate().any(wants)
    }

    /// Sleeps for a while, or until the app stops.
    pub(crate) async fn pause(&self, delay: Duration) {
        let until = Instant::now() + delay;
        loop {
            let changed = self.changed.notified();
            if self.stopping.get() || tokio::time::timeout_at(until.into(), changed).await.is_err() {
                return;
            }
        }
    }
}
