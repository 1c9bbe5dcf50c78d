//! Requests: taking them, and answering.

use baton_abi::gate::Parcel;
use baton_abi::{Descriptor, Flags, Kind as Message64};

use super::messages::Load;
use super::{Asked, Outgoing, Outside, Refusal};
use crate::error::Error;
use crate::executor::{Finished, Origin, Outcome, Ticket};
use crate::hop::Hop;
use crate::response::Response;

impl Outside {
    /// Begins the next request, if one waits and there is room.
    pub(super) fn next_request(&self) -> Option<Parcel> {
        while self.has_room() {
            let mut gone = Vec::new();
            let arrived = self.link.next_arrived(&mut |end| gone.push(end));
            for (origin, tag) in gone {
                match tag {
                    Some(tag) => self.cancel_request(origin, tag),
                    None => self.orphan(origin),
                }
            }
            let (origin, descriptor) = arrived?;
            if let Some(parcel) = self.begin(origin, &descriptor) {
                return Some(parcel);
            }
        }
        None
    }

    fn begin(&self, origin: Origin, descriptor: &Descriptor) -> Option<Parcel> {
        let record = descriptor.flags.has(Flags::RECORD);
        let (tag, invocation) = (descriptor.tag, descriptor.invocation);
        let ticket = Ticket { origin, tag, invocation, deadline_ns: descriptor.deadline_ns, record };
        let caller = self.link.caller(origin);
        let hop = record.then(|| Box::new(Hop::start(invocation, caller, descriptor.code)));
        let cpu_before = if record { crate::hop::cpu_ns() } else { 0 };
        match self.link.accept_from(origin, descriptor) {
            Ok(message) => {
                self.link.bell().publish_in_flight(self.live() + 1);
                let tag = self.next_number();
                let asked = Asked { ticket, hop, cpu_before, is_orphan: false, is_cancelled: false };
                self.requests.borrow_mut().insert(tag, asked);
                let kind = Descriptor::new(Message64::Request);
                let flags = if record { Flags::RECORD } else { Flags::MOVE };
                let deadline_ns = descriptor.deadline_ns;
                let about = Descriptor { flags, code: descriptor.code, tag, invocation, deadline_ns, ..kind };
                Some(self.parcel(about, message))
            }
            Err(error) => {
                self.link.finish(&mut Finished::failed(ticket, error, hop));
                None
            }
        }
    }

    pub(super) fn count_copy(&self, request: u32, bytes: usize) {
        if let Some(hop) = self.requests.borrow_mut().get_mut(&request).and_then(|asked| asked.hop.as_mut()) {
            hop.add_copy(bytes);
        }
    }

    fn next_number(&self) -> u32 {
        let requests = self.requests.borrow();
        loop {
            self.last_request.set(self.last_request.get().wrapping_add(1));
            let number = self.last_request.get();
            if number != 0 && !requests.contains_key(&number) {
                return number;
            }
        }
    }

    /// Nobody waits for a request any more: it still has to be answered.
    pub(super) fn cancel_request(&self, origin: Origin, tag: u32) {
        if self.link.drop_arrived(origin, tag) {
            return;
        }
        self.tell_cancelled(|asked| asked.ticket.origin == origin && asked.ticket.tag == tag, false);
    }

    /// Whoever asked over an edge is gone.
    fn orphan(&self, origin: Origin) {
        self.tell_cancelled(|asked| asked.ticket.origin == origin, true);
    }

    fn tell_cancelled(&self, picks: impl Fn(&Asked) -> bool, is_orphan: bool) {
        for (&tag, asked) in self.requests.borrow_mut().iter_mut().filter(|(_, asked)| picks(asked)) {
            asked.is_orphan |= is_orphan;
            if !core::mem::replace(&mut asked.is_cancelled, true) {
                self.cancelled.borrow_mut().push_back(tag);
            }
        }
    }

    /// Answers a request, once. With [`Flags::ERROR`] the payload is a text. What moves is gone in any case.
    ///
    /// # Errors
    /// [`Refusal::Stale`] if the request was answered before, or what moves is not this function's; then nothing has happened, and
    /// the request can still be answered. So for the others.
    pub fn reply(&self, message: Outgoing<'_>) -> Result<(), Refusal> {
        let Descriptor { tag, code, flags, .. } = Descriptor::from_words(message.parcel.words);
        if !self.requests.borrow().contains_key(&tag) {
            return Err(Refusal::Stale);
        }
        let (load, head) = self.load(message, false)?;
        let Load::Own(payload) = load else { return Err(Refusal::Denied) };
        let outcome = if flags.has(Flags::ERROR) {
            let text = payload.bytes_here().unwrap_or_default();
            Err(Error::new(code, String::from_utf8_lossy(text)))
        } else {
            Ok(Response { status: u32::from(code), head, payload })
        };
        self.end(tag, outcome);
        Ok(())
    }

    fn end(&self, tag: u32, outcome: Outcome) {
        let Some(asked) = self.requests.borrow_mut().remove(&tag) else { return };
        self.cancelled.borrow_mut().retain(|&cancelled| cancelled != tag);
        let Asked { ticket, mut hop, cpu_before, is_orphan, .. } = asked;
        if is_orphan {
            // Its edge may be another's by now: what the answer carries goes back.
            return;
        }
        if let Some(hop) = &mut hop {
            hop.add_cpu(crate::hop::cpu_ns().saturating_sub(cpu_before));
        }
        self.link.finish(&mut Finished { ticket, outcome: Some(outcome), hop });
        self.link.bell().publish_in_flight(self.live());
    }
}
