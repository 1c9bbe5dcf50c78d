//! Ending the cells of an app that have nothing to do. Their templates stay.

use std::rc::Rc;
use std::time::Duration;

use crate::app::App;
use crate::scale::{Place, Unit, What};

/// How often it is looked whether they are gone, and at most how many times: a cell that got work meanwhile stays.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LOOKS_MAX: u32 = 1000;

/// Ends every cell that has nothing to do, before `scale.idle` is over, and waits for its end. A cell that has to be there
/// is forked anew at once. Gives how many have ended.
pub(crate) async fn evict(app: &Rc<App>) -> u32 {
    let of_cells = || app.units.iter().filter(|unit| matches!(unit.what, What::Cells(_)));
    let before: Vec<(&Rc<Unit>, Vec<Rc<Place>>)> = of_cells().map(|unit| (unit, unit.kept())).collect();
    let all = || before.iter().flat_map(|(_, places)| places);
    let ended = || all().filter(|place| place.has_ended()).count();
    for _ in 0..LOOKS_MAX {
        if ended() == all().count() {
            break;
        }
        // One that was at work before may not be any more.
        let is_untold = |place: &Rc<Place>| !place.has_ended() && !place.is_leaving();
        let untold = before.iter().filter(|(_, places)| places.iter().any(is_untold));
        untold.for_each(|(unit, places)| unit.evict(app, places));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    u32::try_from(ended()).unwrap_or(u32::MAX)
}
