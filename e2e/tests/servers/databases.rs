//! Connections of functions to what the manifest names: a real PostgreSQL, the proxy, and everything else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baton_e2e::{Node, need_processes, need_sandbox, python_environment, source_root, wait_until};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::REST;
use super::places::Server;

/// The address of the database: nobody else's, and none that a program inside has by itself.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 45, 6, 7);
/// Whoever runs the database where the test is run by root: it refuses to be root.
const NOBODY: u32 = 65534;

/// A server of PostgreSQL.
struct Postgres {
    child: Child,
    port: u16,
    _directory: TempDir,
}

fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    versions.pop().filter(|bin| bin.join("initdb").is_file())
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command
}

impl Postgres {
    fn start() -> Option<Postgres> {
        let Some(programs) = programs() else {
            println!("SKIP: PostgreSQL is not there (Debian's package `postgresql`)");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("baton-postgres-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = directory.path().join("data");
        fs::create_dir(&place).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = as_nobody(&programs.join("initdb"))
            .args(["--username=baton", "--auth=trust", "--no-sync", "--no-instructions", "--locale=C", "-D"])
            .arg(&place)
            .status()
            .unwrap();
        assert!(made.success(), "initdb");
        let port = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
        let child = as_nobody(&programs.join("postgres"))
            .arg("-D")
            .arg(&place)
            .args([
                "-c",
                "fsync=off",
                "-c",
                "unix_socket_directories=",
                "-c",
                &format!("listen_addresses={HOST}"),
                "-p",
                &port.to_string(),
            ])
            .spawn()
            .unwrap();
        let server = Postgres { child, port, _directory: directory };
        wait_until(Duration::from_secs(30), "the database is up", || {
            std::net::TcpStream::connect((HOST, port)).is_ok()
        });
        Some(server)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate end, its processes included.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

fn server(network: &[&str], database: &str) -> Option<Server> {
    let venv = python_environment()?;
    let lines = format!(
        "command = [\"python3\", \"database.py\"]\nport = 8000\npython = \"{}\"\nnetwork = {network:?}\nenv = {{ DATABASE = \"{database}\" }}\nscale = {{ min = 1, max = 1, concurrency = 4 }}",
        venv.display()
    );
    Some(Server::of("database", &lines, |files| {
        fs::copy(source_root().join("e2e/servers/flask/database.py"), files.join("database.py")).unwrap();
    }))
}

fn network(node: &Node) -> (u64, u64) {
    let counts = &node.function("web")["network"];
    (counts["answered"].as_u64().unwrap(), counts["denied"].as_u64().unwrap())
}

#[test]
fn a_function_talks_to_postgresql() {
    need_processes!();
    need_sandbox!();
    let Some(postgres) = Postgres::start() else { return };
    let at = format!("{HOST}:{}", postgres.port);
    let Some(server) = server(&[&at], &at) else { return };
    let node = server.start();
    let answer = node.get("/sum");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "5050 PostgreSQL\n"),
        "{}",
        node.log_of("web").join("\n")
    );
    assert_eq!(node.get("/large").text(), "8000000\n");
    assert_eq!(network(&node), (2, 0));
    node.wait_at_rest(REST);
}

#[test]
fn everything_that_the_manifest_does_not_name_is_closed() {
    need_processes!();
    need_sandbox!();
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let (open, closed) = (listener.local_addr().unwrap(), TcpListener::bind((HOST, 0)).unwrap());
    let accepting = std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut asked = [0u8; 1024];
            if stream.read(&mut asked).unwrap_or(0) > 0 {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\noutside\n")
                    .unwrap();
            }
        }
    });
    let Some(server) = server(&[&open.to_string()], "") else { return };
    let node = server.start();
    assert_eq!(node.get(&format!("/try?at={open}")).text(), "open\n");
    // By the proxy, which HTTP clients find by themselves.
    let got = node.get(&format!("/get?url=http://{open}/x"));
    assert_eq!((got.status, got.text().as_str()), (200, "outside\n"));
    let other = closed.local_addr().unwrap();
    // There is no road, whatever listens outside: the node itself, the database's neighbours, the internet.
    for at in [other.to_string(), node.gateway.to_string(), node.admin.to_string(), "192.0.2.1:80".to_owned()]
    {
        let tried = node.get(&format!("/try?at={at}"));
        assert!(tried.status == 500, "{at}: {}", tried.text());
    }
    let denied = node.get(&format!("/get?url=http://{other}/x"));
    assert!(denied.status == 403 && denied.text().contains("is not in `network`"), "{}", denied.text());
    wait_until(REST, "the refusal is counted", || network(&node).1 == 1);
    let logs = node.cli(["logs", node.app()]).stdout;
    assert!(logs.contains(&format!("{other} is not in `network` of function `web`")), "{logs}");
    drop(std::net::TcpStream::connect(open));
    accepting.join().unwrap();
    node.wait_at_rest(REST);
}
