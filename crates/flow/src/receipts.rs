//! Receipts: what the last recorded invocations cost.
//!
//! A hop's costs come over the link of the replica that served it, maybe after the invocation has ended: a receipt is
//! complete a moment after its answer.

use std::collections::VecDeque;

use baton_abi::descriptor::HopCost;

use crate::status::{Carried, HopReceipt, Receipt};

/// Receipts that are kept.
pub(crate) const RECEIPTS_MAX: usize = 256;
/// Hops that one receipt lists.
const HOPS_MAX: usize = 512;

/// The receipts of all apps, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    kept: VecDeque<(u64, Receipt)>,
    /// How many there were.
    pub(crate) begun: u64,
}

/// An invocation as people write it.
pub(crate) fn name(invocation: u64) -> String {
    format!("{invocation:016x}")
}

impl Receipts {
    /// A recorded invocation begins.
    pub(crate) fn begin(&mut self, invocation: u64, app: &str, function: &str) {
        self.begun += 1;
        if self.kept.len() == RECEIPTS_MAX {
            self.kept.pop_front();
        }
        let receipt = Receipt {
            invocation: name(invocation),
            app: app.to_owned(),
            function: function.to_owned(),
            status: 0,
            wall_ns: 0,
            copies: 0,
            bytes_copied: 0,
            bytes_handed: 0,
            crossings: 0,
            switches: 0,
            cpu_ns: 0,
            hops: Vec::new(),
        };
        self.kept.push_back((invocation, receipt));
    }

    fn find(&mut self, invocation: u64) -> Option<&mut Receipt> {
        self.kept.iter_mut().rev().find(|(number, _)| *number == invocation).map(|(_, receipt)| receipt)
    }

    /// A recorded invocation was answered.
    pub(crate) fn end(&mut self, invocation: u64, status: u16, wall_ns: u64) {
        if let Some(receipt) = self.find(invocation) {
            receipt.status = status;
            receipt.wall_ns = wall_ns;
        }
    }

    /// A replica of `app` says what a hop cost. It can only say so of its own app's invocations.
    pub(crate) fn add(&mut self, app: &str, cost: &HopCost, caller: String, function: String) {
        self.add_crossing(app, cost, (caller, function), None, Carried::default());
    }

    /// As [`Receipts::add`] for a call that went to another node.
    pub(crate) fn add_crossing(
        &mut self,
        app: &str,
        cost: &HopCost,
        (caller, function): (String, String),
        node: Option<String>,
        carried: Carried,
    ) {
        let fits = |receipt: &&mut Receipt| receipt.app == app && receipt.hops.len() < HOPS_MAX;
        let Some(receipt) = self.find(cost.invocation).filter(fits) else { return };
        receipt.copies += u64::from(cost.copies);
        receipt.bytes_copied = receipt.bytes_copied.saturating_add(cost.bytes_copied);
        receipt.bytes_handed = receipt.bytes_handed.saturating_add(cost.bytes_handed);
        receipt.crossings += u64::from(cost.crossings);
        receipt.switches += u64::from(cost.switches);
        receipt.cpu_ns = receipt.cpu_ns.saturating_add(cost.cpu_ns);
        receipt.hops.push(HopReceipt {
            caller,
            function,
            operation: cost.operation,
            status: cost.status,
            copies: cost.copies,
            bytes_copied: cost.bytes_copied,
            bytes_handed: cost.bytes_handed,
            crossings: cost.crossings,
            switches: cost.switches,
            cpu_ns: cost.cpu_ns,
            wall_ns: cost.wall_ns,
            node,
            carried,
        });
    }

    /// The receipt of an invocation, by its name or as `last`.
    pub(crate) fn get(&self, wanted: &str) -> Option<Receipt> {
        let mut newest = self.kept.iter().rev();
        if wanted == "last" {
            return newest.find(|(_, receipt)| receipt.status != 0).map(|(_, receipt)| receipt.clone());
        }
        newest.find(|(_, receipt)| receipt.invocation == wanted).map(|(_, receipt)| receipt.clone())
    }

    /// All receipts, newest first.
    pub(crate) fn all(&self) -> Vec<Receipt> {
        self.kept.iter().rev().map(|(_, receipt)| receipt.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_add_up_even_after_the_answer() {
        let mut receipts = Receipts::default();
        receipts.begin(7, "shop", "frontend");
        receipts.end(7, 200, 1000);
        let cost = HopCost { invocation: 7, copies: 1, bytes_copied: 64, crossings: 2, ..HopCost::default() };
        receipts.add("shop", &cost, "gateway".into(), "frontend".into());
        receipts.add("shop", &cost, "frontend".into(), "cart".into());
        receipts.add("shop", &HopCost { invocation: 8, ..cost }, "gateway".into(), "frontend".into());
        receipts.add("other", &cost, "gateway".into(), "spy".into());
        let receipt = receipts.get("0000000000000007").unwrap();
        assert_eq!(
            (receipt.copies, receipt.bytes_copied, receipt.crossings, receipt.hops.len()),
            (2, 128, 4, 2)
        );
        assert_eq!(receipts.get("last").unwrap().invocation, receipt.invocation);
    }

    #[test]
    fn the_oldest_receipts_make_room() {
        let mut receipts = Receipts::default();
        for invocation in 0..=RECEIPTS_MAX as u64 {
            receipts.begin(invocation, "a", "f");
        }
        assert!(receipts.get(&name(0)).is_none());
        assert_eq!(receipts.all().len(), RECEIPTS_MAX);
    }
}
