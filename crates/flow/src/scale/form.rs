//! What of an app is scaled as one.

use std::rc::Rc;

use baton_catalog::Manifest;
use baton_placement::Bounds;

use super::{Unit, What};
use crate::cells::{Group, calls};
use crate::hosting::Hosting;

/// A unit for each group of cells, and for each function in processes; `hosting` is in the order of the manifest's functions.
pub(crate) fn units(manifest: &Manifest, hosting: &[Hosting], groups: &[Rc<Group>]) -> Vec<Rc<Unit>> {
    let calls = calls(manifest);
    let cells = groups
        .iter()
        .map(|group| Unit::new(What::Cells(Rc::clone(group)), group.bounds, callers(&calls, &group.seats)));
    let functions = manifest.functions.values().zip(hosting).enumerate();
    let processes = functions.filter(|(_, (_, hosting))| matches!(hosting, Hosting::Process { .. }));
    let processes = processes.map(|(number, (function, _))| {
        let scale = &function.scale;
        let bounds = Bounds { min: scale.min, max: scale.max, idle: scale.idle.duration() };
        Unit::new(What::Processes(number), bounds, callers(&calls, &[number]))
    });
    cells.chain(processes).collect()
}

/// Everyone from whom a call may come to one of `functions`, over any number of others, and those themselves.
fn callers(calls: &[(usize, usize)], functions: &[usize]) -> Vec<usize> {
    let mut found = functions.to_vec();
    let mut next = 0;
    while let Some(&callee) = found.get(next) {
        next += 1;
        for &(caller, _) in calls.iter().filter(|(_, called)| *called == callee) {
            if !found.contains(&caller) {
                found.push(caller);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cells::form;

    #[test]
    fn a_unit_knows_from_where_requests_come() {
        let function = |name: &str, more: &str| {
            format!("[functions.{name}]\nartifact = \"x\"\nscale = {{ min = 0, max = 3 }}\n{more}\n")
        };
        let text = [
            "[app]\nname = \"shop\"\n",
            &function("a", "calls = [\"b\"]"),
            &function("b", "calls = [\"c\"]"),
            &function("c", "isolation = \"compartment\""),
            &function("d", ""),
        ];
        let manifest = Manifest::parse(&text.concat(), Path::new("baton.toml")).unwrap();
        let process = Hosting::Process { lacking: None };
        let hosting = [process.clone(), process.clone(), Hosting::Compartment, Hosting::Elsewhere];
        let groups = form(&manifest, &hosting, Path::new("cell")).unwrap();
        let units = units(&manifest, &hosting, &groups);
        let behind = |unit: &Rc<Unit>| (0..4).map(|function| unit.is_behind(function)).collect::<Vec<bool>>();
        let about: Vec<(&[usize], Vec<bool>)> =
            units.iter().map(|unit| (unit.functions(), behind(unit))).collect();
        let expect: [(&[usize], Vec<bool>); 3] = [
            (&[2], vec![true, true, true, false]),
            (&[0], vec![true, false, false, false]),
            (&[1], vec![true, true, false, false]),
        ];
        assert_eq!(about, expect);
        assert!(units.iter().all(|unit| unit.is_scalable() && unit.may_sleep()));
    }

    #[test]
    fn calls_in_a_circle_end() {
        assert_eq!(callers(&[(0, 1), (1, 0), (2, 0)], &[1]), [1, 0, 2]);
    }
}
