//! Messages that are no packets, and packets that come in odd ways.

use std::io::{IoSlice, Write as _};

use baton_abi::packet::PACKET_BYTES;
use baton_abi::{Extent, Kind};
use baton_kernel::Cause;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::world::{AB, BC, HELD, World, bytes_of, request, root, world};

#[test]
fn a_piece_of_a_packet_is_refused() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    for len in (1..PACKET_BYTES).step_by(13).chain([64, 79]) {
        w.refuses_bytes(&w.a, &packet[..len], Cause::Size);
    }
    w.works();
}

#[test]
fn each_packet_of_a_message_is_judged_by_itself() {
    let Some(mut w) = world() else { return };
    let [first, second] = [0, 1].map(|index| w.grant(index, w.a.seat));
    let moved = bytes_of(&request(AB, root(0, first, 4)));
    let again = bytes_of(&request(AB, root(0, first, 4)));
    let foreign = bytes_of(&request(BC, root(1, second, 4)));
    let last = bytes_of(&request(AB, root(1, second, 5)));
    let message = [&moved[..], &again, &foreign, &last, &last[..33]].concat();
    assert_eq!(w.a.write(&message), Ok(message.len()));
    // What is refused is the node's to see, in its order; what is not is where it belongs.
    let refused = [&again[..], &foreign, &last[..33]].concat();
    assert_eq!(w.a.passed(refused.len()), refused);
    let counts = [Cause::Held, Cause::Ends, Cause::Size].map(|cause| w.count(cause));
    assert_eq!((counts, w.all_refusals()), ([1, 1, 1], 3));
    for (index, len) in [(0, 4), (1, 5)] {
        let got = w.b.hear().unwrap().descriptor.body;
        assert_eq!((got.handle, got.len, w.entry(index).holder), (index, len, w.b.seat.holder));
        w.b.say(&crate::world::reply(AB, got));
        w.a.hear().unwrap();
    }
    w.works();
}

#[test]
fn a_long_message_is_no_more_than_its_packets() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    let (many, rest) = (packet.repeat(100), &packet[..60]);
    // The first of them is fine, and after it none is; the message goes through many pages of the kernel.
    let message = [&many[..], rest].concat();
    assert_eq!(w.a.write(&message), Ok(8060));
    assert_eq!(w.a.passed(8060 - PACKET_BYTES), message[PACKET_BYTES..]);
    assert_eq!((w.count(Cause::Held), w.count(Cause::Size), w.all_refusals()), (99, 1, 100));
    assert!(w.b.hear().is_some() && w.b.hear().is_none());
    w.b.say(&crate::world::reply(AB, Extent::EMPTY));
    w.a.hear().unwrap();
    w.works();
}

/// The sender's socket is full of what was refused: what follows in the same message waits, and is judged when there is room.
#[test]
fn a_message_that_waits_in_its_middle_is_judged_to_its_end() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let refused = bytes_of(&request(BC, root(0, generation, 4)));
    let mut written = 0;
    while let Ok(count) = w.a.write(&refused.repeat(32)) {
        written += count;
    }
    let short = written % PACKET_BYTES;
    // What the socket did not take of the last packet, and then a message that begins with a lie and ends with none.
    let good = bytes_of(&request(AB, root(0, generation, 4)));
    let rest = if short == 0 { &[][..] } else { &refused[short..] };
    let message = [rest, &refused, &refused, &good].concat();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut left = &message[..];
            while !left.is_empty() {
                let count = send(&w.a.ends.replica, left, SendFlags::NOSIGNAL).unwrap();
                left = &left[count..];
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!writer.is_finished() && w.b.hear().is_none(), "it does not wait");
        w.a.passed(written + rest.len() + 2 * PACKET_BYTES);
    });
    assert_eq!(w.b.hear().unwrap().descriptor.body.generation, generation);
    assert_eq!(w.entry(0).holder, w.b.seat.holder);
    w.b.say(&crate::world::reply(AB, Extent::EMPTY));
    w.a.hear().unwrap();
    w.works();
}

#[test]
fn a_packet_in_two_messages_is_two_messages() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    let (first, second) = packet.split_at(40);
    // Held back in the kernel or not, each part is looked at by itself.
    let more = SendFlags::DONTWAIT | SendFlags::MORE;
    assert_eq!(send(&w.a.ends.replica, first, more), Ok(40));
    assert_eq!(send(&w.a.ends.replica, second, SendFlags::DONTWAIT), Ok(40));
    assert_eq!(w.count(Cause::Size), 2);
    assert_eq!(w.a.passed(PACKET_BYTES), packet);
    assert!(w.b.hear().is_none());
    assert_eq!(w.entry(0).holder, w.a.seat.holder);
    // A whole one that announces more is whole.
    assert_eq!(send(&w.a.ends.replica, &packet, more), Ok(PACKET_BYTES));
    assert!(w.b.hear().is_some());
    w.works();
}

fn gather(w: &World, parts: &[&[u8]]) -> rustix::io::Result<usize> {
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    sendmsg(&w.a.ends.replica, &slices, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT)
}

#[test]
fn a_packet_gathered_from_parts_is_one_and_two_at_once_are_two() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    let lie = bytes_of(&request(BC, root(0, generation, 4)));
    assert_eq!(gather(&w, &[&lie, &lie]), Ok(160));
    assert_eq!((w.count(Cause::Ends), w.a.passed(160).len()), (2, 160));
    assert_eq!(w.entry(0).holder, w.a.seat.holder);
    // The second begins in the middle of a part.
    assert_eq!(gather(&w, &[&lie[..30], &[&lie[30..], &packet[..7]].concat(), &packet[7..]]), Ok(160));
    assert_eq!((w.count(Cause::Ends), w.a.passed(80).len()), (3, 80));
    let got = w.b.hear().unwrap();
    assert_eq!((got.descriptor.body.generation, w.entry(0).holder), (generation, w.b.seat.holder));
    w.b.say(&crate::world::reply(AB, got.descriptor.body));
    w.a.hear().unwrap();
    let parts: Vec<_> = packet.chunks(1).collect();
    assert_eq!(gather(&w, &parts), Ok(PACKET_BYTES));
    assert!(w.b.hear().is_some());
    assert_eq!((w.entry(0).holder, w.entry(0).state), (w.b.seat.holder, HELD));
}

#[test]
fn packets_that_straddle_the_kernels_pages_are_whole() {
    let Some(mut w) = world() else { return };
    // Other lengths between them move the packets through all places of a page.
    for round in 0..3_000u32 {
        let generation = w.grant(0, w.a.seat);
        w.a.say(&request(AB, root(0, generation, 4)));
        let got = w.b.hear().unwrap();
        assert_eq!((got.descriptor.body.generation, got.descriptor.kind), (generation, Kind::Request as u8));
        w.b.say(&crate::world::reply(AB, Extent::EMPTY));
        assert!(w.a.hear().is_some());
        let len = 1 + (round as usize * 37) % 79;
        assert_eq!(w.a.write(&[0xee; 79][..len]), Ok(len));
        w.a.passed(len);
    }
    assert_eq!(w.count(Cause::Size), 3_000);
}

/// The node's own packets come to lie across pages as well: none of them may get lost.
#[test]
fn whatever_the_node_says_arrives() {
    let Some(w) = world() else { return };
    for round in 0..3_000 {
        w.plane.wake(w.a.seat.arena).unwrap();
        assert!(w.a.hear().is_some(), "the node's packet {round} did not arrive");
        let len = 1 + (round * 37) % 79;
        assert_eq!(w.a.write(&[0xee; 79][..len]), Ok(len));
        w.a.passed(len);
    }
    assert_eq!(w.all_refusals(), 3_000);
}

/// Urgent data is data: a packet is taken as one, and what is refused stays in its place in the node's stream.
#[test]
fn urgent_data_is_no_way_around() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    let urgent = SendFlags::DONTWAIT | SendFlags::OOB;
    assert_eq!(send(&w.a.ends.replica, &packet[..1], urgent), Ok(1));
    assert_eq!(send(&w.a.ends.replica, &packet[1..], urgent), Ok(79));
    assert_eq!(w.count(Cause::Size), 2);
    assert_eq!(w.a.passed(PACKET_BYTES), packet);
    assert_eq!(w.entry(0).holder, w.a.seat.holder);
    assert_eq!(send(&w.a.ends.replica, &packet, urgent), Ok(PACKET_BYTES));
    assert_eq!(w.b.hear().unwrap().descriptor.body.generation, generation);
    w.works();
}

/// Pages of a file or a pipe: the program sees bytes of its own, which nobody can change behind it.
#[test]
fn spliced_pages_are_packets_or_none() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    let (from, to) = pipe().unwrap();
    rustix::io::write(&to, &packet).unwrap();
    let flags = SpliceFlags::NONBLOCK;
    assert_eq!(splice(&from, None, &w.a.ends.replica, None, PACKET_BYTES, flags), Ok(PACKET_BYTES));
    assert_eq!(w.b.hear().unwrap().descriptor.body.generation, generation);
    assert_eq!(w.entry(0).holder, w.b.seat.holder);

    let mut file =
        std::fs::File::from(rustix::fs::memfd_create("packet", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    file.write_all(&packet).unwrap();
    let mut offset = 0;
    let sent = rustix::fs::sendfile(&w.a.ends.replica, &file, Some(&mut offset), PACKET_BYTES);
    assert_eq!(sent, Ok(PACKET_BYTES));
    assert_eq!(w.b.hear().unwrap().descriptor.body.generation, generation);
    // Half of it is none, from a file as from memory.
    let mut offset = 40;
    assert_eq!(rustix::fs::sendfile(&w.a.ends.replica, &file, Some(&mut offset), 40), Ok(40));
    assert_eq!(w.a.passed(40), &packet[40..]);
    assert_eq!(w.count(Cause::Size), 1);
    // Of two in one page each is judged by itself.
    let mut both =
        std::fs::File::from(rustix::fs::memfd_create("two", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let [one, other] = [1, 2].map(|index| (index, w.grant(index, w.a.seat)));
    for (index, generation) in [one, other] {
        both.write_all(&bytes_of(&request(AB, root(index, generation, 4)))).unwrap();
    }
    assert_eq!(rustix::fs::sendfile(&w.a.ends.replica, &both, Some(&mut 0), 160), Ok(160));
    for (index, generation) in [one, other] {
        let got = w.b.hear().unwrap().descriptor.body;
        assert_eq!((got.handle, got.generation), (index, generation));
    }
    // What the file was is what it is: the program wrote to a copy.
    let mut still = [0; PACKET_BYTES];
    rustix::io::pread(&file, &mut still, 0).unwrap();
    assert_eq!(still, packet);
    w.works();
}
