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

    /// Whether the replicas of a function are there only while they are used.
    pub(crate) fn comes_and_goes(&self, function: usize) -> bool {
        self.unit_of(function).is_some_and(|unit| unit.may_sleep())
    }

    /// How long a replica may stand still: in a cell, that is the others' work too.
    pub(crate) fn patience(&self, function: usize) -> Duration {
        let own = self.functions.get(function).map(|state| state.spec.timeout.duration());
        self.group_of(function).map_or(own.unwrap_or_default(), |group| group.patience)
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
