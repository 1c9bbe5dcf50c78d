//! Ending the cells of an app that have nothing to do. Their templates stay.

use std::rc::Rc;
use std::time::Duration;

use super::Group;
use crate::app::App;

/// How often it is looked whether they are gone, and at most how many times: a cell that got work meanwhile stays.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LOOKS_MAX: u32 = 1000;

impl Group {
    /// Has the cells that there are end as soon as they have nothing to do.
    pub(super) fn evict_cells(&self) {
        let last = self.cells.borrow().keys().next_back().copied();
        if last.is_some() {
            self.evicted_up_to.set(last);
        }
        self.evicted.notify_waiters();
    }
}

/// Ends every cell that has nothing to do, before `scale.idle` is over, and waits for its end. A cell that has to be there
/// is forked anew at once. Gives how many have ended.
pub(crate) async fn evict(app: &Rc<App>) -> u32 {
    let numbers = |group: &Rc<Group>| group.cells.borrow().keys().copied().collect::<Vec<u32>>();
    let before: Vec<Vec<u32>> = app.groups.iter().map(numbers).collect();
    app.groups.iter().for_each(|group| group.evict_cells());
    let ended = || -> usize {
        let of_group = |(group, before): (&Rc<Group>, &Vec<u32>)| {
            let cells = group.cells.borrow();
            before.iter().filter(|number| !cells.contains_key(number)).count()
        };
        app.groups.iter().zip(&before).map(of_group).sum()
    };
    let all: usize = before.iter().map(Vec::len).sum();
    for _ in 0..LOOKS_MAX {
        if ended() == all {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        // A cell that was at work, or was being looked after, when it was told has not heard it.
        app.groups.iter().for_each(|group| group.evicted.notify_waiters());
    }
    u32::try_from(ended()).unwrap_or(u32::MAX)
}
