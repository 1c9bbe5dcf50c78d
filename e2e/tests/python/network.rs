//! Connections of functions that are forked from a snapshot: what the manifest names, by name and port, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, ToSocketAddrs as _};

use baton_e2e::{Node, need_one_node, need_processes, need_sandbox, wait_until};

use super::{PATIENCE, app, ask, zygote};

/// Talks to servers: at its import, and when it is asked to.
const MODULE: &str = r#"
import os, socket, urllib.error, urllib.request
import baton

def talk(at):
    host, port = at.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as stream:
            stream.sendall(b"ping ")
            return stream.makefile().read()
    except OSError as error:
        return type(error).__name__

def fetch(at):
    try:
        with urllib.request.urlopen(f"http://{at}/", timeout=5) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()}"

AT_IMPORT = talk(os.environ["FIRST"])

@baton.function
def ask(request):
    what = request.path.rsplit("/", 1)[-1]
    do = fetch if what == "fetch" else talk
    return {"pid": os.getpid(), "first": AT_IMPORT, **{at: do(at) for at in request.text().split()}}
"#;

/// A server that says what it hears, and that it is outside, and hangs up.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut heard = [0; 5];
            if stream.read_exact(&mut heard).is_ok() {
                let _ = stream.write_all(&heard).and_then(|()| stream.write_all(b"outside"));
            }
        }
    });
    port
}

/// Names of this machine that lead to its loopback address.
fn names() -> Vec<String> {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_loopback = |name: &String| {
        let addresses = (name.as_str(), 0).to_socket_addrs();
        addresses.is_ok_and(|mut all| all.any(|address| address.ip() == Ipv4Addr::LOCALHOST))
    };
    [own, "localhost".to_owned()].into_iter().filter(is_loopback).collect()
}

fn counts(node: &Node) -> (u64, u64) {
    let counts = &node.function("snap")["network"];
    let count = |name: &str| counts[name].as_u64().expect("a number");
    (count("answered"), count("denied"))
}

#[test]
fn what_is_forked_reaches_what_the_manifest_names_and_nothing_else() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let (open, closed) = (echo(), echo());
    let opened: Vec<String> = names().iter().map(|name| format!("{name}:{open}")).collect();
    let first = opened.last().expect("localhost is a name of every machine").clone();
    let more = format!(
        "network = {opened:?}\nenv = {{ FIRST = \"{first}\" }}\nscale = {{ min = 2, max = 2 }}\nmemory = \"128MiB\""
    );
    let Some(app) = app("reaches", MODULE, &more) else { return };
    let node = Node::start(&app);
    let told = ask(&node, "talk", &opened.join(" "));
    assert_eq!(told["first"], "ping outside", "while its module was imported");
    for at in &opened {
        assert_eq!(told[at.as_str()], "ping outside", "{at}: {}", node.log_of("snap").join("\n"));
    }
    // Another port of the same name, the node itself, an address that is nobody's: there is no road.
    let others = [
        format!("localhost:{closed}"),
        format!("127.77.0.9:{open}"),
        format!("127.0.0.1:{}", node.admin.port()),
        "192.0.2.1:80".to_owned(),
    ];
    let told = ask(&node, "talk", &others.join(" "));
    for at in &others {
        let came = told[at.as_str()].as_str().expect("a text");
        assert!(came.ends_with("Error"), "{at}: {came}");
    }
    let denied = ask(&node, "fetch", &format!("shop.example:{closed}"));
    let said = denied[format!("shop.example:{closed}")].as_str().expect("a text");
    assert!(said.starts_with("403") && said.contains("is not in `network`"), "{said}");
    wait_until(PATIENCE, "both are counted", || {
        counts(&node).0 > opened.len() as u64 && counts(&node).1 == 1
    });
    // Its successor has doors of its own.
    let old = node.replica("snap").expect("a replica");
    assert!(baton_e2e::process::kill(zygote(&node)), "the zygote is there");
    node.wait_for_replica("snap", old, PATIENCE);
    wait_until(PATIENCE, "answers again", || node.get("/snap/talk").status == 200);
    let told = ask(&node, "talk", &first);
    assert_eq!((&told["first"], &told[first.as_str()]), (&"ping outside".into(), &"ping outside".into()));
}
