//! Looking, and doing what was decided.

use std::rc::Rc;
use std::time::Instant;

use baton_placement::{Decision, LOOK_EVERY, Scaler};

use super::{Place, STARVED_AFTER, Unit, What};
use crate::app::{App, FunctionState};
use crate::node::Node;
use crate::replica::Phase;
use crate::{cells, lifecycle};

/// Starts what of a unit is there from the beginning. A function in processes has one replica then, whatever its `min`: so
/// whoever deploys it sees that it starts. Cells show that by their template.
pub(crate) fn begin(app: &Rc<App>, unit: &Rc<Unit>) {
    *unit.app.borrow_mut() = Rc::downgrade(app);
    let bounds = unit.bounds();
    let first = match unit.what {
        What::Processes(_) => bounds.min.max(1).min(bounds.max.max(bounds.min)),
        What::Cells(_) => bounds.min,
    };
    if first > bounds.min {
        let scaler = Scaler::new(first, &bounds, app.node.since());
        *unit.scaler.borrow_mut() = Some(Box::new(scaler));
        unit.look_at(app, Instant::now() + bounds.idle / 8);
    }
    unit.wanted.set(first);
    unit.fill(app);
}

/// Looks at every unit that is due, forever. Sleeps while none is.
pub(crate) async fn run(node: Rc<Node>) {
    loop {
        let due = node.units.borrow().iter().filter_map(|unit| unit.due.get()).min();
        let stirred = node.stirred.notified();
        match due {
            None => stirred.await,
            Some(due) => {
                let _ = tokio::time::timeout_at(due.into(), stirred).await;
            }
        }
        let now = Instant::now();
        let is_due = |unit: &&Rc<Unit>| unit.due.get().is_some_and(|due| due <= now);
        let units: Vec<Rc<Unit>> = node.units.borrow().iter().filter(is_due).cloned().collect();
        for unit in units {
            let app = unit.app.borrow().upgrade().filter(|app| !app.stopping.get());
            match app {
                Some(app) => unit.look(&app, false),
                None => unit.due.set(None),
            }
        }
        node.units.borrow_mut().retain(|unit| {
            unit.is_listed.set(unit.due.get().is_some());
            unit.is_listed.get()
        });
    }
}

impl App {
    /// A request comes that may lead to every unit behind `state`: those that nobody looks at are looked at from now on, and
    /// those of which there is nothing are started, since an edge can be waited for, and nobody hears that someone does.
    pub(crate) fn stir(self: &Rc<Self>, state: &FunctionState) {
        if state.is_stirred.replace(true) {
            return;
        }
        let behind = state.behind.iter().filter_map(|number| self.units.get(*number));
        for unit in behind.filter(|unit| unit.is_scalable()) {
            if unit.wanted() == 0 {
                unit.look(self, true);
            } else if unit.due.get().is_none_or(|due| due > Instant::now() + LOOK_EVERY) {
                unit.look_at(self, Instant::now() + LOOK_EVERY);
            }
        }
    }

    /// A call of a function waits.
    pub(crate) fn starve(self: &Rc<Self>, state: &FunctionState) {
        let Some(unit) = state.unit.and_then(|number| self.units.get(number)) else { return };
        let soon = Instant::now() + STARVED_AFTER;
        if unit.wanted() < unit.bounds().max && unit.due.get().is_none_or(|due| due > soon) {
            unit.look_at(self, soon);
        }
    }

    /// The unit of a function, if it runs here.
    pub(crate) fn unit_of(&self, function: usize) -> Option<&Rc<Unit>> {
        self.units.get(self.functions.get(function)?.unit?)
    }
}

impl Unit {
    /// Has it looked at at this time.
    pub(super) fn look_at(self: &Rc<Self>, app: &App, at: Instant) {
        self.due.set(Some(at));
        if !self.is_listed.replace(true) {
            app.node.units.borrow_mut().push(Rc::clone(self));
        }
        app.node.stirred.notify_one();
    }

    /// Looks, decides, and does it.
    pub(super) fn look(self: &Rc<Self>, app: &Rc<App>, is_called: bool) {
        let (bounds, now) = (self.bounds(), app.node.since());
        let mut sight = self.sight(app);
        sight.wanted |= is_called;
        if sight.wanted {
            self.used.set(Instant::now());
        }
        let Decision { replicas, again } = {
            let mut scaler = self.scaler.borrow_mut();
            let fresh = || Box::new(Scaler::new(self.wanted().min(bounds.max), &bounds, now));
            let decision = scaler.get_or_insert_with(fresh).look(&bounds, &sight, now);
            if decision.again.is_none() {
                // At rest: the next one starts from what there is then.
                *scaler = None;
            }
            decision
        };
        self.wanted.set(replicas);
        match again {
            Some(again) => self.look_at(app, Instant::now() + again),
            None => self.due.set(None),
        }
        if again.is_none_or(|again| again > LOOK_EVERY) {
            // The next request says so.
            let callers = self.callers.iter().filter_map(|number| app.functions.get(*number));
            callers.for_each(|state| state.is_stirred.set(false));
        }
        self.fill(app);
    }

    /// Makes it so that as many places are kept as are wanted.
    pub(super) fn fill(self: &Rc<Self>, app: &Rc<App>) {
        if app.stopping.get() {
            return;
        }
        let wanted = self.wanted() as usize;
        let kept = self.kept();
        let stays = kept.iter().filter(|place| !place.is_leaving()).count();
        if stays > wanted {
            self.let_go(app, kept, stays - wanted);
            return;
        }
        let mut missing = wanted - stays;
        for place in kept.iter().filter(|place| place.may_come_back()) {
            if missing > 0 {
                place.stay();
                missing -= 1;
            }
        }
        // One that is just ending counts until it is gone: there are never more than may be.
        let room = (self.bounds().max as usize).saturating_sub(kept.len());
        for _ in 0..missing.min(room) {
            self.keep(app);
        }
    }

    /// Has as many places leave, first where nothing runs, then the last of those that have the least to do.
    fn let_go(&self, app: &App, kept: Vec<Rc<Place>>, count: usize) {
        let busy = |place: &Place| {
            let states = self.functions().iter().filter_map(|function| app.functions.get(*function));
            let replicas = states.filter_map(|state| state.replicas.borrow().get(place.number).cloned()?);
            replicas.fold(0, |busy, up| {
                let starts = u32::from(up.phase.get() == Phase::Ready);
                busy + starts + up.in_flight().max(up.peer.borrow().bell().in_flight())
            })
        };
        let mut order: Vec<(u32, std::cmp::Reverse<usize>, Rc<Place>)> = kept
            .into_iter()
            .filter(|place| !place.is_leaving())
            .map(|place| (busy(&place), std::cmp::Reverse(place.number), place))
            .collect();
        order.sort_by_key(|(busy, number, _)| (*busy, *number));
        order.iter().take(count).for_each(|(_, _, place)| place.leave());
    }

    /// Has someone keep the first free place.
    fn keep(self: &Rc<Self>, app: &Rc<App>) {
        let mut places = self.places.borrow_mut();
        let number = places.iter().position(Option::is_none).unwrap_or(places.len());
        let place = Rc::new(Place {
            number,
            is_leaving: false.into(),
            is_gone: false.into(),
            must_go: false.into(),
            has_ended: false.into(),
            told: tokio::sync::Notify::new(),
        });
        if number == places.len() {
            places.push(None);
        }
        if let Some(slot) = places.get_mut(number) {
            *slot = Some(Rc::clone(&place));
        }
        self.fit(app, places.len());
        drop(places);
        // A template may have to be started first.
        app.changed.notify_waiters();
        let (app, unit) = (Rc::clone(app), Rc::clone(self));
        tokio::task::spawn_local(async move {
            match &unit.what {
                What::Processes(function) => lifecycle::keep_alive(&app, &unit, *function, &place).await,
                What::Cells(group) => cells::keep_cell(&app, &unit, group, &place).await,
            }
            unit.give_up(&app, &place);
        });
    }

    /// Nobody keeps a place any more.
    fn give_up(self: &Rc<Self>, app: &Rc<App>, place: &Place) {
        place.has_ended.set(true);
        let mut places = self.places.borrow_mut();
        if let Some(slot) = places.get_mut(place.number) {
            *slot = None;
        }
        while places.last().is_some_and(Option::is_none) {
            places.pop();
        }
        self.fit(app, places.len());
        drop(places);
        app.changed.notify_waiters();
        // Someone may have come meanwhile.
        self.fill(app);
    }

    /// Each function has room for as many replicas as there are places.
    fn fit(&self, app: &App, places: usize) {
        for state in self.functions().iter().filter_map(|function| app.functions.get(*function)) {
            state.replicas.borrow_mut().resize(places, None);
        }
    }

    /// Has `places` end if nothing has anything to do; what has to be there comes anew.
    pub(crate) fn evict(&self, app: &App, places: &[Rc<Place>]) {
        if app.is_wanted(self) {
            return;
        }
        for place in places {
            place.must_go.set(true);
            place.leave();
        }
        self.sleep(app);
    }

    /// Forgets what there was to do lately: if nothing is, those go that need not be there.
    fn sleep(&self, app: &App) {
        *self.scaler.borrow_mut() = None;
        self.wanted.set(self.bounds().min);
        self.due.set(None);
        let callers = self.callers.iter().filter_map(|number| app.functions.get(*number));
        callers.for_each(|state| state.is_stirred.set(false));
    }

    /// Ends those that need not be there, before their time. Gives whether there are any.
    pub(crate) fn relieve(self: &Rc<Self>, app: &Rc<App>) -> bool {
        if !self.can_shrink() || app.is_wanted(self) {
            return false;
        }
        self.sleep(app);
        self.fill(app);
        true
    }
}
