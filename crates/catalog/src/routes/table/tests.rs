//! Lookups against expectations and against a plain oracle.

use proptest::prelude::*;

use super::*;
use crate::names::FunctionName;

fn route(path: &str, methods: &[&str]) -> Route {
    let methods = methods.iter().map(|method| method.parse().unwrap()).collect();
    Route { path: path.parse().unwrap(), methods, function: FunctionName::new("f").unwrap() }
}

fn table(routes: &[(&str, &[&str])]) -> RouteTable<usize> {
    let routes = routes.iter().enumerate().map(|(index, (path, methods))| (route(path, methods), index));
    RouteTable::compile(routes).unwrap()
}

fn shop() -> RouteTable<usize> {
    table(&[
        ("/", &["GET"]),
        ("/cart", &["GET", "POST"]),
        ("/cart/{user}", &["GET"]),
        ("/cart/{user}/items/{item}", &["DELETE"]),
        ("/cart/empty", &["POST"]),
        ("/static/{*file}", &["GET"]),
        ("/{page}", &["GET"]),
        ("/{*rest}", &["GET"]),
    ])
}

#[derive(Debug, PartialEq)]
enum Expect<'a> {
    Route(usize, &'a [(&'a str, &'a str)]),
    Allow(&'a str),
    Nothing,
}

fn check(table: &RouteTable<usize>, method: &str, path: &str, expect: &Expect<'_>) {
    let found = table.find(method, path);
    let found = match &found {
        Match::Found { target, params, .. } => Expect::Route(**target, params.as_slice()),
        Match::MethodNotAllowed { allow } => Expect::Allow(allow),
        Match::NotFound => Expect::Nothing,
    };
    assert_eq!(&found, expect, "{method} {path}");
}

#[test]
fn the_most_specific_pattern_answers() {
    use Expect::Route;
    let cases: [(&str, Expect<'_>); 9] = [
        ("/", Route(0, &[])),
        ("/cart", Route(1, &[])),
        ("/cart/ann", Route(2, &[("user", "ann")])),
        ("/static/a/b.css", Route(5, &[("file", "a/b.css")])),
        ("/about", Route(6, &[("page", "about")])),
        ("/about/us", Route(7, &[("rest", "about/us")])),
        // The literal "cart" leads nowhere here: the walk comes back to the wildcard of the root.
        ("/cart/ann/orders", Route(7, &[("rest", "cart/ann/orders")])),
        ("/cart/", Route(7, &[("rest", "cart/")])),
        ("/static", Route(6, &[("page", "static")])),
    ];
    for (path, expect) in cases {
        check(&shop(), "GET", path, &expect);
    }
}

#[test]
fn a_known_path_with_another_method_lists_what_it_allows() {
    check(&shop(), "PUT", "/cart", &Expect::Allow("GET, HEAD, POST"));
    check(&shop(), "GET", "/cart/empty", &Expect::Allow("POST"));
    check(&shop(), "get", "/cart", &Expect::Allow("GET, HEAD, POST"));
    check(&shop(), "GET", "/cart/ann/items/7", &Expect::Allow("DELETE"));
}

#[test]
fn head_goes_where_get_goes_unless_a_route_names_it() {
    check(&shop(), "HEAD", "/cart", &Expect::Route(1, &[]));
    let named = table(&[("/a", &["GET"]), ("/a", &["HEAD"])]);
    check(&named, "HEAD", "/a", &Expect::Route(1, &[]));
}

#[test]
fn one_shape_may_serve_methods_by_different_routes() {
    let table = table(&[("/cart/{a}", &["GET"]), ("/cart/{b}", &["POST"])]);
    check(&table, "GET", "/cart/x", &Expect::Route(0, &[("a", "x")]));
    check(&table, "POST", "/cart/x", &Expect::Route(1, &[("b", "x")]));
}

#[test]
fn paths_that_are_not_plainly_written_match_nothing() {
    let all =
        ["", "cart", "*", "//", "/a//b", "/a/../b", "/..", "/.", "/%2e%2E/x", "/a/.", "/a\0b", "/a%00b"];
    for path in all {
        check(&shop(), "GET", path, &Expect::Nothing);
    }
}

#[test]
fn parameters_stay_as_the_client_wrote_them() {
    check(&shop(), "GET", "/cart/a%2Fb%20c", &Expect::Route(2, &[("user", "a%2Fb%20c")]));
    let table = shop();
    let Match::Found { params, .. } = table.find("GET", "/cart/ann") else { panic!("no match") };
    assert_eq!((params.get("user"), params.get("item")), (Some("ann"), None));
}

#[test]
fn values_of_a_dead_end_are_dropped() {
    let table = table(&[("/{a}/{b}/x", &["GET"]), ("/{*all}", &["GET"])]);
    check(&table, "GET", "/1/2/y", &Expect::Route(1, &[("all", "1/2/y")]));
}

#[test]
fn eight_parameters_fit() {
    let table = table(&[("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{*h}", &["GET"])]);
    let Match::Found { params, .. } = table.find("GET", "/1/2/3/4/5/6/7/8/9") else { panic!("no match") };
    assert_eq!(params.as_slice().last(), Some(&("h", "8/9")));
    assert_eq!(params.as_slice().len(), PARAMS_MAX);
}

#[test]
fn routes_of_one_shape_and_method_clash() {
    let clash = |one: &str, two: &str| {
        let routes =
            [(route("/", &["GET"]), 0), (route(one, &["GET", "POST"]), 1), (route(two, &["POST"]), 2)];
        RouteTable::compile(routes)
            .map(|_| ())
            .map_err(|clash| (clash.first, clash.second, clash.to_string()))
    };
    let taken = "POST /cart/{b} is taken by the route /cart/{a}".to_owned();
    assert_eq!(clash("/cart/{a}", "/cart/{b}"), Err((1, 2, taken)));
    assert!(clash("/x/{*a}", "/x/{*b}").is_err());
    assert!(clash("/x/{a}", "/x/{*a}").is_ok());
    assert!(clash("/x/a", "/x/A").is_ok());
}

/// A lookup that tries every route and keeps the most specific one.
fn oracle(routes: &[Route], path: &str) -> Option<usize> {
    let segments: Vec<&str> = match path.strip_prefix('/')? {
        "" => Vec::new(),
        rest => rest.split('/').collect(),
    };
    let inner_empty = segments.iter().rev().skip(1).any(|segment| segment.is_empty());
    if inner_empty || segments.iter().any(|segment| [".", ".."].contains(segment)) {
        return None;
    }
    let rank = |route: &Route| -> Option<Vec<u8>> {
        let mut ranks = Vec::new();
        let mut rest = segments.as_slice();
        for segment in route.path.segments() {
            let (first, deeper) = rest.split_first()?;
            match segment {
                Segment::Literal(text) => ranks.push((**text == **first).then_some(0)?),
                Segment::Param(_) => ranks.push((!first.is_empty()).then_some(1)?),
                Segment::Wildcard(_) => {
                    ranks.push((rest != [""]).then_some(2)?);
                    return Some(ranks);
                }
            }
            rest = deeper;
        }
        rest.is_empty().then_some(ranks)
    };
    let ranked = routes.iter().enumerate().filter_map(|(index, route)| Some((rank(route)?, index)));
    ranked.min().map(|(_, index)| index)
}

fn any_pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("c"), Just("{}"), Just("{}")];
    (prop::collection::vec(segment, 0..5), any::<bool>()).prop_map(|(segments, wild)| {
        let mut path: String = segments
            .iter()
            .enumerate()
            .map(|(place, segment)| format!("/{}", segment.replace("{}", &format!("{{p{place}}}"))))
            .collect();
        if wild {
            path.push_str("/{*rest}");
        }
        if path.is_empty() { "/".to_owned() } else { path }
    })
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![4 => "[abcd]", 1 => Just(String::new()), 1 => Just("..".to_owned())];
    prop::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #[test]
    fn the_table_agrees_with_trying_every_route(
        patterns in prop::collection::vec(any_pattern(), 0..24),
        paths in prop::collection::vec(any_path(), 1..24),
    ) {
        let mut routes: Vec<Route> = Vec::new();
        let mut table = RouteTable::compile([]).unwrap();
        for pattern in patterns {
            let candidate = route(&pattern, &["GET"]);
            let grown = routes.iter().cloned().chain([candidate.clone()]).enumerate();
            // What clashes is left out.
            if let Ok(grown) = RouteTable::compile(grown.map(|(index, route)| (route, index))) {
                table = grown;
                routes.push(candidate);
            }
        }
        for path in paths {
            let found = match table.find("GET", &path) {
                Match::Found { target, params, route } => {
                    prop_assert_eq!(params.as_slice().len(), route.path.param_names().count());
                    Some(*target)
                }
                Match::MethodNotAllowed { .. } => panic!("every route answers GET"),
                Match::NotFound => None,
            };
            prop_assert_eq!(found, oracle(&routes, &path), "{}", path);
        }
    }

    #[test]
    fn no_path_makes_a_lookup_panic(path in any::<String>(), method in any::<String>()) {
        let table = shop();
        let _ = table.find(&method, &path);
        let slashed = format!("/{path}");
        let _ = table.find(&method, &slashed);
    }
}
