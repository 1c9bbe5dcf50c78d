//! Taking a replica away without losing a call.
//!
//! ```text
//!   node          phase: draining        no new request of the node's goes there
//!                 edges: retiring        callers look at this in the turn in which they send …
//!                 nudge the callers      … so once each has begun another turn, no call is on its way that it does not see
//!   replica       nothing in its hands, and asleep: its rings are empty
//!                                        twice in a row: it is told to end, or its cell is ended
//! ```
//! Whatever is not over in time, or wanted again meanwhile, goes back to work as if nothing had been.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Place;
use crate::app::App;
use crate::replica::{Phase, Replica};

/// How long a replica may take to get rid of what it has. One that takes longer stays, and is asked again later.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// So many looks in a row have to find it empty.
const CALM_LOOKS: u32 = 2;

/// Waits until a place is to be left and its replicas have nothing in their hands any more. `false` if they stay after all.
pub(crate) async fn until_drained(app: &Rc<App>, replicas: &[Rc<Replica>], place: &Place) -> bool {
    place.until_leaving().await;
    if app.stopping.get() {
        // Whoever stops the app ends them.
        std::future::pending::<()>().await;
    }
    drain(app, replicas, place).await
}

/// Waits until `replicas`, all that are in one process, have nothing in their hands and get nothing any more. `false` if they
/// stay: it took too long, or the place is wanted again.
async fn drain(app: &Rc<App>, replicas: &[Rc<Replica>], place: &Place) -> bool {
    let is_over = |replica: &Rc<Replica>| replica.phase.get() == Phase::Dead;
    for replica in replicas.iter().filter(|replica| replica.phase.get() == Phase::Ready) {
        replica.phase.set(Phase::Draining);
    }
    let holders: Vec<u16> = replicas.iter().map(|replica| replica.holder).collect();
    let callers = app.edges.borrow().retire(&holders, true);
    let callers: Vec<(Rc<Replica>, u32)> = callers
        .into_iter()
        .filter(|caller| !holders.contains(caller))
        .filter_map(|caller| app.replica(caller))
        .map(|caller| {
            let turn = caller.peer.borrow().bell().turn();
            caller.nudge();
            (caller, turn)
        })
        .collect();
    let has_turned =
        |(caller, turn): &(Rc<Replica>, u32)| is_over(caller) || caller.peer.borrow().bell().turn() != *turn;
    let is_empty = |replica: &Rc<Replica>| {
        let peer = replica.peer.borrow();
        replica.in_flight() == 0 && peer.bell().in_flight() == 0 && peer.bell().is_asleep()
    };
    let until = Instant::now() + DRAIN_WITHIN;
    let mut calm = 0;
    while place.is_leaving() && !app.stopping.get() && Instant::now() < until {
        if replicas.iter().any(is_over) {
            return true;
        }
        let is_calm = callers.iter().all(has_turned) && replicas.iter().all(is_empty);
        calm = if is_calm { calm + 1 } else { 0 };
        if calm >= CALM_LOOKS {
            place.end();
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if app.stopping.get() {
        return false;
    }
    place.stay();
    app.edges.borrow().retire(&holders, false);
    for replica in replicas.iter().filter(|replica| replica.phase.get() == Phase::Draining) {
        replica.phase.set(Phase::Ready);
        app.serve_queue(replica.function);
    }
    false
}
