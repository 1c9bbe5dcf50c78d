//! Templates of which nobody has wanted a cell for long end: what a function at rest costs is then on the disk.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Group;
use crate::app::App;
use crate::scale::{Unit, What};

/// A template stays for so many times `scale.idle` after the last cell.
const IDLES: u32 = 10;
/// At least and at most so long.
const STAYS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Looks in that time.
const LOOKS: u32 = 4;

fn unit_of(app: &App, group: &Rc<Group>) -> Option<Rc<Unit>> {
    let is_this = |unit: &&Rc<Unit>| matches!(&unit.what, What::Cells(other) if Rc::ptr_eq(other, group));
    app.units.iter().find(is_this).cloned()
}

/// Waits until nobody has wanted a cell for long. Without a place for snapshots, a start would be the first one over again:
/// forever then.
pub(super) async fn until_over(app: &Rc<App>, group: &Rc<Group>) {
    let unit = unit_of(app, group).filter(|_| app.node.snapshots.is_some());
    let Some(unit) = unit else { return std::future::pending().await };
    let (least, most) = STAYS;
    let stays = unit.bounds().idle.saturating_mul(IDLES).clamp(least, most);
    let mut used = Instant::now();
    while used.elapsed() < stays {
        tokio::time::sleep(stays / LOOKS).await;
        if unit.wanted() > 0 || !unit.kept().is_empty() {
            used = Instant::now();
        } else {
            used = used.max(unit.used.get());
        }
    }
}

/// Waits until someone wants a cell, or the app stops.
pub(super) async fn until_wanted(app: &Rc<App>, group: &Rc<Group>) {
    let Some(unit) = unit_of(app, group) else { return };
    loop {
        let changed = app.changed.notified();
        if app.stopping.get() || unit.wanted() > 0 || !unit.kept().is_empty() {
            return;
        }
        changed.await;
    }
}
