//! What has to be done for what is wanted to run: a pure difference.

use std::collections::{BTreeMap, BTreeSet};

use baton_catalog::{AppName, FunctionName};

use crate::store::Deployment;

/// A version of an app, and what of it this node hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The version.
    pub deployment: Deployment,
    /// The functions that are hosted here; `None` for all.
    pub here: Option<BTreeSet<FunctionName>>,
}

impl Placed {
    /// Whether what runs would be the same. Where other nodes call it, the version's number is part of that.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let (one, two) = (&self.deployment, &other.deployment);
        let alone = self.here.is_none() || other.here.is_none();
        one.same_as(two)
            && one.beside == two.beside
            && (alone || one.version == two.version)
            && self.hosted().eq(other.hosted())
    }

    /// Each of the one or two versions by itself, the leading one first.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let versions = std::iter::once(&self.deployment).chain(self.deployment.next());
        versions.map(|version| Self { deployment: version.alone(), here: self.here.clone() }).collect()
    }

    /// The functions that are hosted here.
    pub fn hosted(&self) -> impl Iterator<Item = &FunctionName> {
        let is_here = |name: &&FunctionName| self.here.as_ref().is_none_or(|here| here.contains(*name));
        self.deployment.manifest.functions.keys().filter(is_here)
    }
}

/// One thing to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Stop an app that nobody wants.
    Stop(AppName),
    /// Start a version, in place of the one that runs if there is one.
    Start(Box<Placed>),
}

/// The steps from `actual` to `wanted`: stops first, since they give memory back. Versions that would run the same
/// are left alone.
#[must_use]
pub fn plan(wanted: &BTreeMap<AppName, Placed>, actual: &BTreeMap<AppName, Placed>) -> Vec<Step> {
    let stops = actual.keys().filter(|app| !wanted.contains_key(*app)).cloned().map(Step::Stop);
    let starts = wanted
        .iter()
        .filter(|(app, next)| !actual.get(*app).is_some_and(|now| now.same_as(next)))
        .map(|(_, next)| Step::Start(Box::new(next.clone())));
    stops.chain(starts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::ArtifactHash;
    use crate::deploy::tests::deployment;

    fn all(deployment: &Deployment) -> Placed {
        Placed { deployment: deployment.clone(), here: None }
    }

    fn check(wanted: &[Deployment], actual: &[Deployment], expect: &[Step]) {
        let map = |list: &[Deployment]| list.iter().map(|d| (d.app().clone(), all(d))).collect();
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
        check(std::slice::from_ref(&shop), &[], &[Step::Start(Box::new(all(&shop)))]);
        let old = deployment("old", 1, b"x");
        check(
            std::slice::from_ref(&shop),
            std::slice::from_ref(&old),
            &[Step::Stop(old.app().clone()), Step::Start(Box::new(all(&shop)))],
        );
    }

    #[test]
    fn another_artifact_or_another_manifest_is_another_version() {
        let one = deployment("shop", 1, b"x");
        let two = deployment("shop", 2, b"y");
        check(std::slice::from_ref(&two), std::slice::from_ref(&one), &[Step::Start(Box::new(all(&two)))]);
        let mut three = one.clone();
        three.manifest.pool.size = baton_catalog::ByteSize::from_mib(3);
        check(
            std::slice::from_ref(&three),
            std::slice::from_ref(&one),
            &[Step::Start(Box::new(all(&three)))],
        );
        assert_eq!(one.artifacts.values().next(), Some(&ArtifactHash::of(b"x")));
    }

    #[test]
    fn other_functions_here_are_another_thing_to_run_and_all_of_them_are_all() {
        let shop = deployment("shop", 1, b"x");
        let with = |here: &[&str]| Placed {
            deployment: shop.clone(),
            here: Some(here.iter().map(|name| FunctionName::new(name).unwrap()).collect()),
        };
        assert!(all(&shop).same_as(&with(&["hello"])) && !all(&shop).same_as(&with(&[])));
        let map = |placed: Placed| BTreeMap::from([(shop.app().clone(), placed)]);
        assert_eq!(plan(&map(with(&[])), &map(all(&shop))), [Step::Start(Box::new(with(&[])))]);
        assert!(plan(&map(with(&["hello"])), &map(all(&shop))).is_empty());
    }
}
