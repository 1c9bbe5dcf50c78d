//! What has to be done for what is wanted to run: a pure difference.

use std::collections::BTreeMap;

use baton_catalog::AppName;

use crate::store::Deployment;

/// One thing to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Stop an app that nobody wants.
    Stop(AppName),
    /// Start a version, in place of the one that runs if there is one.
    Start(Deployment),
}

/// The steps from `actual` to `wanted`: stops first, since they give memory back. Versions that would run the same
/// are left alone.
#[must_use]
pub fn plan(wanted: &BTreeMap<AppName, Deployment>, actual: &BTreeMap<AppName, Deployment>) -> Vec<Step> {
    let stops = actual.keys().filter(|app| !wanted.contains_key(*app)).cloned().map(Step::Stop);
    let starts = wanted
        .iter()
        .filter(|(app, next)| !actual.get(*app).is_some_and(|now| now.same_as(next)))
        .map(|(_, next)| Step::Start(next.clone()));
    stops.chain(starts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::ArtifactHash;
    use crate::deploy::tests::deployment;

    fn check(wanted: &[Deployment], actual: &[Deployment], expect: &[Step]) {
        let map = |list: &[Deployment]| list.iter().map(|d| (d.app().clone(), d.clone())).collect();
        assert_eq!(plan(&map(wanted), &map(actual)), expect);
    }

    #[test]
    fn nothing_to_do_is_an_empty_plan() {
        check(&[], &[], &[]);
        check(&[deployment("shop", 2, b"x")], &[deployment("shop", 1, b"x")], &[]);
    }

    #[test]
    fn what_is_missing_starts_and_what_is_unwanted_stops_first() {
        let shop = deployment("shop", 1, b"x");
        check(std::slice::from_ref(&shop), &[], &[Step::Start(shop.clone())]);
        let old = deployment("old", 1, b"x");
        check(
            std::slice::from_ref(&shop),
            std::slice::from_ref(&old),
            &[Step::Stop(old.app().clone()), Step::Start(shop.clone())],
        );
    }

    #[test]
    fn another_artifact_or_another_manifest_is_another_version() {
        let one = deployment("shop", 1, b"x");
        let two = deployment("shop", 2, b"y");
        check(std::slice::from_ref(&two), std::slice::from_ref(&one), &[Step::Start(two.clone())]);
        let mut three = one.clone();
        three.manifest.pool.size = baton_catalog::ByteSize::from_mib(3);
        check(std::slice::from_ref(&three), std::slice::from_ref(&one), &[Step::Start(three.clone())]);
        assert_eq!(one.artifacts.values().next(), Some(&ArtifactHash::of(b"x")));
    }
}
