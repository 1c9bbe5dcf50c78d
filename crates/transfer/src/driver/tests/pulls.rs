//! Pulls between endpoints.

use super::*;

fn terms(retrievals: u16) -> Terms {
    Terms { expires: Duration::from_secs(20), retrievals }
}

#[test]
fn what_was_pulled_is_let_go_of_and_cannot_be_pulled_again() {
    run(async {
        let (memory, far) = (Memory::new(1 << 20), Memory::new(1 << 20));
        let (a, b) = pair(echo()).await;
        memory.fill(0, 1 << 20);
        let reference = a.hold("b", memory.held(5, 700_000), terms(1)).unwrap();
        b.pull("a", &reference, far.room(7, 700_000), deadline(5)).await.unwrap();
        assert!(memory.same(5, &far, 7, 700_000));
        until("nothing is held", || memory.used() == 0 && far.used() == 0).await;
        let again = b.pull("a", &reference, far.room(0, 700_000), deadline(5)).await;
        assert_eq!(again.unwrap_err(), PullError::Refused(Refusal::Acknowledged));
        assert_eq!(a.counts().refused(Refusal::Acknowledged), 1);
        let small = b.pull("a", &reference, far.room(0, 10), deadline(5)).await;
        assert_eq!(small.unwrap_err(), PullError::TooLarge { len: 700_000, room: 10 });
    });
}

#[test]
fn several_retrievals_are_several_pulls() {
    run(async {
        let (memory, far) = (Memory::new(1 << 16), Memory::new(1 << 20));
        let (a, b) = pair(echo()).await;
        memory.fill(0, 1 << 16);
        let reference = a.hold("b", memory.held(0, 1 << 16), terms(3)).unwrap();
        for at in 0..3 {
            assert_eq!(memory.used(), 1);
            b.pull("a", &reference, far.room(at << 16, 1 << 16), deadline(5)).await.unwrap();
            assert!(memory.same(0, &far, at << 16, 1 << 16));
        }
        until("nothing is held", || memory.used() == 0).await;
    });
}

#[test]
fn small_pulls_are_not_stuck_behind_large_ones() {
    run(async {
        let (memory, far) = (Memory::new(64 << 20), Memory::new(65 << 20));
        let (a, b) = pair(echo()).await;
        memory.fill(0, 4096);
        let large = a.hold("b", memory.held(0, 64 << 20), terms(1)).unwrap();
        let small = a.hold("b", memory.held(0, 4096), terms(1)).unwrap();
        let (room, b_too) = (far.room(0, 64 << 20), b.clone());
        let pulling =
            tokio::task::spawn_local(async move { b_too.pull("a", &large, room, deadline(20)).await });
        b.pull("a", &small, far.room(64 << 20, 4096), deadline(5)).await.unwrap();
        assert!(!pulling.is_finished());
        pulling.await.unwrap().unwrap();
        assert!(memory.same(0, &far, 64 << 20, 4096));
        assert!(memory.same(0, &far, 0, 64 << 20));
    });
}

#[test]
fn a_revoked_hold_goes_though_it_is_being_sent_and_others_go_on() {
    revoke_in_the_middle(false);
    revoke_in_the_middle(true);
}

fn revoke_in_the_middle(from_file: bool) {
    run(async {
        let (memory, far) = (Memory::new(16 << 20), Memory::new(64 << 20));
        let mut at_a = settings("a");
        at_a.limits.send_from_file = Some(from_file);
        let (a, b) = pair_with((at_a, settings("b")), (echo(), echo())).await;
        memory.fill(0, 16 << 20);
        let kept = a.hold("b", memory.held(0, 16 << 20), terms(1)).unwrap();
        let taken_back = Memory::new(48 << 20);
        let revoked = a.hold("b", taken_back.held(0, 48 << 20), terms(1)).unwrap();
        let (room, b_too) = (far.room(0, 16 << 20), b.clone());
        let good = tokio::task::spawn_local(async move { b_too.pull("a", &kept, room, deadline(20)).await });
        let (room, b_too) = (far.room(16 << 20, 48 << 20), b.clone());
        let bad =
            tokio::task::spawn_local(async move { b_too.pull("a", &revoked, room, deadline(20)).await });
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert_eq!(a.revoke("shop", Some((2, 1))), 0);
        {
            let mut vault = a.held();
            vault.retain(|row| row.len == 48 << 20);
            assert_eq!(vault.len(), 1);
        }
        // Both are of buffer 1: so take back by size what cannot be told apart otherwise.
        revoke_by_len(&a, 48 << 20);
        assert_eq!(bad.await.unwrap().unwrap_err(), PullError::Refused(Refusal::Revoked));
        good.await.unwrap().unwrap();
        assert!(memory.same(0, &far, 0, 16 << 20));
        until("nothing is held", || memory.used() == 0 && taken_back.used() == 0).await;
    });
}

fn revoke_by_len(endpoint: &Endpoint, len: u64) {
    endpoint.revoke_held(|held| held.len() == len);
}

#[test]
fn expiry_ends_a_pull() {
    run(async {
        let (memory, far) = (Memory::new(1 << 20), Memory::new(1 << 20));
        let (a, b) = pair(echo()).await;
        let short = Terms { expires: Duration::from_millis(20), retrievals: 1 };
        let reference = a.hold("b", memory.held(0, 1 << 20), short).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let late = b.pull("a", &reference, far.room(0, 1 << 20), deadline(5)).await;
        assert_eq!(late.unwrap_err(), PullError::Refused(Refusal::Expired));
        until("nothing is held", || memory.used() == 0 && far.used() == 0).await;
    });
}

#[test]
fn a_pull_that_is_dropped_gives_its_room_back_and_can_be_done_again() {
    run(async {
        let (memory, far) = (Memory::new(32 << 20), Memory::new(32 << 20));
        let (a, b) = pair(echo()).await;
        memory.fill(0, 32 << 20);
        let reference = a.hold("b", memory.held(0, 32 << 20), terms(2)).unwrap();
        let (room, b_too) = (far.room(0, 32 << 20), b.clone());
        let pulling =
            tokio::task::spawn_local(async move { b_too.pull("a", &reference, room, deadline(20)).await });
        tokio::time::sleep(Duration::from_millis(2)).await;
        pulling.abort();
        until("the room is back", || far.used() == 0).await;
        b.pull("a", &reference, far.room(0, 32 << 20), deadline(20)).await.unwrap();
        assert!(memory.same(0, &far, 0, 32 << 20));
    });
}

#[test]
fn a_peer_that_is_gone_fails_pulls_and_releases_what_was_for_it() {
    run(async {
        let (memory, far) = (Memory::new(1 << 20), Memory::new(1 << 20));
        let (a, b) = pair(echo()).await;
        let reference = a.hold("b", memory.held(0, 1 << 20), terms(1)).unwrap();
        b.set_peers(&[]);
        let none = b.pull("a", &reference, far.room(0, 1 << 20), deadline(5)).await;
        assert_eq!(none.unwrap_err(), PullError::NotConnected);
        let b_of_today = Peer { incarnation: 2, ..peer(&b, "b") };
        a.set_peers(&[b_of_today]);
        until("nothing is held", || memory.used() == 0).await;
        assert_eq!(a.revoke_node("b"), 0);
    });
}

#[test]
fn a_large_pull_is_spread_over_lanes() {
    run(async {
        let (memory, far) = (Memory::new(9 << 20), Memory::new(9 << 20));
        let (mut at_a, mut at_b) = (settings("a"), settings("b"));
        (at_b.limits.stripes, at_b.limits.stripe_from) = (Some(3), 1 << 20);
        // Slow enough for three connections to be made meanwhile.
        at_a.limits.chunk = 4096;
        let (a, b) = pair_with((at_a, at_b), (echo(), echo())).await;
        memory.fill(0, 9 << 20);
        let before = b.counts().of(Counted::Connections);
        let reference = a.hold("b", memory.held(1, (9 << 20) - 2), terms(1)).unwrap();
        b.pull("a", &reference, far.room(0, (9 << 20) - 2), deadline(10)).await.unwrap();
        assert!(memory.same(1, &far, 0, (9 << 20) - 2));
        until("there were three", || b.counts().of(Counted::Connections) == before + 3).await;
        until("nothing is held", || memory.used() == 0 && far.used() == 0).await;
        assert_eq!(a.counts().of(Counted::BytesSent), (9 << 20) - 2);
    });
}

/// Passes connections on to `to`, and cuts each after `bytes` from there.
async fn cutting(to: std::net::SocketAddr, bytes: u64) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, copy};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let Ok(mut far) = tokio::net::TcpStream::connect(to).await else { return };
            tokio::task::spawn_local(async move {
                let (mut near_in, mut near_out) = near.split();
                let (far_in, mut far_out) = far.split();
                let mut cut = far_in.take(bytes);
                tokio::select! {
                    _ = copy(&mut near_in, &mut far_out) => {}
                    _ = copy(&mut cut, &mut near_out) => {}
                }
            });
        }
    });
    address
}

#[test]
fn a_pull_goes_on_where_its_connection_broke() {
    run(async {
        let (memory, far) = (Memory::new(6 << 20), Memory::new(6 << 20));
        let (a, b) = pair(echo()).await;
        memory.fill(0, 6 << 20);
        let address = cutting(a.address(), 1_500_000).await;
        b.set_peers(&[Peer { address, ..peer(&a, "a") }]);
        let reference = a.hold("b", memory.held(0, 6 << 20), terms(1)).unwrap();
        b.pull("a", &reference, far.room(0, 6 << 20), deadline(20)).await.unwrap();
        assert!(memory.same(0, &far, 0, 6 << 20));
        assert!(b.counts().of(Counted::PullsResumed) > 0);
        // Each connection brought its part, and none brought it all again.
        assert!(a.counts().of(Counted::BytesSent) < 3 * (6 << 20));
        until("nothing is held", || memory.used() == 0 && far.used() == 0).await;
        let reference = a.hold("b", memory.held(0, 6 << 20), terms(1)).unwrap();
        drop(a);
        let late = b.pull("a", &reference, far.room(0, 6 << 20), deadline(1)).await;
        assert_eq!(late.unwrap_err(), PullError::Late);
    });
}
