//! `cargo xtask demo`: builds the node and the boutique, starts both, and says what to try once the shop is open.
//!
//! The node keeps its state below the target directory, apart from what the user has deployed.
//!
//! `baton up` runs in the foreground. Its output passes through here line by line, only to see the line with the
//! shop's address; Ctrl-C goes on to the node, which drains and ends, and then this task ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::{io, thread};

use clap::Args;

use crate::builds::{self, BuildError, Purpose};
use crate::child::shown;
use crate::project::Project;

/// The app that is shown.
const BOUTIQUE: &str = "examples/boutique";
/// The node's state directory, below the target directory.
const HOME: &str = "demo";

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The gateway's port instead of 8080; 0 takes a free one
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

/// Builds, starts, and stays until the node ends.
pub(crate) fn run(project: &Project, options: &Options) -> Result<(), BuildError> {
    builds::binaries(project, builds::PRODUCT, Purpose::Use)?;
    builds::guest(project, &project.root().join(BOUTIQUE))?;

    let baton = project.release_binary("baton").map_err(BuildError::Metadata)?;
    let mut command = Command::new(&baton);
    let home = project.target_dir().map_err(BuildError::Metadata)?.join(HOME);
    command
        .args(["up", BOUTIQUE])
        .current_dir(project.root())
        .env("BATON_HOME", &home)
        .stdout(Stdio::piped());
    if let Some(port) = options.port {
        command.args(["--port", &port.to_string()]);
    }
    let mut child = project.runner().start(&mut command).map_err(BuildError::Run)?;
    let (baton, home) = (project.shown(&baton).to_string(), project.shown(&home).to_string());
    let reader = child
        .stdout
        .take()
        .map(|output| thread::spawn(move || forward(output, io::stdout(), |url| tour(&baton, &home, url))));
    let ended = project.runner().serve(&mut child, &shown(&command));
    if let Some(reader) = reader {
        // An error here is a closed terminal; the child's own end is what counts.
        let _ = reader.join();
    }
    ended.map_err(BuildError::Run)
}

/// Copies lines; after the first one with an address, writes what `tour` makes of that.
fn forward(input: impl Read, mut output: impl Write, tour: impl FnOnce(&str) -> String) -> io::Result<()> {
    let mut tour = Some(tour);
    for line in BufReader::new(input).lines() {
        let line = line?;
        writeln!(output, "{line}")?;
        if let Some(url) = address(&line)
            && let Some(tour) = tour.take()
        {
            output.write_all(tour(url).as_bytes())?;
        }
        output.flush()?;
    }
    Ok(())
}

/// The first `http://host:port` in a line.
fn address(line: &str) -> Option<&str> {
    let start = line.find("http://")?;
    let rest = line.get(start..)?;
    let host = rest.get("http://".len()..)?;
    let end = host.find(|c: char| !(c.is_ascii_alphanumeric() || ".:[]-".contains(c))).unwrap_or(host.len());
    let url = rest.get(.."http://".len() + end)?;
    (end > 0).then(|| url.trim_end_matches(['.', ':']))
}

/// What to try: the shop in a browser, its six chains by curl, and what the node tells about itself.
fn tour(baton: &str, home: &str, url: &str) -> String {
    format!(
        "
The shop is open: {url}/ in a browser, or its six chains by curl:

  curl -s -b shop_session=demo-session -H accept:application/json {url}/                # index
  curl -i -b shop_session=demo-session -d currency_code=JPY {url}/currency              # setCurrency
  curl -s -b shop_session=demo-session -H accept:application/json {url}/product/mug     # product
  curl -i -b shop_session=demo-session -d product_id=mug -d quantity=2 {url}/cart       # addToCart
  curl -s -b shop_session=demo-session -H accept:application/json {url}/cart            # viewCart
  curl -s -b shop_session=demo-session -H accept:application/json {url}/checkout \\
    -d email=ada@example.org -d street_address='1600 Relay Road' -d city='Mountain View' -d state=CA \\
    -d zip_code=94043 -d country='United States' -d credit_card_number=4432801561520454 -d credit_card_cvv=672 \\
    -d credit_card_expiration_month=1 -d credit_card_expiration_year=2039               # checkout

In another terminal, in this directory:

  export BATON_HOME={home}
  {baton} ps            # functions and their replicas
  {baton} caps ls       # who can read or write which range right now
  {baton} logs -f       # what the functions say

Ctrl-C drains the node and ends it.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn check(line: &str, expect: Option<&str>) {
        assert_eq!(address(line), expect, "{line}");
    }

    #[test]
    fn addresses_are_found_in_lines() {
        check("ready on http://127.0.0.1:8080/ (admin …)", Some("http://127.0.0.1:8080"));
        check("{\"gateway\":\"http://[::1]:1\"}", Some("http://[::1]:1"));
        check("open http://localhost:9.", Some("http://localhost:9"));
        check("http:// nothing", None);
        check("building", None);
    }

    #[test]
    fn the_tour_comes_once_and_after_the_address() {
        let mut output = Vec::new();
        let input = "building\nready: http://h:1/\nlog http://h:2/\n";
        forward(input.as_bytes(), &mut output, |url| format!("try {url}\n")).unwrap();
        let expect = "building\nready: http://h:1/\ntry http://h:1\nlog http://h:2/\n";
        assert_eq!(String::from_utf8(output).unwrap(), expect);
    }

    #[test]
    fn the_tour_names_all_six_chains() {
        let tour = tour("target/release/baton", "target/demo", "http://h:1");
        for chain in ["index", "setCurrency", "product", "addToCart", "viewCart", "checkout"] {
            assert!(tour.contains(&format!(" # {chain}\n")), "{chain}");
        }
    }

    #[test]
    fn the_tour_visits_routes_that_the_boutique_has() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(BOUTIQUE).join("baton.toml");
        let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
        let routes = manifest["routes"].as_array().unwrap();
        let paths: Vec<_> = routes.iter().map(|route| route["path"].as_str().unwrap()).collect();
        let tour = tour("baton", "home", "http://h:1");
        let visited = tour.lines().filter(|line| line.trim_start().starts_with("curl"));
        for line in visited {
            let path = line.split_once("http://h:1").unwrap().1.split(' ').next().unwrap();
            let path = path.replace("/product/mug", "/product/{id}");
            assert!(paths.contains(&path.as_str()), "{line}");
        }
    }
}
