//! References: what is refused, and when memory goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use baton_pool::region::{self, Access, Mapping, View};
use proptest::prelude::*;

use super::*;
use crate::payload::{Owner, Place};
use crate::reference::system;

struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn held_of(app: &str, len: u64) -> (Held, Arc<AtomicBool>) {
    let fd = region::create("test", 65536, false).unwrap();
    let mapping = Arc::new(Mapping::new(&fd, 65536, Access::ReadWrite).unwrap());
    let gone = Arc::new(AtomicBool::new(false));
    let place = Place { view: View::new(&mapping, 0, len).unwrap(), pool: Arc::new(fd), at: 0 };
    let owner = Owner { app: app.to_owned(), buffer: 3, generation: 9 };
    (Held::new(place, owner, Box::new(Gone(Arc::clone(&gone)))), gone)
}

fn vault() -> Vault {
    Vault::new("a", &Limits::default(), system()).unwrap()
}

fn terms(retrievals: u16) -> Terms {
    Terms { expires: Duration::from_secs(10), retrievals }
}

fn at(seconds: u64) -> Now {
    Duration::from_secs(seconds)
}

fn wanted(peer: &str, token: Token, retrieval: u64) -> Wanted<'_> {
    Wanted { peer, token, retrieval, offset: 0, len: 100 }
}

#[test]
fn sending_deletes_nothing_and_acknowledging_does() {
    let mut vault = vault();
    let (held, gone) = held_of("shop", 100);
    let Reference { token, len } = vault.hold(at(0), "b", held, terms(1)).unwrap();
    assert_eq!(len, 100);
    for _ in 0..3 {
        assert!(!vault.open(at(1), wanted("b", token, 1)).unwrap().over());
    }
    assert!(!gone.load(Ordering::SeqCst));
    vault.acknowledge(at(2), "b", token, 1).unwrap();
    assert!(gone.load(Ordering::SeqCst) && vault.len() == 0);
    assert_eq!(vault.open(at(2), wanted("b", token, 1)).unwrap_err(), Refusal::Acknowledged);
    // What may have been lost is said again.
    vault.acknowledge(at(2), "b", token, 1).unwrap();
}

#[test]
fn memory_outlives_its_hold_for_as_long_as_someone_sends_it() {
    let mut vault = vault();
    let (held, gone) = held_of("shop", 100);
    let token = vault.hold(at(0), "b", held, terms(1)).unwrap().token;
    let lease = vault.open(at(0), wanted("b", token, 1)).unwrap();
    assert!(vault.revoke(token) && !vault.revoke(token));
    assert!(lease.over() && !gone.load(Ordering::SeqCst));
    assert_eq!(vault.open(at(0), wanted("b", token, 1)).unwrap_err(), Refusal::Revoked);
    drop(lease);
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn as_many_retrievals_as_were_granted_and_each_counts_once() {
    let mut vault = vault();
    let (held, gone) = held_of("shop", 100);
    let token = vault.hold(at(0), "b", held, terms(2)).unwrap().token;
    vault.open(at(0), wanted("b", token, 1)).unwrap();
    vault.acknowledge(at(0), "b", token, 1).unwrap();
    vault.acknowledge(at(0), "b", token, 1).unwrap();
    assert_eq!(vault.open(at(0), wanted("b", token, 1)).unwrap_err(), Refusal::Acknowledged);
    vault.open(at(0), wanted("b", token, 2)).unwrap();
    assert_eq!(vault.open(at(0), wanted("b", token, 3)).unwrap_err(), Refusal::Exhausted);
    assert_eq!(vault.acknowledge(at(0), "b", token, 3).unwrap_err(), Refusal::Exhausted);
    assert!(!gone.load(Ordering::SeqCst));
    vault.acknowledge(at(0), "b", token, 2).unwrap();
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn a_reference_ends_with_its_time() {
    let mut vault = vault();
    let (held, gone) = held_of("shop", 100);
    let token = vault.hold(at(5), "b", held, terms(1)).unwrap().token;
    vault.open(at(14), wanted("b", token, 1)).unwrap();
    assert_eq!(vault.open(at(15), wanted("b", token, 1)).unwrap_err(), Refusal::Expired);
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn other_nodes_and_other_ranges_are_refused() {
    let mut vault = vault();
    let token = vault.hold(at(0), "b", held_of("shop", 100).0, terms(1)).unwrap().token;
    assert_eq!(vault.open(at(0), wanted("c", token, 1)).unwrap_err(), Refusal::Foreign);
    assert_eq!(vault.acknowledge(at(0), "c", token, 1).unwrap_err(), Refusal::Foreign);
    for (offset, len) in [(0, 101), (1, 100), (101, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let wider = Wanted { offset, len, ..wanted("b", token, 1) };
        assert_eq!(vault.open(at(0), wider).unwrap_err(), Refusal::Range);
    }
}

#[test]
fn an_app_has_a_quota_and_no_other_app_pays_for_it() {
    let limits = Limits { held_bytes: 250, holds: 4, ..Limits::default() };
    let mut vault = Vault::new("a", &limits, system()).unwrap();
    let first = vault.hold(at(0), "b", held_of("shop", 100).0, terms(1)).unwrap();
    vault.hold(at(0), "b", held_of("shop", 100).0, terms(1)).unwrap();
    let (held, gone) = held_of("shop", 100);
    let error = vault.hold(at(0), "b", held, terms(1)).unwrap_err();
    assert_eq!(error, HoldError::Quota { app: "shop".to_owned(), held: 200, limit: 250 });
    assert!(gone.load(Ordering::SeqCst));
    vault.hold(at(0), "b", held_of("mail", 100).0, terms(1)).unwrap();
    vault.revoke(first.token);
    vault.hold(at(0), "b", held_of("shop", 100).0, terms(1)).unwrap();
    vault.hold(at(0), "b", held_of("mail", 1).0, terms(1)).unwrap();
    assert_eq!(vault.hold(at(0), "b", held_of("mail", 1).0, terms(1)).unwrap_err(), HoldError::Crowded);
}

#[test]
fn terms_that_are_none_are_refused() {
    let mut vault = vault();
    let (none, long) = (Duration::ZERO, HOLD_MAX + Duration::from_secs(1));
    let second = Duration::from_secs(1);
    for (expires, retrievals) in [(none, 1), (long, 1), (second, 0), (second, RETRIEVALS_MAX + 1)] {
        let refused = vault.hold(at(0), "b", held_of("shop", 1).0, Terms { expires, retrievals });
        assert_eq!(refused.unwrap_err(), HoldError::Terms);
    }
}

#[test]
fn revoking_takes_what_was_chosen() {
    let mut vault = vault();
    for (app, peer) in [("shop", "b"), ("shop", "c"), ("mail", "b")] {
        vault.hold(at(0), peer, held_of(app, 10).0, terms(1)).unwrap();
    }
    assert_eq!(vault.revoke_where(|_, receiver| receiver == "b"), 2);
    assert_eq!(vault.revoke_where(|held, _| held.app() == "mail"), 0);
    let rows = vault.rows(at(1));
    assert_eq!((rows.len(), rows[0].receiver.as_str(), rows[0].buffer), (1, "c", (3, 9)));
    assert_eq!(rows[0].expires, Duration::from_secs(9));
}

#[test]
fn the_secret_before_still_vouches_and_the_one_before_that_does_not() {
    let mut vault = vault();
    let token = vault.hold(at(0), "b", held_of("shop", 100).0, terms(1)).unwrap().token;
    vault.rotate().unwrap();
    vault.open(at(0), wanted("b", token, 1)).unwrap();
    vault.rotate().unwrap();
    assert_eq!(vault.open(at(0), wanted("b", token, 1)).unwrap_err(), Refusal::Forged);
}

#[test]
fn what_ended_is_remembered_up_to_a_bound() {
    let mut vault = vault();
    let mut first = None;
    for _ in 0..=ENDED_MAX {
        let token = vault.hold(at(0), "b", held_of("shop", 1).0, terms(1)).unwrap().token;
        vault.revoke(token);
        first.get_or_insert(token);
    }
    assert_eq!((vault.ended.len(), vault.ended_order.len()), (ENDED_MAX, ENDED_MAX));
    assert_eq!(vault.open(at(0), wanted("b", first.unwrap(), 1)).unwrap_err(), Refusal::Unknown);
}

proptest! {
    #[test]
    fn no_changed_token_opens_anything(bit in 0usize..256, other in any::<[u8; 32]>()) {
        let mut vault = vault();
        let token = vault.hold(at(0), "b", held_of("shop", 100).0, terms(1)).unwrap().token;
        let mut bytes = token.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        for forged in [bytes, other] {
            let refused = vault.open(at(0), wanted("b", Token::from_bytes(forged), 1)).unwrap_err();
            prop_assert!(matches!(refused, Refusal::Forged | Refusal::Unknown));
        }
        prop_assert!(vault.open(at(0), wanted("b", token, 1)).is_ok());
    }
}
