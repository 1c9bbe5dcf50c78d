//! The book's rules, one by one.

use super::*;

const WHOLE: Range = Range { offset: 0, len: 4096 };

impl Book {
    fn derive(
        &mut self,
        by: SeatId,
        parent: Pair,
        range: Range,
        rights: Rights,
        holder: SeatId,
    ) -> Result<Pair, Refusal> {
        let view = self.check(by, parent, Rights::PASS, range)?;
        self.derive_from(&view, parent, range, rights, holder)
    }
}

fn book() -> (Book, Pair) {
    let mut book = Book::new(16);
    let handle = Handle { index: 3, generation: 7 };
    book.admit(handle, Place { offset: 8192, capacity: 4096 }, Owner::Seat(1), (Hold::held(5), Rights::ALL));
    (book, Pair { handle: 3, generation: 7 })
}

#[test]
fn a_handle_means_something_to_its_holder_alone() {
    let (mut book, pair) = book();
    assert!(book.check(1, pair, Rights::WRITE, WHOLE).is_ok());
    assert_eq!(book.view(2, pair).err(), Some(Refusal::NotHeld));
    assert_eq!(book.view(1, Pair { generation: 6, ..pair }).err(), Some(Refusal::NotHeld));
    assert_eq!(book.view(1, Pair { handle: 99, ..pair }).err(), Some(Refusal::NotHeld));
    book.give(3, Owner::Seat(2));
    assert_eq!(book.view(1, pair).err(), Some(Refusal::NotHeld), "a move ends the sender's access");
    assert!(book.view(2, pair).is_ok());
    assert_eq!(book.slots(), [3]);
}

#[test]
fn derivations_only_narrow_and_end_as_a_subtree() {
    let (mut book, pair) = book();
    let part = Range { offset: 100, len: 50 };
    let lent = book.derive(1, pair, part, Rights::FROZEN, 2).unwrap();
    let over = Range { offset: 90, len: 50 };
    assert_eq!(book.check(2, lent, Rights::READ, over).err(), Some(Refusal::OutOfBounds));
    assert_eq!(book.check(2, lent, Rights::WRITE, part).err(), Some(Refusal::Denied));
    let deeper = book.derive(2, lent, part, Rights::ALL, 3).unwrap();
    assert_eq!(book.check(3, deeper, Rights::WRITE, part).err(), Some(Refusal::Denied));
    assert_eq!(book.root(3).unwrap().derived, 2);
    assert_eq!(book.end(lent).map(|(_, below)| below.len()), Some(1));
    assert_eq!(book.root(3).unwrap().derived, 0);
    assert_eq!(book.view(3, deeper).err(), Some(Refusal::NotHeld));
    let again = book.derive(1, pair, part, Rights::ALL, 2).unwrap();
    assert_ne!(again, deeper, "a recycled entry has another generation");
    assert_ne!(again, lent);
}

#[test]
fn what_was_given_up_for_good_stays_so() {
    let (mut book, pair) = book();
    book.narrow(1, pair, Range { offset: 10, len: 10 }).unwrap();
    assert_eq!(book.narrow(1, pair, WHOLE), Err(Refusal::OutOfBounds));
    assert_eq!(book.restrict(1, pair, Rights::FROZEN), Ok(Rights::FROZEN));
    assert_eq!(book.restrict(1, pair, Rights::ALL), Ok(Rights::FROZEN));
    assert_eq!(book.held_by(1).collect::<Vec<_>>(), [pair]);
}

#[test]
fn derivations_have_a_greatest_depth() {
    let (mut book, pair) = book();
    let mut at = pair;
    for _ in 0..derived::DEPTH_MAX {
        at = book.derive(1, at, WHOLE, Rights::ALL, 1).unwrap();
    }
    assert_eq!(book.derive(1, at, WHOLE, Rights::ALL, 1), Err(Refusal::TooMany));
}
