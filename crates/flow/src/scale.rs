//! Replicas come and go: what the scaler of `placement` decides, carried out.
//!
//! ```text
//!   request ──stir──▶ units that it may lead to ──look──▶ Scaler ──▶ so many places ─┬─ more: a keeper for each new place
//!   (nobody was looking)        ▲                                                    └─ fewer: leave ─▶ drain ─▶ ended
//!                               └── again after 100 ms while there is load, seldom while idle, not at all at rest
//! ```
//! A *unit* is what is scaled as one: a function in processes, or a group whose cells hold several. It has *places*, each with a
//! task that keeps a replica (or a cell) there; how long that goes on is up to the unit. A unit at rest costs nothing: it is
//! looked at only once a request may lead to it, which [`App::stir`] says.

mod act;
mod drain;
mod form;
mod limits;
mod sight;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use baton_placement::{Backoff, Bounds, Scaler};
use tokio::sync::Notify;

pub(crate) use act::{begin, run};
pub(crate) use drain::until_drained;
pub(crate) use form::units;
pub use limits::ScaleError;
pub(crate) use limits::set;

use crate::app::App;
use crate::cells::Group;
use crate::status::ScaleStatus;

/// A call that found room nowhere is looked after so soon: most find some before.
const STARVED_AFTER: Duration = Duration::from_millis(2);

/// What a unit consists of.
pub(crate) enum What {
    /// A function whose replicas are processes, by its index.
    Processes(usize),
    /// Functions that share cells.
    Cells(Rc<Group>),
}

/// What is scaled as one.
pub(crate) struct Unit {
    pub(crate) app: RefCell<Weak<App>>,
    pub(crate) what: What,
    bounds: Cell<Bounds>,
    /// The most that there may ever be.
    pub(crate) room: u32,
    /// Its functions, and everyone from whom a request may come to one of them.
    callers: Vec<usize>,
    /// Absent at rest.
    scaler: RefCell<Option<Box<Scaler>>>,
    wanted: Cell<u32>,
    /// When it is looked at next.
    due: Cell<Option<Instant>>,
    /// It is in the node's list of those that are looked at.
    is_listed: Cell<bool>,
    /// One for each place, if someone keeps it.
    places: RefCell<Vec<Option<Rc<Place>>>>,
    /// Places whose last replicas died, until they are well again.
    crashes: RefCell<BTreeMap<usize, Crashes>>,
    /// What its replicas had done when it was last looked at.
    seen: Cell<sight::Seen>,
    /// When one of them was last seen at work.
    pub(crate) used: Cell<Instant>,
    /// How long the last start of one took.
    pub(crate) start_took: Cell<Duration>,
}

struct Crashes {
    backoff: Backoff,
    not_before: Instant,
}

/// Where one replica, or one cell, is kept.
pub(crate) struct Place {
    pub(crate) number: usize,
    is_leaving: Cell<bool>,
    /// Nothing brings it back any more.
    is_gone: Cell<bool>,
    /// Another replica is to come in its place, whatever is wanted.
    must_go: Cell<bool>,
    /// Nobody keeps it any more.
    has_ended: Cell<bool>,
    told: Notify,
}

impl Place {
    /// Whether its replica is to end as soon as it has nothing in its hands.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    fn may_come_back(&self) -> bool {
        self.is_leaving.get() && !self.is_gone.get() && !self.must_go.get()
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Waits until it is to end.
    pub(crate) async fn until_leaving(&self) {
        while !self.is_leaving.get() {
            self.told.notified().await;
        }
    }

    fn leave(&self) {
        self.is_leaving.set(true);
        self.told.notify_one();
    }

    /// It could not be drained, or is wanted again.
    pub(crate) fn stay(&self) {
        self.is_leaving.set(false);
        self.must_go.set(false);
    }

    /// Its replica is being ended.
    pub(crate) fn end(&self) {
        self.is_gone.set(true);
    }
}

impl Unit {
    pub(crate) fn new(what: What, bounds: Bounds, callers: Vec<usize>) -> Rc<Unit> {
        Rc::new(Unit {
            app: RefCell::default(),
            what,
            bounds: Cell::new(bounds),
            room: bounds.max,
            callers,
            scaler: RefCell::default(),
            wanted: Cell::new(bounds.min),
            due: Cell::new(None),
            is_listed: Cell::new(false),
            places: RefCell::default(),
            crashes: RefCell::default(),
            seen: Cell::default(),
            used: Cell::new(Instant::now()),
            start_took: Cell::new(Duration::ZERO),
        })
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds.get()
    }

    pub(crate) fn status(&self) -> ScaleStatus {
        let Bounds { min, max, .. } = self.bounds();
        ScaleStatus { min, max, wanted: self.wanted() }
    }

    /// Replicas that there shall be.
    pub(crate) fn wanted(&self) -> u32 {
        self.wanted.get()
    }

    /// Whether there are more than have to be.
    pub(crate) fn can_shrink(&self) -> bool {
        self.wanted() > self.bounds().min
    }

    /// Whether the number of its replicas can change.
    pub(crate) fn is_scalable(&self) -> bool {
        let bounds = self.bounds.get();
        bounds.max > bounds.min
    }

    /// Whether there may be none.
    pub(crate) fn may_sleep(&self) -> bool {
        self.bounds.get().min == 0
    }

    /// Whether requests of a function may lead here.
    pub(crate) fn is_behind(&self, function: usize) -> bool {
        self.callers.contains(&function)
    }

    /// Whether someone keeps a place.
    pub(crate) fn keeps(&self, place: usize) -> bool {
        self.places.borrow().get(place).is_some_and(Option::is_some)
    }

    /// Places that someone keeps.
    pub(crate) fn kept(&self) -> Vec<Rc<Place>> {
        self.places.borrow().iter().flatten().cloned().collect()
    }

    /// Its functions, by index.
    pub(crate) fn functions(&self) -> &[usize] {
        match &self.what {
            What::Processes(function) => std::slice::from_ref(function),
            What::Cells(group) => &group.seats,
        }
    }

    // ---- what its keepers say -----------------------------------------------------------------------------------

    /// Waits until a replica may be started at `place`: at once, unless others died there. `false` if none is needed any more.
    pub(crate) async fn wait_to_start(&self, app: &App, place: &Place) -> bool {
        loop {
            if app.stopping.get() || place.is_leaving() {
                return false;
            }
            let not_before = self.crashes.borrow().get(&place.number).map(|crashes| crashes.not_before);
            let Some(until) = not_before.filter(|at| *at > Instant::now()) else { return true };
            let changed = app.changed.notified();
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = changed => {}
                () = place.until_leaving() => {}
            }
        }
    }

    /// A replica runs at `place`.
    pub(crate) fn started(&self, place: usize, since: Duration) {
        if let Some(crashes) = self.crashes.borrow_mut().get_mut(&place) {
            crashes.backoff.started(since);
        }
    }

    /// The replica at `place` died. How long nobody starts another one there, and whether they keep dying.
    pub(crate) fn failed(&self, place: usize, began: Duration, since: Duration) -> (Duration, bool) {
        let mut crashes = self.crashes.borrow_mut();
        let known = crashes.entry(place).or_insert_with(|| {
            let mut backoff = Backoff::new();
            backoff.started(began);
            Crashes { backoff, not_before: Instant::now() }
        });
        let delay = known.backoff.failed(since);
        known.not_before = Instant::now() + delay;
        (delay, known.backoff.crash_looping(since))
    }
}
