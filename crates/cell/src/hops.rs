//! Receipts: what a hop cost, while they are on.

use baton_abi::Descriptor;
use baton_abi::descriptor::HopCost;

use crate::runtime::Runtime;
use crate::seat::{Account, Request, Seat};
use crate::sys;

impl Account {
    /// A hop that begins now. `crossings`: rings that its request went through.
    pub(crate) fn begin(d: &Descriptor, caller: u16, crossings: u32) -> Account {
        let (invocation, operation, began_ns) = (d.invocation, d.code, sys::now_ns());
        let cost = HopCost { invocation, caller, operation, crossings, began_ns, ..HopCost::default() };
        Account { cost, began_ns, cpu_ns: sys::cpu_ns(), inner_ns: 0 }
    }
}

impl Runtime {
    /// The account of a call inside the cell.
    pub(crate) fn begin_hop(&self, caller: &Seat, d: &Descriptor) -> Box<Account> {
        let mut account = Account::begin(d, caller.holder(), 0);
        let (copies, bytes) = self.copied.get();
        account.cost.copies = copies;
        account.cost.bytes_copied = bytes;
        account.cost.bytes_handed = self.handed.get();
        Box::new(account)
    }

    /// Says what a request cost that has just been answered.
    pub(crate) fn report_hop(&self, seat: &Seat, request: &Request, status: u16) {
        let Some(account) = request.hop.as_ref() else { return };
        let (copies, bytes) = self.copied.replace((0, 0));
        let mut cost = account.cost;
        if cost.crossings > 0 {
            cost.crossings += 1;
        }
        cost.copies = cost.copies.saturating_add(copies);
        cost.bytes_copied = cost.bytes_copied.saturating_add(bytes);
        cost.bytes_handed = cost.bytes_handed.saturating_add(self.handed.replace(0));
        let cpu_ns = sys::cpu_ns().saturating_sub(account.cpu_ns);
        cost.cpu_ns = cpu_ns.saturating_sub(account.inner_ns);
        cost.wall_ns = sys::now_ns().saturating_sub(account.began_ns);
        cost.status = status;
        if let crate::seat::Origin::Seat { seat: caller, call } = request.origin {
            self.charge_caller(caller, call, cpu_ns);
        }
        self.push_words(seat, cost.to_words());
    }

    /// What a callee used is none of its caller's own.
    fn charge_caller(&self, caller: u8, call: u32, cpu_ns: u64) {
        let Some(caller) = self.seat(caller) else { return };
        let tag = caller.calls.borrow().get(call).map(|call| call.on_behalf_of);
        let Some(tag) = tag else { return };
        if let Some(account) =
            caller.requests.borrow_mut().get_mut(tag).and_then(|request| request.hop.as_mut())
        {
            account.inner_ns = account.inner_ns.saturating_add(cpu_ns);
        }
    }

    /// The invocation that a seat works on: of several, the one that it began last.
    pub(crate) fn invocation_of(&self, seat: &Seat) -> u64 {
        seat.requests.borrow().get(seat.latest.get()).map_or(0, |request| request.invocation)
    }
}
