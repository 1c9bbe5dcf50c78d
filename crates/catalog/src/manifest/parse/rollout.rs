//! `[deploy]`: how new versions take over.

use super::super::fault::ManifestFault;
use super::super::read::{Located, Placed, Reader};
use crate::rollout::{Canary, Rollback, Rollout, RolloutFault};

const DEPLOY_KEYS: &[&str] = &["canary", "rollback"];
const CANARY_KEYS: &[&str] = &["share", "sticky"];
const ROLLBACK_KEYS: &[&str] = &["errors", "after", "window"];

pub(super) fn rollout(document: &Reader<'_, '_>) -> Result<Rollout, Located> {
    let Some(table) = document.table("deploy", DEPLOY_KEYS)? else { return Ok(Rollout::default()) };
    let canary = table.table("canary", CANARY_KEYS)?.map(|table| canary(&table)).transpose()?;
    let rollback = table.table("rollback", ROLLBACK_KEYS)?.map(|table| rollback(&table)).transpose()?;
    Ok(Rollout { canary, rollback })
}

fn canary(table: &Reader<'_, '_>) -> Result<Canary, Located> {
    let share = table.required(table.text("share")?, "share", "share = \"10%\"")?;
    let sticky = table.text("sticky")?.map(|text| read(table, "sticky", text)).transpose()?;
    Ok(Canary { share: read(table, "share", share)?, sticky })
}

fn rollback(table: &Reader<'_, '_>) -> Result<Rollback, Located> {
    let defaults = Rollback::default();
    let errors = table.text("errors")?.map(|text| read(table, "errors", text)).transpose()?;
    Ok(Rollback {
        errors: errors.unwrap_or(defaults.errors),
        after: table.count("after")?.unwrap_or(defaults.after),
        window: table.time("window")?.unwrap_or(defaults.window),
    })
}

fn read<V: std::str::FromStr<Err = RolloutFault>>(
    table: &Reader<'_, '_>,
    key: &str,
    (span, text): Placed<'_>,
) -> Result<V, Located> {
    let bad = |fault| ManifestFault::Rollout { key: table.key(key), text: text.to_owned(), fault };
    text.parse().map_err(|fault| Located::new(span, bad(fault)))
}
