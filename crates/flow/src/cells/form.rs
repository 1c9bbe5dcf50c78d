//! From a manifest to groups.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use baton_abi::cell::{KEYS_MAX, SEATS_MAX};
use baton_catalog::{Function, KeyName, Manifest};
use baton_placement::{Bounds, KeyTooCrowded, Room, Tenant, group};
use tokio::sync::Notify;

use super::Group;
use crate::error::DeployError;
use crate::hosting::Hosting;

/// What a cell has room for.
const ROOM: Room = Room { seats: SEATS_MAX, keys: KEYS_MAX };

/// Groups of the functions that run in compartments; `hosting` is in the order of the manifest's functions.
pub(crate) fn form(
    manifest: &Manifest,
    hosting: &[Hosting],
    program: &Path,
) -> Result<Vec<Rc<Group>>, DeployError> {
    let functions: Vec<&Function> = manifest.functions.values().collect();
    let calls = calls(manifest);
    let in_cells: Vec<usize> =
        (0..functions.len()).filter(|&index| hosting.get(index).is_some_and(Hosting::is_in_cell)).collect();
    let keys = keys(&functions);
    let shared_key = |function: &Function| function.share_key.as_ref().and_then(|key| keys.get(key).copied());
    let of = |index: usize| functions.get(index).copied();
    let tenants: Vec<Tenant> =
        in_cells.iter().map(|&index| Tenant { shared_key: of(index).and_then(shared_key) }).collect();
    let seat_of = |function: usize| in_cells.iter().position(|&index| index == function);
    let edges: Vec<(usize, usize)> =
        calls.iter().filter_map(|&(from, to)| Some((seat_of(from)?, seat_of(to)?))).collect();
    let groups = group(&tenants, &edges, ROOM).map_err(|KeyTooCrowded { key, functions }| {
        let name = keys.iter().find(|(_, number)| **number == key).map(|(name, _)| name.to_string());
        DeployError::KeyTooCrowded { key: name.unwrap_or_default(), functions, max: ROOM.seats }
    })?;
    let build = |(number, members): (usize, Vec<usize>)| {
        let seats: Vec<usize> = members.iter().filter_map(|&member| in_cells.get(member).copied()).collect();
        let specs: Vec<&Function> = seats.iter().filter_map(|&seat| of(seat)).collect();
        let key_groups = specs.iter().map(|spec| shared_key(spec).map_or(0, number_of)).collect();
        Rc::new(new(Formed { number, seats, key_groups }, &specs, program))
    };
    Ok(groups.into_iter().enumerate().map(build).collect())
}

/// A shared key's number in a plan, where 0 is for keys of one's own.
fn number_of(key: usize) -> u32 {
    u32::try_from(key).unwrap_or(u32::MAX - 1) + 1
}

struct Formed {
    number: usize,
    seats: Vec<usize>,
    key_groups: Vec<u32>,
}

fn new(formed: Formed, specs: &[&Function], program: &Path) -> Group {
    let longest = |times: &mut dyn Iterator<Item = Duration>| times.max().unwrap_or_default();
    let count = formed.seats.len();
    let min = specs.iter().map(|spec| spec.scale.min).max().unwrap_or(1);
    // Nobody's `max` is exceeded, but for another's `min`.
    let max = specs.iter().map(|spec| spec.scale.max).min().unwrap_or(1);
    Group {
        number: formed.number,
        seats: formed.seats,
        key_groups: formed.key_groups,
        bounds: Bounds {
            min,
            max: max.max(min).max(1),
            idle: longest(&mut specs.iter().map(|spec| spec.scale.idle.duration())),
        },
        patience: longest(&mut specs.iter().map(|spec| spec.timeout.duration())),
        program: program.to_owned(),
        template: RefCell::default(),
        ready: Cell::new(false),
        failure: RefCell::default(),
        cells: RefCell::default(),
        next_cell: Cell::new(0),
        edges: RefCell::default(),
        oom_kills: Cell::new(0),
        load: Cell::new(None),
        naming: Cell::new(0),
        turned: Notify::new(),
        images: RefCell::new((0..count).map(|_| None).collect()),
        keys: RefCell::new(vec![None; count]),
        from_disk: RefCell::default(),
    }
}

/// Every call edge as indices of caller and callee.
pub(crate) fn calls(manifest: &Manifest) -> Vec<(usize, usize)> {
    let place = |name| manifest.functions.keys().position(|other| other == name);
    manifest.edges().filter_map(|(caller, callee)| Some((place(caller)?, place(callee)?))).collect()
}

/// The shared keys of an app, numbered in the order of their names.
fn keys<'a>(functions: &[&'a Function]) -> BTreeMap<&'a KeyName, usize> {
    let mut keys: BTreeMap<&KeyName, usize> =
        functions.iter().filter_map(|function| Some((function.share_key.as_ref()?, 0))).collect();
    for (number, value) in keys.values_mut().enumerate() {
        *value = number;
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn app(functions: &[(&str, &str)]) -> Manifest {
        let mut text = "[app]\nname = \"shop\"\n".to_owned();
        for (name, more) in functions {
            write!(text, "[functions.{name}]\nartifact = \"x\"\nisolation = \"compartment\"\n{more}\n")
                .unwrap();
        }
        Manifest::parse(&text, Path::new("baton.toml")).unwrap()
    }

    fn groups(functions: &[(&str, &str)]) -> Vec<Rc<Group>> {
        let hosting = vec![Hosting::Compartment; functions.len()];
        form(&app(functions), &hosting, Path::new("cell")).unwrap()
    }

    #[test]
    fn cells_are_as_many_as_every_function_bears() {
        let scaled = |(min, max)| format!("scale = {{ min = {min}, max = {max} }}");
        let check = |one, other, expect| {
            let bounds = groups(&[("a", &scaled(one)), ("b", &scaled(other))])[0].bounds;
            assert_eq!((bounds.min, bounds.max), expect, "{one:?} {other:?}");
        };
        check((0, 8), (0, 8), (0, 8));
        check((0, 8), (1, 1), (1, 1));
        check((0, 2), (0, 8), (0, 2));
        check((3, 3), (0, 1), (3, 3));
        check((1, 8), (5, 6), (5, 6));
    }

    #[test]
    fn shared_keys_have_one_number_each() {
        let found = groups(&[
            ("a", "share_key = \"y\""),
            ("b", ""),
            ("c", "share_key = \"x\""),
            ("d", "share_key = \"y\""),
        ]);
        assert_eq!(found[0].key_groups, [2, 0, 1, 2]);
    }

    #[test]
    fn functions_that_share_keys_fit_in_one_cell_beyond_the_number_of_keys() {
        let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
        let shared = |number: usize| if number < 10 { "share_key = \"x\"" } else { "" };
        let functions: Vec<(&str, &str)> =
            names.iter().enumerate().map(|(number, name)| (name.as_str(), shared(number))).collect();
        assert_eq!(groups(&functions).len(), 1, "eleven keys");
    }

    #[test]
    fn a_crowded_key_is_refused_by_name() {
        let names: Vec<String> = (0..33).map(|n| format!("f{n}")).collect();
        let functions: Vec<(&str, &str)> =
            names.iter().map(|name| (name.as_str(), "share_key = \"all\"")).collect();
        let hosting = vec![Hosting::Compartment; 33];
        let refused = form(&app(&functions), &hosting, Path::new("cell")).err().unwrap();
        assert_eq!(refused, DeployError::KeyTooCrowded { key: "all".into(), functions: 33, max: 32 });
    }
}
