//! The routes of two versions of an app side by side.

use super::{Method, Route};

/// Routes of which version lead somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Both versions answer: the place of each one's route in its list.
    Both(usize, usize),
    /// The first alone.
    First(usize),
    /// The second alone.
    Second(usize),
}

/// The routes of two versions as one list: what both answer stands there once, with the first one's function.
///
/// A path and a method are the same in both if the text of the pattern is: then parameters have the same names too.
/// Patterns that differ and still clash are found by whoever compiles the list.
#[must_use]
pub fn merged(first: &[Route], second: &[Route]) -> Vec<(Route, Side)> {
    let mut rows = Vec::new();
    for (place, route) in first.iter().enumerate() {
        let alike = second.iter().enumerate().filter(|(_, other)| other.path == route.path);
        let mut own = route.methods.clone();
        for (other, theirs) in alike {
            let (both, rest): (Vec<Method>, _) =
                own.into_iter().partition(|method| theirs.methods.contains(method));
            push(&mut rows, route, both, Side::Both(place, other));
            own = rest;
        }
        push(&mut rows, route, own, Side::First(place));
    }
    for (place, route) in second.iter().enumerate() {
        let alike = first.iter().filter(|other| other.path == route.path);
        let known: Vec<&Method> = alike.flat_map(|other| &other.methods).collect();
        let own = route.methods.iter().filter(|method| !known.contains(method)).cloned().collect();
        push(&mut rows, route, own, Side::Second(place));
    }
    rows
}

fn push(rows: &mut Vec<(Route, Side)>, route: &Route, methods: Vec<Method>, side: Side) {
    if !methods.is_empty() {
        rows.push((Route { methods, ..route.clone() }, side));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::FunctionName;
    use crate::routes::RouteTable;

    fn route(path: &str, methods: &[&str], function: &str) -> Route {
        Route {
            path: path.parse().unwrap(),
            methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
            function: FunctionName::new(function).unwrap(),
        }
    }

    #[test]
    fn what_both_answer_stands_there_once_and_the_rest_is_of_one() {
        let first = [route("/a", &["GET", "POST"], "one"), route("/b", &["GET"], "one")];
        let second =
            [route("/a", &["GET"], "two"), route("/a", &["PUT"], "three"), route("/c/{x}", &["GET"], "two")];
        let rows = merged(&first, &second);
        let shown: Vec<_> = rows
            .iter()
            .map(|(route, side)| {
                let methods: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
                (route.path.to_string(), methods.join(","), *side)
            })
            .collect();
        let expect = [
            ("/a", "GET", Side::Both(0, 0)),
            ("/a", "POST", Side::First(0)),
            ("/b", "GET", Side::First(1)),
            ("/a", "PUT", Side::Second(1)),
            ("/c/{x}", "GET", Side::Second(2)),
        ];
        let expect = expect.map(|(path, methods, side)| (path.to_owned(), methods.to_owned(), side));
        assert_eq!(shown, expect);
        assert!(RouteTable::compile(rows).is_ok());
    }

    #[test]
    fn the_same_routes_are_all_of_both_and_other_names_of_parameters_clash() {
        let routes = [route("/a/{x}", &["GET"], "one"), route("/{*rest}", &["GET", "POST"], "one")];
        let rows = merged(&routes, &routes);
        assert_eq!(
            rows.iter().map(|(_, side)| *side).collect::<Vec<_>>(),
            [Side::Both(0, 0), Side::Both(1, 1)]
        );
        let renamed = [route("/a/{y}", &["GET"], "one")];
        assert!(RouteTable::compile(merged(&routes, &renamed)).is_err());
    }
}
