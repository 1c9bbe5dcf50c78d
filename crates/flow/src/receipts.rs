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
    /// Whether the kernel handed it over.
    pub(crate) is_by_kernel: bool,
}

/// The receipts of all apps, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    kept: VecDeque<Kept>,
    /// How many there were.
    pub(crate) begun: u64,
}

#[derive(Debug)]
struct Kept {
    invocation: u64,
    receipt: Receipt,
    /// What policies took of the call from outside, of which the hop may come later.
    policies_ns: Option<u64>,
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
            sidecar_ns: None,
            hops: Vec::new(),
        };
        self.kept.push_back(Kept { invocation, receipt, policies_ns: None });
    }

    fn find(&mut self, invocation: u64) -> Option<&mut Kept> {
        self.kept.iter_mut().rev().find(|kept| kept.invocation == invocation)
    }

    /// Policies say what they took: of the call from outside, or of one between two functions, whose hop is there then.
    pub(crate) fn policies_took(&mut self, invocation: u64, between: Option<(&str, &str)>, took_ns: u64) {
        let Some(Kept { receipt, policies_ns, .. }) = self.find(invocation) else { return };
        receipt.sidecar_ns = Some(receipt.sidecar_ns.unwrap_or(0).saturating_add(took_ns));
        let mut hops = receipt.hops.iter_mut().rev();
        let hop = match between {
            Some((caller, function)) => {
                hops.find(|hop| hop.sidecar_ns.is_none() && hop.caller == caller && hop.function == function)
            }
            None => {
                *policies_ns = Some(took_ns);
                hops.find(|hop| hop.caller == GATEWAY)
            }
        };
        if let Some(hop) = hop {
            hop.sidecar_ns = Some(took_ns);
        }
    }

    /// A recorded invocation was answered.
    pub(crate) fn end(&mut self, invocation: u64, status: u16, wall_ns: u64) {
        if let Some(Kept { receipt, .. }) = self.find(invocation) {
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
        let fits = |kept: &&mut Kept| kept.receipt.app == app && kept.receipt.hops.len() < HOPS_MAX;
        let Some(Kept { receipt, policies_ns, .. }) = self.find(cost.invocation).filter(fits) else { return };
        let sidecar_ns = policies_ns.filter(|_| caller == GATEWAY);
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
            sidecar_ns,
            node,
            via: beside.is_by_kernel.then_some("kernel"),
            carried: beside.carried,
        });
    }

    /// The receipt of an invocation, by its name or as `last`.
    pub(crate) fn get(&self, wanted: &str) -> Option<Receipt> {
        let mut newest = self.kept.iter().rev().map(|kept| &kept.receipt);
        let is_wanted = |receipt: &&Receipt| match wanted {
            "last" => receipt.status != 0,
            name => receipt.invocation == name,
        };
        newest.find(is_wanted).cloned()
    }

    /// All receipts, newest first.
    pub(crate) fn all(&self) -> Vec<Receipt> {
        self.kept.iter().rev().map(|kept| kept.receipt.clone()).collect()
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
    fn what_policies_took_is_told_of_their_hop_whichever_comes_first() {
        let mut receipts = Receipts::default();
        let cost = |invocation| HopCost { invocation, ..HopCost::default() };
        let names = |caller: &str, callee: &str| (caller.to_owned(), callee.to_owned());
        for invocation in [1, 2] {
            receipts.begin(invocation, "shop", "front");
            receipts.end(invocation, 200, 1000);
        }
        receipts.policies_took(1, None, 700);
        receipts.add("shop", &cost(1), names(GATEWAY, "front"), Beside::default());
        receipts.add("shop", &cost(1), names("front", "cart"), Beside::default());
        receipts.policies_took(1, Some(("front", "cart")), 50);
        let sidecar = |receipt: &Receipt| receipt.hops.iter().map(|hop| hop.sidecar_ns).collect::<Vec<_>>();
        let first = receipts.get(&name(1)).unwrap();
        assert_eq!((sidecar(&first), first.sidecar_ns), (vec![Some(700), Some(50)], Some(750)));
        receipts.add("shop", &cost(2), names(GATEWAY, "front"), Beside::default());
        assert_eq!(receipts.get(&name(2)).unwrap().sidecar_ns, None);
        receipts.policies_took(2, None, 300);
        assert_eq!(sidecar(&receipts.get("last").unwrap()), [Some(300)]);
        receipts.policies_took(3, None, 300);
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
