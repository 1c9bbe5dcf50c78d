//! `cargo xtask demo`: builds the node and the boutique, starts both, and says what to try once the shop is open.
//!
//! `baton up` runs in the foreground. Its output passes through here line by line, only to see the line with the
//! shop's address; Ctrl-C goes on to the node, which drains and ends, and then this task ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::{io, thread};

use clap::Args;

use crate::builds::{self, BuildError};
use crate::child::shown;
use crate::project::Project;

/// The app that is shown.
const BOUTIQUE: &str = "examples/boutique";

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The gateway's port instead of 8080; 0 takes a free one
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

/// Builds, starts, and stays until the node ends.
pub(crate) fn run(project: &Project, options: &Options) -> Result<(), BuildError> {
    builds::binaries(project, &["baton"])?;
    builds::guest(project, &project.root().join(BOUTIQUE))?;

    let baton = project.release_binary("baton").map_err(BuildError::Metadata)?;
    let mut command = Command::new(&baton);
    command.args(["up", BOUTIQUE]).current_dir(project.root()).stdout(Stdio::piped());
    if let Some(port) = options.port {
        command.args(["--port", &port.to_string()]);
    }
    let mut child = project.runner().start(&mut command).map_err(BuildError::Run)?;
    let baton = project.shown(&baton).to_string();
    let reader = child
        .stdout
        .take()
        .map(|output| thread::spawn(move || forward(output, io::stdout(), |url| tour(&baton, url))));
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
fn tour(baton: &str, url: &str) -> String {
    format!(
        "
The shop is open: {url}/ in a browser, or its six chains by curl:

  curl -s -H 'accept: application/json' {url}/                      # index
  curl -s -d currency_code=EUR {url}/setCurrency                    # setCurrency
  curl -s -H 'accept: application/json' {url}/product/OLJCESPC7Z    # product
  curl -s -c /tmp/jar -b /tmp/jar -d product_id=OLJCESPC7Z -d quantity=2 {url}/cart          # addToCart
  curl -s -c /tmp/jar -b /tmp/jar -H 'accept: application/json' {url}/cart                   # viewCart
  curl -s -c /tmp/jar -b /tmp/jar -d email=ada@example.org -d credit_card_number=4432801561520454 {url}/cart/checkout  # checkout

In another terminal:

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
        let tour = tour("target/release/baton", "http://h:1");
        for chain in ["index", "setCurrency", "product", "addToCart", "viewCart", "checkout"] {
            assert!(tour.contains(&format!("# {chain}\n")), "{chain}");
        }
    }
}
