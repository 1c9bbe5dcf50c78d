//! Who may connect: clusters, incarnations, certificates.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::{SecurityError, StartError};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, years: (i32, i32)) -> Security {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let cert = params.signed_by(&key, &self.0).unwrap();
        let (cert, key) = (cert.pem().into_bytes(), key.serialize_pem().into_bytes());
        Security::Tls { cert, key, ca: self.0.as_ref().pem().into_bytes() }
    }

    fn good(&self, name: &str) -> Security {
        self.issue(name, (2020, 2120))
    }
}

fn with(node: &str, security: Security) -> Settings {
    Settings { security, ..settings(node) }
}

#[test]
fn calls_and_pulls_go_over_tls() {
    run(async {
        let authority = Authority::new();
        let (a, b) = (with("a", authority.good("a")), with("b", authority.good("b")));
        let (a, b) = pair_with((a, b), (echo(), echo())).await;
        let answer = a.call("b", call(Payload::Inline(Bytes::from(vec![5; 60_000])))).await.unwrap();
        assert_eq!(answer.body, Arrived::Inline(Bytes::from(vec![5; 60_000])));
        let (memory, far) = (Memory::new(8 << 20), Memory::new(8 << 20));
        memory.fill(0, 8 << 20);
        let terms = Terms { expires: Duration::from_secs(20), retrievals: 1 };
        let reference = a.hold("b", memory.held(3, (8 << 20) - 3), terms).unwrap();
        b.pull("a", &reference, far.room(0, (8 << 20) - 3), deadline(20)).await.unwrap();
        assert!(memory.same(3, &far, 0, (8 << 20) - 3));
        until("nothing is held", || memory.used() == 0 && far.used() == 0).await;
    });
}

/// `b` with `security` tries to reach `a`, and the other way round; neither is up, both count it.
fn refused(security: impl Fn(&Authority) -> Security, why: &str) {
    run(async {
        let authority = Authority::new();
        let a = Endpoint::start(with("a", authority.good("a")), echo()).await.unwrap();
        let b = Endpoint::start(with("b", security(&authority)), echo()).await.unwrap();
        a.set_peers(&[peer(&b, "b")]);
        b.set_peers(&[peer(&a, "a")]);
        let troubled = |endpoint: &Endpoint| endpoint.peers()[0].trouble.clone();
        until("both are refused", || troubled(&a).is_some() && troubled(&b).is_some()).await;
        until("it is counted", || a.counts().of(Counted::Untrusted) > 1).await;
        assert!(!a.peers()[0].up && !b.peers()[0].up);
        let said = troubled(&a).unwrap();
        assert!(said.contains("certificates do not convince") && said.contains(why), "{said}");
        assert_eq!(a.call("b", call(Payload::Empty)).await, Err(CallError::NotConnected));
    });
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    refused(|_| Authority::new().good("b"), "invalid peer certificate");
}

#[test]
fn an_expired_certificate_is_refused() {
    refused(|authority| authority.issue("b", (2020, 2021)), "expired");
}

#[test]
fn a_certificate_of_another_node_is_refused() {
    refused(|authority| authority.good("c"), "not valid for name");
}

#[test]
fn a_node_without_tls_is_refused_by_one_with() {
    run(async {
        let a = Endpoint::start(with("a", Authority::new().good("a")), echo()).await.unwrap();
        let b = Endpoint::start(settings("b"), echo()).await.unwrap();
        a.set_peers(&[peer(&b, "b")]);
        b.set_peers(&[peer(&a, "a")]);
        until("both have trouble", || a.peers()[0].trouble.is_some() && b.peers()[0].trouble.is_some()).await;
        assert!(!a.peers()[0].up && !b.peers()[0].up);
    });
}

/// `b`, as `change` makes it, and what `a` has for it.
fn strange(change: impl FnOnce(&mut Settings, &mut Peer), why: &str) {
    run(async {
        let a = Endpoint::start(settings("a"), echo()).await.unwrap();
        let mut at_b = settings("b");
        let mut known = Peer { name: "b".to_owned(), address: a.address(), incarnation: 1 };
        change(&mut at_b, &mut known);
        let b = Endpoint::start(at_b, echo()).await.unwrap();
        known.address = b.address();
        a.set_peers(&[known]);
        b.set_peers(&[peer(&a, "a")]);
        until("b is refused", || b.peers()[0].trouble.as_ref().is_some_and(|said| said.contains(why))).await;
        until("it is counted", || a.counts().of(Counted::Strangers) > 0).await;
        assert!(!b.peers()[0].up && !a.peers().iter().any(|peer| peer.up));
    });
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    strange(|at_b, _| at_b.cluster = "other".to_owned(), "different clusters");
}

#[test]
fn another_life_of_a_node_is_refused() {
    strange(|at_b, _| at_b.incarnation = 2, "started anew");
}

#[test]
fn a_node_that_is_no_member_is_refused() {
    strange(|_, known| known.name = "c".to_owned(), "no known member");
}

#[test]
fn a_node_that_was_started_anew_is_reached_again() {
    run(async {
        let (a, b) = pair(echo()).await;
        let listen = b.address();
        drop(b);
        until("b is down", || !a.peers()[0].up).await;
        let again = Settings { incarnation: 2, listen, ..settings("b") };
        let mut b = Endpoint::start(again.clone(), echo()).await;
        while b.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            b = Endpoint::start(again.clone(), echo()).await;
        }
        let b = b.unwrap();
        b.set_peers(&[peer(&a, "a")]);
        a.set_peers(&[Peer { incarnation: 2, ..peer(&b, "b") }]);
        until("b is up", || a.peers()[0].up && b.peers()[0].up).await;
        a.call("b", call(Payload::Empty)).await.unwrap();
    });
}

#[test]
fn plaintext_stays_on_loopback_unless_it_is_allowed() {
    run(async {
        let everywhere = Settings { listen: "0.0.0.0:0".parse().unwrap(), ..settings("a") };
        let error = Endpoint::start(everywhere.clone(), echo()).await.err();
        assert!(matches!(error, Some(StartError::Security(SecurityError::Plaintext { .. }))));
        let allowed = Settings { allow_plaintext: true, ..everywhere };
        Endpoint::start(allowed, echo()).await.unwrap();
        let a = Endpoint::start(settings("a"), echo()).await.unwrap();
        let outside = Peer { name: "b".to_owned(), address: "192.0.2.1:9".parse().unwrap(), incarnation: 1 };
        a.set_peers(&[outside]);
        until("it is refused", || {
            a.peers()[0].trouble.as_ref().is_some_and(|said| said.contains("loopback"))
        })
        .await;
    });
}

#[test]
fn settings_that_cannot_be_are_refused() {
    run(async {
        let nameless = Settings { node: String::new(), ..settings("a") };
        assert!(matches!(
            Endpoint::start(nameless, echo()).await.err(),
            Some(StartError::Name { what: "node" })
        ));
        let Security::Tls { key, ca, .. } = Authority::new().good("a") else { return };
        let broken = Security::Tls { cert: b"no certificate".to_vec(), key, ca };
        let error = Endpoint::start(with("a", broken), echo()).await.err();
        assert!(matches!(
            error,
            Some(StartError::Security(SecurityError::Pem { what: "node's certificate" }))
        ));
        let taken = Endpoint::start(settings("a"), echo()).await.unwrap();
        let error =
            Endpoint::start(Settings { listen: taken.address(), ..settings("b") }, echo()).await.err();
        assert!(matches!(error, Some(StartError::Listen { .. })));
    });
}
