//! Messages that are no packets, and packets that come in odd ways.

use std::io::{IoSlice, Write as _};

use baton_abi::packet::PACKET_BYTES;
use baton_abi::{Extent, Kind};
use baton_kernel::Cause;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::world::{AB, HELD, World, bytes_of, request, root, world};

#[test]
fn whatever_is_not_one_packet_is_refused() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    for len in (1..PACKET_BYTES).step_by(13).chain([64, 79]) {
        w.refuses_bytes(&w.a, &packet[..len], Cause::Size);
    }
    let many = packet.repeat(100);
    for len in [81, 144, 160, 240, 800, 4096, 8000] {
        w.refuses_bytes(&w.a, &many[..len], Cause::Size);
    }
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
fn a_packet_gathered_from_parts_is_one_and_two_at_once_are_none() {
    let Some(mut w) = world() else { return };
    let generation = w.grant(0, w.a.seat);
    let packet = bytes_of(&request(AB, root(0, generation, 4)));
    assert_eq!(gather(&w, &[&packet, &packet]), Ok(160));
    assert_eq!((w.count(Cause::Size), w.a.passed(160).len()), (1, 160));
    assert_eq!(w.entry(0).holder, w.a.seat.holder);
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
    // What the file was is what it is: the program wrote to a copy.
    let mut still = [0; PACKET_BYTES];
    rustix::io::pread(&file, &mut still, 0).unwrap();
    assert_eq!(still, packet);
    w.works();
}
