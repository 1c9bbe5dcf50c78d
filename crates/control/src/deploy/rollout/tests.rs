//! What becomes of what is deployed.

use super::*;
use crate::deploy::tests::{deployment, manifest};

fn percent(percent: u16) -> Percent {
    Percent::from_hundredths(percent * 100).unwrap()
}

fn version(number: u64) -> Deployment {
    deployment("shop", number, &number.to_le_bytes())
}

fn kept(numbers: &[u64]) -> Vec<Kept> {
    numbers.iter().map(|number| Kept { deployment: version(*number), undone: None }).collect()
}

fn canary(share: u16) -> Wish {
    Wish { canary: Some(Canary { share: percent(share), sticky: None }), rollback: None }
}

fn beside(lead: u64, next: u64, share: u16) -> Deployment {
    deployed(Some(&version(lead)), version(next), canary(share)).unwrap()
}

/// Who leads, who stands beside, with how many percent.
fn shape(row: &Deployment) -> (u64, Option<(u64, u16)>) {
    let beside = row.beside.as_deref();
    (row.version, beside.map(|beside| (beside.next.version, beside.share.hundredths() / 100)))
}

fn change(
    now: &Deployment,
    kept: &[Kept],
    change: Change,
) -> Result<(u64, Option<(u64, u16)>), RolloutError> {
    changed(now, kept, change).map(|row| shape(&row))
}

#[test]
fn a_new_version_takes_all_or_a_part() {
    let shown = |now: Option<&Deployment>, next, wish| shape(&deployed(now, next, wish).unwrap());
    assert_eq!(shown(None, version(1), canary(10)), (1, None), "there is nothing to stand beside");
    let one = version(1);
    assert_eq!(shown(Some(&one), version(2), Wish::default()), (2, None));
    assert_eq!(shown(Some(&one), version(2), canary(10)), (1, Some((2, 10))));
    assert_eq!(shown(Some(&one), version(2), canary(100)), (2, None));
    let two = beside(1, 2, 10);
    assert_eq!(shown(Some(&two), version(3), canary(20)), (1, Some((3, 20))), "another canary");
    assert_eq!(shown(Some(&two), Deployment { version: 3, ..version(2) }, canary(20)), (1, Some((2, 20))));
    assert_eq!(shown(Some(&two), Deployment { version: 3, ..version(2) }, Wish::default()), (2, None));
    assert_eq!(shown(Some(&two), Deployment { version: 3, ..version(1) }, Wish::default()), (1, None));
}

#[test]
fn a_manifest_may_declare_both_and_flags_win() {
    let declare = |mut next: Deployment| {
        next.manifest.deploy.canary = Some(Canary { share: percent(5), sticky: Some(Sticky::Client) });
        next
    };
    let row = deployed(Some(&version(1)), declare(version(2)), Wish::default()).unwrap();
    assert_eq!(shape(&row), (1, Some((2, 5))));
    assert_eq!(row.beside.unwrap().sticky, Some(Sticky::Client));
    let row = deployed(Some(&version(1)), declare(version(2)), canary(100)).unwrap();
    assert_eq!(shape(&row), (2, None));
    let watched = Wish { rollback: Some(Rollback::default()), canary: None };
    let row = deployed(Some(&version(1)), version(2), watched).unwrap();
    assert_eq!(shape(&row), (1, Some((2, 100))));
    assert!(row.beside.unwrap().takes_over);
}

#[test]
fn promoting_and_going_back() {
    let two = beside(2, 3, 10);
    let all = kept(&[1, 2, 3]);
    assert_eq!(change(&two, &all, Change::Promote), Ok((3, None)));
    assert_eq!(change(&two, &all, Change::TakeOver { version: 3 }), Ok((3, None)));
    assert!(change(&two, &all, Change::TakeOver { version: 4 }).is_err());
    assert_eq!(change(&two, &all, Change::Rollback { to: None }), Ok((2, None)));
    assert_eq!(change(&two, &all, Change::Rollback { to: Some(1) }), Ok((1, None)));
    assert_eq!(change(&version(3), &all, Change::Rollback { to: None }), Ok((2, None)));
    assert_eq!(change(&version(3), &all, Change::Promote), Err(RolloutError::NoCanary { version: 3 }));
    assert_eq!(
        change(&version(1), &all, Change::Rollback { to: None }),
        Err(RolloutError::NoOlder { version: 1 })
    );
    let unknown = change(&version(3), &all, Change::Rollback { to: Some(9) });
    assert_eq!(unknown, Err(RolloutError::Unknown { version: 9, kept: vec![1, 2, 3] }));
}

#[test]
fn what_was_undone_is_not_gone_back_to_unless_it_is_named() {
    let two = beside(2, 3, 10);
    let undo = Change::Undo { version: 3, why: "errors".to_owned(), at_ms: 7 };
    let row = changed(&two, &[], undo.clone()).unwrap();
    assert_eq!((shape(&row), row.undone.as_ref().unwrap().version), ((2, None), 3));
    assert!(changed(&row, &[], undo).is_err(), "once is enough");
    let mut all = kept(&[1, 2, 3]);
    all[1].undone = Some("errors".to_owned());
    assert_eq!(change(&version(3), &all, Change::Rollback { to: None }), Ok((1, None)));
    assert_eq!(change(&version(3), &all, Change::Rollback { to: Some(2) }), Ok((2, None)));
}

#[test]
fn parts_add_up_and_are_of_two_versions_at_most() {
    let all = kept(&[1, 2, 3, 4]);
    let parts = |parts: &[(u64, u16)]| {
        let shares = parts.iter().map(|(version, share)| (*version, percent(*share))).collect();
        change(&version(3), &all, Change::Traffic { shares, sticky: None })
    };
    assert_eq!(parts(&[(3, 90), (4, 10)]), Ok((3, Some((4, 10)))));
    assert_eq!(parts(&[(2, 20), (3, 80)]), Ok((3, Some((2, 20)))), "what leads goes on to");
    assert_eq!(parts(&[(1, 20), (2, 80)]), Ok((1, Some((2, 80)))));
    assert_eq!(parts(&[(4, 100)]), Ok((4, None)));
    assert_eq!(parts(&[(3, 0), (4, 100)]), Ok((3, Some((4, 100)))), "what runs stands by if it is named");
    assert_eq!(parts(&[(3, 90), (4, 11)]), Err(RolloutError::Sum { sum: 10_100 }));
    assert_eq!(parts(&[]), Err(RolloutError::Sum { sum: 0 }));
    assert_eq!(parts(&[(1, 20), (2, 20), (3, 60)]), Err(RolloutError::Versions { count: 3 }));
    assert!(matches!(parts(&[(9, 100)]), Err(RolloutError::Unknown { version: 9, .. })));
}

#[test]
fn versions_whose_routes_clash_do_not_stand_side_by_side() {
    let with_path = |number, path: &str| {
        let mut row = version(number);
        row.manifest = manifest("shop");
        row.manifest.routes[0].path = path.parse().unwrap();
        row
    };
    let (one, two) = (with_path(1, "/{a}"), with_path(2, "/{b}"));
    assert!(matches!(deployed(Some(&one), two.clone(), canary(10)), Err(RolloutError::Routes { .. })));
    assert_eq!(shape(&deployed(Some(&one), two, Wish::default()).unwrap()), (2, None));
}
