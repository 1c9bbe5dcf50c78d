//! Tests of the ring: by behaviour, against a hostile peer, and as a loom model.

use baton_abi::descriptor::Kind;

use super::*;

fn numbered(tag: u32) -> Descriptor {
    Descriptor { tag, invocation: u64::from(tag) * 3, ..Descriptor::new(Kind::Request) }
}

#[cfg(not(loom))]
#[test]
fn descriptors_come_out_in_order_across_the_wrap() {
    let (mut producer, mut consumer) = heap_ring(4).unwrap();
    for round in 0..10 {
        for tag in 0..3 {
            producer.push(&numbered(round * 3 + tag)).unwrap();
        }
        for tag in 0..3 {
            assert_eq!(consumer.pop(), Ok(Some(numbered(round * 3 + tag))));
        }
        assert_eq!(consumer.pop(), Ok(None));
    }
}

#[cfg(not(loom))]
#[test]
fn a_full_ring_refuses_until_the_consumer_takes_one() {
    let (mut producer, mut consumer) = heap_ring(2).unwrap();
    producer.push(&numbered(0)).unwrap();
    producer.push(&numbered(1)).unwrap();
    assert_eq!(producer.push(&numbered(2)), Err(PushError::Full));
    assert_eq!(producer.credits(), Ok(0));
    consumer.pop().unwrap();
    assert_eq!(producer.credits(), Ok(1));
    producer.push(&numbered(2)).unwrap();
}

#[cfg(not(loom))]
#[test]
fn impossible_positions_are_overruns_on_both_ends() {
    let (mut producer, mut consumer) = heap_ring(4).unwrap();
    consumer.memory.positions().tail.store(5, Ordering::Release);
    assert_eq!(consumer.pop(), Err(Overrun { claimed: 5, capacity: 4 }));
    producer.memory.positions().head.store(1, Ordering::Release);
    assert!(matches!(producer.credits(), Err(Overrun { claimed: u32::MAX, .. })));
}

#[cfg(not(loom))]
#[test]
fn a_descriptor_changed_after_the_copy_does_not_change_the_copy() {
    let (mut producer, mut consumer) = heap_ring(4).unwrap();
    producer.push(&numbered(7)).unwrap();
    let copy = consumer.pop().unwrap().unwrap();
    consumer.memory.slot(0).words[0].store(u64::MAX, Ordering::Relaxed);
    assert_eq!(copy, numbered(7));
}

#[cfg(not(loom))]
#[test]
fn sizes_that_are_no_power_of_two_are_refused() {
    assert!(heap_ring(3).is_none());
    assert!(heap_ring(0).is_none());
}

/// Every interleaving of a producer of three and a consumer over a ring of two: nothing is lost, torn or reordered.
#[cfg(loom)]
#[test]
fn loom_nothing_is_lost_torn_or_reordered() {
    loom::model(|| {
        let (mut producer, mut consumer) = heap_ring(2).unwrap();
        let writer = loom::thread::spawn(move || {
            let mut sent = 0;
            while sent < 3 {
                if producer.push(&numbered(sent)).is_ok() {
                    sent += 1;
                } else {
                    loom::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            match consumer.pop().unwrap() {
                Some(descriptor) => {
                    assert_eq!(descriptor, numbered(expected));
                    expected += 1;
                }
                None => loom::thread::yield_now(),
            }
        }
        writer.join().unwrap();
    });
}
