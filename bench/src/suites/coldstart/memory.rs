//! What a further cell of the boutique has for itself.

use std::time::Duration;

use serde_json::Value;

use crate::boutique::Case;
use crate::load::{Load, Pace, Until};
use crate::proc;
use crate::report::{Sample, Series};
use crate::suites::boutique::open_shop;
use crate::systems::Fleet;

use super::{Stage, SuiteError, status, wrong};

const CONNECTIONS: u32 = 16;
const USED_FOR: Duration = Duration::from_secs(1);

/// Adds a row about the youngest cell, or a note that the kernel does not tell.
pub(super) fn measure(
    stage: &Stage,
    case: &str,
    series: &mut Series,
    notes: &mut Vec<String>,
) -> Result<(), SuiteError> {
    let fleet = &stage.residents;
    let cells = cells(&status(fleet, &stage.shop)?);
    let &(number, pid) = cells.last().ok_or_else(|| wrong(&fleet.system, "the boutique has no cell"))?;
    if number == 0 {
        return Err(wrong(&fleet.system, "the boutique has one cell, not two"));
    }
    let Some(private_kib) = proc::private_kib(pid) else {
        let note = "memory is left out: the kernel does not show the memory of cells to this user";
        if !notes.iter().any(|known| known == note) {
            notes.push(note.to_owned());
        }
        return Ok(());
    };
    let figures = [("private_kib".to_owned(), private_kib as f64)].into();
    series.add(stage.key(case), Sample { figures, ..Sample::default() });
    Ok(())
}

/// Number and process of each cell, youngest last.
fn cells(status: &Value) -> Vec<(u64, u32)> {
    let functions = status["functions"].as_array().into_iter().flatten();
    let replicas = functions.flat_map(|function| function["replicas"].as_array().into_iter().flatten());
    let cell =
        |replica: &Value| Some((replica["cell"].as_u64()?, u32::try_from(replica["pid"].as_u64()?).ok()?));
    let mut cells: Vec<(u64, u32)> = replicas.filter_map(cell).collect();
    cells.sort_unstable();
    cells.dedup();
    cells
}

/// Visits the boutique for a while.
pub(super) fn use_it(fleet: &Fleet) -> Result<(), SuiteError> {
    let shop = open_shop(&fleet.system, fleet.address)?;
    let mut load = Load::open(fleet.address, shop.plans(Case::Mix, CONNECTIONS, 0))?;
    let outcome = load.run(Pace::Closed, Until::Elapsed(USED_FOR));
    match outcome.answered {
        0 => Err(wrong(&fleet.system, format!("no request succeeded: {:?}", outcome.errors))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_once_however_many_functions_they_hold() {
        let replicas = serde_json::json!([{"cell": 1, "pid": 20}, {"cell": 0, "pid": 10}]);
        let status = serde_json::json!({"functions": [{"replicas": replicas}, {"replicas": replicas}]});
        assert_eq!(cells(&status), [(0, 10), (1, 20)]);
        assert!(
            cells(&serde_json::json!({"functions": [{"replicas": [{"cell": null, "pid": 3}]}]})).is_empty()
        );
    }
}
