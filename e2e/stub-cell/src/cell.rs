//! A cell of the stand-in: it answers requests, each function in its own way.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::time::Duration;

use baton_abi::boot::Message;
use baton_abi::cell::{Fork, FromCell, Seat};
use baton_abi::descriptor::pack_pairs;
use baton_abi::{Descriptor, Extent, Flags, Kind, NONE};
use baton_pool::bell::Bell;
use baton_pool::capability::{Handle, Hold, State};
use baton_pool::link::{Duplex, Side, map_bell};
use rustix::process::Pid;

use crate::{Template, wire};

thread_local! {
    static CELLS: RefCell<Vec<(Pid, u32)>> = const { RefCell::new(Vec::new()) };
}

/// The template notes which process is which cell.
pub(crate) fn remember(pid: Pid, cell: u32) {
    CELLS.with_borrow_mut(|cells| cells.push((pid, cell)));
}

/// Which cell a process was.
pub(crate) fn number_of(gone: Pid) -> u32 {
    CELLS.with_borrow_mut(|cells| {
        let place = cells.iter().position(|(pid, _)| *pid == gone);
        place.map_or(u32::MAX, |place| cells.swap_remove(place).1)
    })
}

struct Link {
    seat: Seat,
    rings: Duplex,
    eventfd: OwnedFd,
}

/// Serves until it is killed.
pub(crate) fn run(template: &Template, fork: &Fork, fds: Vec<OwnedFd>) -> ! {
    let mut fds = fds.into_iter();
    let (control, bell) = (fds.next().unwrap(), fds.next().unwrap());
    let bell = map_bell(&bell).unwrap();
    let seats = fork.seats.iter().take(fork.count as usize);
    let mut links: Vec<Link> = seats
        .map(|seat| Link {
            seat: *seat,
            rings: Duplex::map(fds.next().unwrap(), seat.ring_entries, Side::Far).unwrap(),
            eventfd: fds.next().unwrap(),
        })
        .collect();
    assert!(fds.next().is_none());
    if template.functions.iter().all(|function| function.word != "never-ready") {
        wire::say(&control, FromCell::Ready, b"", &[]);
    }
    let mut turn = 0;
    loop {
        let worked = look_around(&control) | serve(template, &control, &mut links, &bell, &mut turn);
        if !worked {
            bell.announce_sleep();
            std::thread::sleep(Duration::from_micros(200));
            bell.announce_awake();
        }
    }
}

/// Takes what the node says.
fn look_around(control: &OwnedFd) -> bool {
    match wire::message(control) {
        Some((Message::PageMap, fds)) => {
            let mut entry = [0; 8];
            let read = rustix::io::pread(&fds[0], &mut entry, 0);
            let text = if read == Ok(8) { "page map" } else { "no page map" };
            wire::say(control, FromCell::Log { seat: 0, stream: 2 }, text.as_bytes(), &[]);
            true
        }
        Some((Message::Edge(edge), _)) => {
            let text = format!("edge {} of {} with {}", edge.own, edge.name.as_str(), edge.peer);
            wire::say(control, FromCell::Log { seat: 0, stream: 2 }, text.as_bytes(), &[]);
            true
        }
        Some((Message::Hello(_), _)) => panic!("a cell gets no hello"),
        None => false,
    }
}

fn serve(template: &Template, control: &OwnedFd, links: &mut [Link], bell: &Bell, turn: &mut u32) -> bool {
    let mut worked = false;
    for (number, link) in links.iter_mut().enumerate() {
        while let Ok(Some(request)) = link.rings.from_peer.pop() {
            worked = true;
            *turn += 1;
            bell.publish_turn(*turn);
            if request.kind == Kind::Request as u8 {
                take(template, control, number, link, &request);
            }
        }
        if link.rings.node_bell.must_wake() {
            let _ = rustix::io::write(&link.eventfd, &1u64.to_ne_bytes());
        }
    }
    worked
}

fn take(template: &Template, control: &OwnedFd, number: usize, link: &mut Link, request: &Descriptor) {
    let function = &template.functions[number];
    let seat = u32::try_from(number).unwrap();
    let reply = Descriptor { tag: request.tag, code: 200, ..Descriptor::new(Kind::Reply) };
    let answer = match function.word.as_str() {
        "dies" => std::process::exit(7),
        "lies" => {
            let body = Extent { handle: 77, generation: 1, offset: 0, len: 9 };
            for _ in 0..3 {
                let _ = link.rings.to_peer.push(&Descriptor { tag: u32::MAX, body, ..reply });
            }
            return;
        }
        "faults" => {
            let fault = FromCell::Fault { seat, at: 0x10 };
            wire::say(control, fault, b"it overran its stack\n0x20\n0x30", &[]);
            Descriptor { flags: Flags::ERROR, code: 500, ..reply }
        }
        "talks" => {
            wire::say(
                control,
                FromCell::Log { seat, stream: 1 },
                b"\x01W0000000000000007 careful\nplain\n",
                &[],
            );
            reply
        }
        _ => reply,
    };
    free(template, link, request);
    let mut name = [b' '; 8];
    let len = function.name.len().min(8);
    name[..len].copy_from_slice(&function.name.as_bytes()[..len]);
    let body = Extent { handle: NONE, generation: 0, offset: u64::from_le_bytes(name), len: 8 };
    let flags = answer.flags.with(Flags::INLINE);
    let _ = link.rings.to_peer.push(&Descriptor { flags, body, ..answer });
}

/// Gives back what came with a request.
fn free(template: &Template, link: &mut Link, request: &Descriptor) {
    let (index, generation) = match request.body.handle {
        NONE => (request.head.handle, request.head.generation),
        index => (index, request.body.generation),
    };
    let (handle, me) = (Handle { index, generation }, link.seat.holder);
    let _ = template.table.transfer(handle, Hold::new(State::FromNode, me), Hold::held(me));
    let words = pack_pairs(Kind::Free, 0, &[(index, generation)]);
    let _ = link.rings.to_peer.push_words(words);
}
