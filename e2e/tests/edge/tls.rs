//! TLS at the gateway, with a client that is rustls and certificates made here.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::{App, Node, cli, need_sandbox, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::open::connect;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Certificates in files.
struct Files(TempDir);

/// A certificate and its key, in PEM.
struct Pair {
    cert: String,
    key: String,
}

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(by: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    change(&mut params);
    let cert = params.signed_by(&key, by).unwrap();
    Pair { cert: cert.pem(), key: key.serialize_pem() }
}

fn server(by: &Issuer, name: &str) -> Pair {
    issue(by, |params| params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap())))
}

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Puts a pair in the place of another, as whoever renews certificates does: each file at once.
    fn put(&self, name: &str, pair: &Pair) {
        for (end, text) in [("pem", &pair.cert), ("key", &pair.key)] {
            let new = self.path("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, self.path(&format!("{name}.{end}"))).unwrap();
        }
    }

    /// The options for a pair of this name.
    fn options(&self, name: &str) -> [String; 4] {
        let file = |end| self.text(&format!("{name}.{end}"));
        ["--tls-cert".to_owned(), file("pem"), "--tls-key".to_owned(), file("key")]
    }
}

fn start(app: &App, options: &[String]) -> Node {
    Node::start_with(app, &options.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A client that believes in `ca`, and shows `pair`.
fn client(
    ca: &str,
    pair: Option<&Pair>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match pair {
        None => builder.with_no_client_auth(),
        Some(Pair { cert, key }) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(vec![cert], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    })
}

fn any_version(ca: &str, pair: Option<&Pair>) -> Arc<ClientConfig> {
    client(ca, pair, rustls::ALL_VERSIONS)
}

/// Asks for `target` over a connection of its own; what comes until its end, and the version that was spoken.
fn get(
    config: &Arc<ClientConfig>,
    to: SocketAddr,
    name: &str,
    target: &str,
) -> Result<(String, u16), String> {
    let connection =
        ClientConnection::new(Arc::clone(config), ServerName::try_from(name.to_owned()).unwrap());
    let mut stream = StreamOwned::new(connection.unwrap(), connect(to));
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: {name}\r\nx-identity: forged\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let version = stream.conn.protocol_version().map_or(0, u16::from);
    Ok((String::from_utf8_lossy(&answer).into_owned(), version))
}

fn hello() -> App {
    App::new("secure")
        .function("hello", "hello", "scale = { concurrency = 16 }")
        .function("identity", "identity", "")
}

#[test]
fn both_versions_are_spoken_and_plain_http_is_told_so() {
    need_sandbox!();
    let (ca, files) = (authority(), Files::new());
    files.put("a", &server(&ca, "a.example"));
    files.put("b", &server(&ca, "b.example"));
    let node = start(&hello(), &[files.options("a"), files.options("b")].concat());
    for (version, number) in [(&rustls::version::TLS12, 0x0303), (&rustls::version::TLS13, 0x0304)] {
        let config = client(&ca.pem(), None, &[version]);
        for name in ["a.example", "b.example"] {
            let (answer, spoken) = get(&config, node.gateway, name, "/hello").unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert_eq!(spoken, number);
        }
    }
    // By a name that no certificate has, and by an authority that signed none.
    let refused = get(&any_version(&ca.pem(), None), node.gateway, "c.example", "/hello").unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let refused =
        get(&any_version(&authority().pem(), None), node.gateway, "a.example", "/hello").unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let plain = node.get("/hello");
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("https://"), "{}", plain.text());
    // HTTP/2 is the first choice.
    let mut config = Arc::unwrap_or_clone(any_version(&ca.pem(), None));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let name = ServerName::try_from("a.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, connect(node.gateway));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(settings[3], 4, "it begins with its settings");
}

#[test]
fn clients_are_who_their_certificates_say() {
    need_sandbox!();
    let (ca, clients, files) = (authority(), authority(), Files::new());
    files.put("a", &server(&ca, "a.example"));
    fs::write(files.path("clients.pem"), clients.pem()).unwrap();
    let more = ["--tls-client-ca".to_owned(), files.text("clients.pem")];
    let node = start(&hello(), &[&files.options("a")[..], &more].concat());
    let uri = issue(&clients, |params| {
        params.subject_alt_names.push(SanType::URI("spiffe://shop/api".try_into().unwrap()));
    });
    let named = issue(&clients, |params| params.distinguished_name.push(DnType::CommonName, "alice"));
    let ask =
        |pair: Option<&Pair>| get(&any_version(&ca.pem(), pair), node.gateway, "a.example", "/identity");
    assert!(ask(Some(&uri)).unwrap().0.contains("identity=spiffe://shop/api\n"));
    assert!(ask(Some(&named)).unwrap().0.contains("identity=cn:alice\n"));
    assert!(ask(None).is_err(), "none is shown");
    let foreign = issue(&authority(), |params| params.distinguished_name.push(DnType::CommonName, "alice"));
    assert!(ask(Some(&foreign)).is_err(), "another authority's");
    let late = issue(&clients, |params| {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    });
    assert!(ask(Some(&late)).is_err(), "expired");
    // Where none is needed, one without is nobody, whatever it writes.
    let optional = ["--tls-client".to_owned(), "optional".to_owned()];
    let node = start(&hello(), &[&files.options("a")[..], &more, &optional].concat());
    let ask =
        |pair: Option<&Pair>| get(&any_version(&ca.pem(), pair), node.gateway, "a.example", "/identity");
    assert!(ask(None).unwrap().0.contains("identity=-\n"));
    assert!(ask(Some(&named)).unwrap().0.contains("identity=cn:alice\n"));
    assert!(ask(Some(&foreign)).is_err(), "a wrong one is not none");
}

#[test]
fn new_certificates_are_taken_up_and_bad_ones_are_not() {
    need_sandbox!();
    let (old, new, files) = (authority(), authority(), Files::new());
    files.put("a", &server(&old, "a.example"));
    let node = start(&hello(), &files.options("a"));
    let (by_old, by_new) = (any_version(&old.pem(), None), any_version(&new.pem(), None));
    let ask = |config: &Arc<ClientConfig>| get(config, node.gateway, "a.example", "/hello");
    ask(&by_old).unwrap();
    // Requests all the while, over connections that were opened before and after.
    let (stop, answered) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    thread::scope(|scope| {
        let name = ServerName::try_from("a.example").unwrap();
        let connection = ClientConnection::new(Arc::clone(&by_old), name).unwrap();
        let mut stream = StreamOwned::new(connection, connect(node.gateway));
        scope.spawn(move || {
            let until = Instant::now() + Duration::from_secs(15);
            while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                stream.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").expect("the connection stays");
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).expect("an answer");
                assert_eq!(&answer, b"HTTP/1.1 200");
                let mut rest = [0; 4096];
                let _ = stream.read(&mut rest).expect("the rest");
                answered.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        files.put("a", &server(&new, "a.example"));
        wait_until(Duration::from_secs(8), "the new certificate is served", || ask(&by_new).is_ok());
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 5);
    // A key that is another's, and no PEM: what was good stays.
    let mut wrong = server(&old, "a.example");
    wrong.key = KeyPair::generate().unwrap().serialize_pem();
    let warnings = || node.words().matches("no good").count();
    for bad in [wrong, Pair { cert: "no certificate".to_owned(), key: String::new() }] {
        let before = warnings();
        files.put("a", &bad);
        wait_until(Duration::from_secs(8), "it is warned of", || warnings() > before);
        ask(&by_new).unwrap();
    }
    // And back, at once, when asked to.
    files.put("a", &server(&old, "a.example"));
    node.signal(Signal::HUP);
    wait_until(Duration::from_secs(8), "the old authority's is back", || ask(&by_old).is_ok());
}

#[test]
fn stalled_handshakes_are_in_nobodys_way() {
    need_sandbox!();
    let (ca, files) = (authority(), Files::new());
    files.put("a", &server(&ca, "a.example"));
    let node = start(&hello(), &files.options("a"));
    let stalled: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = connect(node.gateway);
            // Some say nothing, some begin.
            if number % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
            }
            stream
        })
        .collect();
    let began = Instant::now();
    get(&any_version(&ca.pem(), None), node.gateway, "a.example", "/hello").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Their time is that of a head: ten seconds.
    for mut stream in stalled {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64);
    }
    assert!(began.elapsed() < Duration::from_secs(19), "{:?}", began.elapsed());
}

#[test]
fn files_that_are_no_good_are_named_at_the_start() {
    let (ca, files) = (authority(), Files::new());
    let good = server(&ca, "a.example");
    files.put("a", &good);
    files.put("other", &server(&ca, "a.example"));
    files.put(
        "late",
        &issue(&ca, |params| {
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        }),
    );
    let refused = |cert: &str, key: &str| {
        let home = tempfile::tempdir().unwrap();
        let (cert, key) = (files.text(cert), files.text(key));
        let ended = cli(home.path(), ["node", "--port", "0", "--tls-cert", &cert, "--tls-key", &key]);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        ended.stderr
    };
    let has = |text: String, words: &[&str]| {
        let flat = text.split_whitespace().collect::<String>();
        for word in words {
            assert!(flat.contains(&word.replace(' ', "")), "{word}: {text}");
        }
    };
    has(refused("none.pem", "a.key"), &["No such file"]);
    has(refused("a.key", "a.key"), &["no certificate in PEM"]);
    has(refused("a.pem", "a.pem"), &["no private key in PEM"]);
    has(refused("a.pem", "other.key"), &["it is not the key of"]);
    has(refused("late.pem", "late.key"), &["and not now"]);
    let alone = cli(Path::new(files.0.path()), ["node", "--tls-cert", &files.text("a.pem")]);
    assert_eq!(alone.code, 2, "{}", alone.stderr);
}
