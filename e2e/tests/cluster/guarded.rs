//! Ways to the servers that are not open to everybody.

use std::fs;
use std::path::{Path, PathBuf};

use baton_e2e::{App, Nats, Node, need_processes, need_sandbox, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{SOON, all_answer, deployed, members};

/// An authority, and a certificate of it for loopback; files in PEM.
struct Files {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

fn certificates(place: &Path) -> Files {
    let key = KeyPair::generate().expect("certificates of the test are made and written");
    let mut params =
        CertificateParams::new(Vec::new()).expect("certificates of the test are made and written");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("certificates of the test are made and written").pem();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().expect("certificates of the test are made and written");
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .expect("certificates of the test are made and written")
        .signed_by(&own_key, &issuer);
    let write = |name: &str, text: String| {
        let path = place.join(name);
        fs::write(&path, text).expect("certificates of the test are made and written");
        path
    };
    Files {
        cert: write("cert.pem", own.expect("certificates of the test are made and written").pem()),
        key: write("key.pem", own_key.serialize_pem()),
        ca: write("ca.pem", authority),
    }
}

fn args(files: &Files) -> [String; 6] {
    let path = |path: &Path| path.to_str().expect("certificates of the test are made and written").to_owned();
    let flag = |name: &str| name.to_owned();
    [
        flag("--cluster-cert"),
        path(&files.cert),
        flag("--cluster-key"),
        path(&files.key),
        flag("--cluster-ca"),
        path(&files.ca),
    ]
}

#[test]
fn certificates_open_the_way_to_the_servers_and_others_do_not() {
    need_sandbox!();
    need_processes!();
    let (good, other) = (
        tempfile::tempdir().expect("certificates of the test are made and written"),
        tempfile::tempdir().expect("certificates of the test are made and written"),
    );
    let files = certificates(good.path());
    let Some(nats) = Nats::start_encrypted(&files.cert, &files.key, &files.ca) else { return };
    let own = args(&files);
    let own = own.each_ref().map(String::as_str);
    let app = App::new("hidden");
    let a = Node::member_with(&nats.url(), "a", "127.0.0.1", "hidden", &own);
    let b = Node::member_with(&nats.url(), "b", "127.0.0.2", "hidden", &own);
    assert_eq!(deployed(&a, &app, 1), 1);
    all_answer(&[&a, &b], 1);
    // Of another authority: it starts by itself, and says why.
    let foreign = args(&certificates(other.path()));
    let foreign = foreign.each_ref().map(String::as_str);
    let c = Node::member_with(&nats.url(), "c", "127.0.0.3", "hidden", &foreign);
    assert!(c.words().contains("is not reachable"), "{}", c.words());
    let status = c.cli(["cluster", "status", "--json"]).json();
    assert_eq!(status["store"]["reachable"], false, "{status}");
    wait_until(SOON, "a knows a and b alone", || members(&a) == ["a", "b"]);
    // Without certificates at all nothing is even tried.
    let home = tempfile::tempdir().expect("certificates of the test are made and written");
    let plain = baton_e2e::cli(home.path(), ["node", "--cluster", &nats.url(), "--name", "d"]);
    assert_eq!(plain.code, 2, "{plain:?}");
    println!("{}", c.words());
}

#[test]
fn a_password_opens_the_way_and_is_not_told() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start_guarded("baton", "pa#ss:w@rd") else { return };
    let node = Node::member(&nats.url(), "a", "127.0.0.1", "none");
    wait_until(SOON, "a knows itself", || members(&node) == ["a"]);
    let status = node.cli(["cluster", "status"]);
    assert!(status.stdout.contains("reachable") && !status.stdout.contains("pa#ss"), "{status:?}");
    let wrong = nats.url().replace("w@rd", "word");
    let other = Node::member(&wrong, "b", "127.0.0.2", "none");
    assert!(other.words().contains("authorization violation"), "{}", other.words());
    assert!(!other.words().contains("pa#ss"), "{}", other.words());
}
