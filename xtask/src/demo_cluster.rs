//! `cargo xtask demo-cluster`: two nodes in network namespaces of their own, a NATS server between them, and the boutique laid
//! over both: its front end, checkout and recommendations on one, the rest on the other.
//!
//! Everything is below the target directory and in namespaces that go with Ctrl-C; nothing of the machine's network is touched.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use baton_netns::Net;

use crate::builds::{self, Purpose};
use crate::child::{shown, stop};
use crate::nats;
use crate::project::Project;

const BOUTIQUE: &str = "examples/boutique";
const HOME: &str = "demo-cluster";
/// The functions on node `a`; the others are on node `b`.
const ON_A: [&str; 3] = ["frontend", "checkout", "recommendation"];
const NODES: [&str; 2] = ["a", "b"];
const NATS_PORT: u16 = 4222;
const GATEWAY_PORT: u16 = 8080;
/// How long nodes may take to find each other.
const TOGETHER_WITHIN: Duration = Duration::from_secs(30);
const VERB_LIMIT: Duration = Duration::from_secs(300);

/// Children that end with this, the last first.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        self.0.iter_mut().rev().for_each(stop);
    }
}

/// Builds, starts, and stays until the user ends it.
pub(crate) fn run(project: &Project) -> Result<(), Box<dyn Error>> {
    builds::binaries(project, builds::PRODUCT, Purpose::Use)?;
    builds::guest(project, &project.root().join(BOUTIQUE))?;
    nats::install_missing(project)?;
    let server = nats::find(project).ok_or("nats-server is missing: put it on PATH")?;
    let baton = project.release_binary("baton")?;
    let home = project.target_dir()?.join(HOME);
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;

    let net = Net::star(NODES.len())?;
    let mut children = Children(Vec::new());
    let mut bus = net.hub_command(&server);
    bus.args(["-js", "-a", &net.hub_address().to_string(), "-p", &NATS_PORT.to_string(), "-sd"]);
    bus.arg(home.join("nats")).args(["-l", &home.join("nats.log").display().to_string()]);
    children.0.push(project.runner().start(&mut bus)?);
    let mut commands = Vec::new();
    for (seat, name) in NODES.into_iter().enumerate() {
        let mut node = node(&net, seat, &baton, &home.join(name));
        children.0.push(project.runner().start(&mut node)?);
        commands.push(shown(&node));
    }
    wait_until_together(project, &baton, &home)?;
    let app = laid_out(project, &home)?;
    let mut deploy = verb(&baton, &home.join("a"));
    project.runner().run(deploy.arg("deploy").arg(&app), VERB_LIMIT)?;
    print!("{}", tour(project, &net, &baton, &home));
    let Some(last) = children.0.last_mut() else { return Ok(()) };
    Ok(project.runner().serve(last, commands.last().map_or("baton", String::as_str))?)
}

fn node(net: &Net, seat: usize, baton: &Path, home: &Path) -> Command {
    let address = net.address(seat);
    let mut node = net.command(seat, baton);
    node.args([
        "node",
        "--receipts",
        "--insecure-plaintext",
        "--admin",
        "127.0.0.1:8081",
        "--name",
        NODES[seat],
    ]);
    node.arg("--home").arg(home);
    node.args(["--cluster", &format!("nats://{}:{NATS_PORT}", net.hub_address())]);
    node.args([
        "--cluster-listen",
        &format!("{address}:7070"),
        "--listen",
        &format!("{address}:{GATEWAY_PORT}"),
    ]);
    node
}

fn verb(baton: &Path, home: &Path) -> Command {
    let mut command = Command::new(baton);
    command.env("BATON_HOME", home);
    command
}

fn wait_until_together(project: &Project, baton: &Path, home: &Path) -> Result<(), Box<dyn Error>> {
    let until = Instant::now() + TOGETHER_WITHIN;
    loop {
        // A look that fails is one that comes too early.
        let seen = verb(baton, &home.join("a")).args(["nodes", "--json"]).output()?;
        let is_seen =
            |name: &&str| String::from_utf8_lossy(&seen.stdout).contains(&format!("\"name\":\"{name}\""));
        if NODES.iter().all(is_seen) {
            return Ok(());
        }
        if Instant::now() > until {
            let log = project.shown(home).to_string();
            return Err(format!("the nodes did not find each other in {TOGETHER_WITHIN:?}; see {log}").into());
        }
        project.runner().run(&mut Command::new("true"), VERB_LIMIT)?;
        thread::sleep(Duration::from_millis(200));
    }
}

/// The boutique with a node for each function: the same directory but for the manifest.
fn laid_out(project: &Project, home: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let (from, to) = (project.root().join(BOUTIQUE), home.join("boutique"));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        if entry.file_name() != "baton.toml" {
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    fs::write(to.join("baton.toml"), pinned(&fs::read_to_string(from.join("baton.toml"))?))?;
    Ok(to)
}

fn pinned(manifest: &str) -> String {
    let mut pinned = String::new();
    for line in manifest.lines() {
        pinned.push_str(line);
        pinned.push('\n');
        let function = line.strip_prefix("[functions.").and_then(|rest| rest.strip_suffix(']'));
        if let Some(function) = function {
            let node = if ON_A.contains(&function) { "a" } else { "b" };
            // Writing to a string does not fail.
            let _ = writeln!(pinned, "nodes     = [\"{node}\"]");
        }
    }
    pinned
}

fn tour(project: &Project, net: &Net, baton: &Path, home: &Path) -> String {
    let (baton, home) = (project.shown(baton).to_string(), project.shown(home).to_string());
    let [a, b] = [0, 1].map(|seat| format!("http://{}:{GATEWAY_PORT}", net.address(seat)));
    let inside = [0, 1].map(|seat| format!("ip netns exec {}", net.namespace(seat)));
    format!(
        "
Two nodes, each in a network of its own. {on_a} run on node a, everything else on node b.
Either gateway takes any request:

  {in_a} curl -s -H accept:application/json {a}/          # from node a's own network
  {in_a} curl -s -H accept:application/json {b}/          # the front end is on a, so b hands it on
  {in_b} curl -s {a}/product/mug

In another terminal, in this directory:

  {baton} nodes --home {home}/a
  {baton} cluster status --home {home}/b
  {baton} receipt last --home {home}/a     # which calls crossed, and how many bytes
  {baton} drain b --home {home}/a          # nothing else may run b's functions: they stay; --undo takes it back

Ctrl-C ends both nodes, the server between them and their networks.
",
        on_a = ON_A.join(", "),
        in_a = inside[0],
        in_b = inside[1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_boutique_gets_a_node() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(BOUTIQUE).join("baton.toml");
        let pinned = pinned(&fs::read_to_string(manifest).unwrap());
        let manifest: toml::Table = pinned.parse().unwrap();
        let functions = manifest["functions"].as_table().unwrap();
        let on = |node: &str| {
            let there =
                functions.values().filter(|f| f["nodes"].as_array().unwrap()[0].as_str() == Some(node));
            there.count()
        };
        assert_eq!((on("a"), on("b")), (ON_A.len(), functions.len() - ON_A.len()));
    }
}
