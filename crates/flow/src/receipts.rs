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

/// Who calls from outside.
pub(crate) const GATEWAY: &str = "gateway";

/// What the node knows of a hop beside what its replica says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside {
    /// What went to another node and came back.
    pub(crate) carried: Carried,
    /// Whether the network was asked.
    pub(crate) is_network: bool,
    /// Memory over time, if it is known.
    pub(crate) memory_mib_ms: Option<f64>,
}

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
            protocol_passes: 0,
            serialisations: 0,
            memory_mib_ms: None,
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
    pub(crate) fn add(&mut self, app: &str, cost: &HopCost, names: (String, String), beside: Beside) {
        self.add_crossing(app, cost, names, None, beside);
    }

    /// As [`Receipts::add`] for a call that went to another node.
    pub(crate) fn add_crossing(
        &mut self,
        app: &str,
        cost: &HopCost,
        (caller, function): (String, String),
        node: Option<String>,
        beside: Beside,
    ) {
        let fits = |receipt: &&mut Receipt| receipt.app == app && receipt.hops.len() < HOPS_MAX;
        let Some(receipt) = self.find(cost.invocation).filter(fits) else { return };
        receipt.copies += u64::from(cost.copies);
        receipt.bytes_copied = receipt.bytes_copied.saturating_add(cost.bytes_copied);
        receipt.bytes_handed = receipt.bytes_handed.saturating_add(cost.bytes_handed);
        receipt.crossings += u64::from(cost.crossings);
        receipt.switches += u64::from(cost.switches);
        receipt.cpu_ns = receipt.cpu_ns.saturating_add(cost.cpu_ns);
        // A request and its answer: once each for every protocol on the way.
        let protocols =
            u32::from(caller == GATEWAY) + u32::from(node.is_some()) + u32::from(beside.is_network);
        let passes = 2 * protocols;
        receipt.protocol_passes += u64::from(passes);
        receipt.serialisations += u64::from(passes);
        if let Some(memory) = beside.memory_mib_ms {
            receipt.memory_mib_ms = Some(receipt.memory_mib_ms.unwrap_or(0.0) + memory);
        }
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
            protocol_passes: passes,
            serialisations: passes,
            memory_mib_ms: beside.memory_mib_ms,
            sidecar_ns: None,
            node,
            carried: beside.carried,
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
        let names = |caller: &str, callee: &str| (caller.to_owned(), callee.to_owned());
        let beside = Beside { memory_mib_ms: Some(1.5), ..Beside::default() };
        receipts.add("shop", &cost, names(GATEWAY, "frontend"), beside);
        receipts.add("shop", &cost, names("frontend", "cart"), Beside::default());
        receipts.add("shop", &HopCost { invocation: 8, ..cost }, names(GATEWAY, "frontend"), beside);
        receipts.add("other", &cost, names(GATEWAY, "spy"), beside);
        let receipt = receipts.get("0000000000000007").unwrap();
        assert_eq!(
            (receipt.copies, receipt.bytes_copied, receipt.crossings, receipt.hops.len()),
            (2, 128, 4, 2)
        );
        assert_eq!((receipt.protocol_passes, receipt.memory_mib_ms), (2, Some(1.5)));
        assert_eq!(receipt.hops[1].memory_mib_ms, None);
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
