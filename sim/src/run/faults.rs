//! Nodes that die or drain, and what the others make of it.

use super::{Event, Outcome, Run};
use crate::time::{MILLISECOND, Nanos, SECOND};
use crate::world::{State, Ticket};

/// A peer is down once nothing was heard of it for two seconds; the last was heard up to half a second before it died.
const HEARD_WITHIN: Nanos = 2 * SECOND;
const HEARTBEAT_MS: u32 = 500;

impl Run {
    /// Draws who dies and who drains, and when.
    pub(super) fn plan_faults(&mut self) {
        let (deaths, drains) = (self.settings.deaths, self.settings.drains);
        let mut victims = Vec::new();
        while victims.len() < (deaths + drains).min(self.settings.nodes / 2) as usize {
            let node = self.network.below(self.settings.nodes);
            if !victims.contains(&node) {
                victims.push(node);
            }
        }
        let window_ms = u32::try_from(self.settings.window / MILLISECOND).unwrap_or(u32::MAX).max(1);
        for (number, node) in (0..).zip(victims) {
            let at = self.settings.warm_up + u64::from(self.network.below(window_ms)) * MILLISECOND;
            let event = if number < deaths { Event::Die { node } } else { Event::Drain { node } };
            self.agenda.after(at, event);
        }
    }

    pub(super) fn die(&mut self, node: u32) {
        let now = self.agenda.now();
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        machine.state = State::Dead;
        machine.died = Some(now);
        let calls = machine.all();
        (machine.running, machine.waiting, machine.coming) = (0, 0, 0);
        let functions: Vec<u32> = std::mem::take(&mut machine.locals).into_keys().collect();
        self.world.by_load.remove(&(calls, node));
        for function in functions {
            if let Some(warm) = self.world.warm.get_mut(function as usize) {
                warm.remove(&node);
            }
        }
        let open = (0..).zip(&self.calls).filter(|(_, call)| !call.ended);
        let touched: Vec<(u32, bool, u32)> = open
            .filter(|(_, call)| call.gateway == node || call.at == node)
            .map(|(number, call)| (number, call.gateway == node, call.attempt))
            .collect();
        for (call, lost_gateway, attempt) in touched {
            if lost_gateway {
                self.finish(call, Outcome::Lost);
            } else {
                self.strand(Ticket { call, attempt }, node);
            }
        }
        let heard = u64::from(self.network.below(HEARTBEAT_MS)) * MILLISECOND;
        self.agenda.after(HEARD_WITHIN - heard, Event::Detect { node });
    }

    /// Nobody hears of this call until the node is known to be down.
    pub(super) fn strand(&mut self, ticket: Ticket, node: u32) {
        if let Some(machine) = self.world.machines.get_mut(node as usize)
            && !machine.stranded.contains(&ticket)
        {
            machine.stranded.push(ticket);
        }
    }

    pub(super) fn detect(&mut self, node: u32) {
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        machine.state = State::Gone;
        let stranded = std::mem::take(&mut machine.stranded);
        self.world.board.remove(node);
        self.plan_anew();
        for ticket in stranded {
            self.lose(ticket);
        }
    }

    /// A call whose node is gone may have begun: it is made again only if that does no harm.
    pub(super) fn lose(&mut self, ticket: Ticket) {
        if !self.is_current(ticket) {
            return;
        }
        let Some(call) = self.calls.get_mut(ticket.call as usize) else { return };
        let idempotent = self.world.apps.get(call.app as usize).is_some_and(|app| app.idempotent);
        // Who sent it may be gone as well; then its client's node goes on.
        let sender_lives = matches!(self.world.state(call.from), State::Up | State::Draining);
        if !sender_lives {
            call.from = call.gateway;
        }
        if idempotent {
            self.dispatch(ticket.call);
        } else {
            self.finish(ticket.call, Outcome::Lost);
        }
    }

    pub(super) fn drain(&mut self, node: u32) {
        let Some(machine) = self.world.machines.get_mut(node as usize) else { return };
        machine.state = State::Draining;
        let calls = machine.all();
        self.world.by_load.remove(&(calls, node));
        self.plan_anew();
    }

    fn plan_anew(&mut self) {
        self.world.plan();
        self.tally.plans += 1;
    }
}
