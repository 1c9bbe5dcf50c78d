//! The program as a whole, against stand-ins for Baton and for the gRPC yardstick.
//!
//! The stand-ins are this test binary again: shell scripts start the ignored test `stand_in`, which serves until its
//! standard input closes.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const TRIPS: &str = r#"{"p50_ns":2000,"p95_ns":3000,"p99_ns":4000,"mean_ns":2500}"#;

/// A directory with an app and the two stand-ins.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Self(tempfile::tempdir().unwrap());
        let me = std::env::current_exe().unwrap();
        let serve = |how: &str| {
            format!("STAND_IN={how} exec {} stand_in --exact --ignored --nocapture", me.display())
        };
        let stamp = stage.path().join("stamp");
        let artifact = |name: &str| format!("\"{name}\":\"{}\"", stamp.display());
        let artifacts = ["first", "second", "dirty", "dirty-reset"].map(artifact).join(",");
        let built = format!("{{\"app\":\"any\",\"artifacts\":{{{artifacts}}}}}");
        let node = format!("case \"$1\" in build) echo '{built}';; deploy) ;; *) {};; esac", serve("node"));
        stage.script("baton", &node);
        stage.script("stamp", &serve("stamp"));
        stage.script(
            "grpc",
            &format!("[ \"$1\" = hop-client ] && {{ echo '{TRIPS}'; exit 0; }}\n{}", serve("server")),
        );
        fs::write(stage.path().join("baton.toml"), "[app]\nname = \"shop\"\n").unwrap();
        stage
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn json(&self) -> PathBuf {
        self.path().join("report.json")
    }

    /// Installs a stand-in as npm would install `workerd`.
    fn with_workerd(self) -> Self {
        fs::create_dir_all(self.path().join("node_modules/.bin")).unwrap();
        let me = std::env::current_exe().unwrap();
        let serve = format!("STAND_IN=workerd CONFIG=$2 exec {} stand_in --exact --ignored", me.display());
        self.script("node_modules/.bin/workerd", &format!("[ \"$1\" = --version ] || {serve}"));
        self
    }

    fn bench(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton-bench"));
        command.current_dir(self.path());
        command.args(args).arg("--app").arg(self.path()).arg("--json").arg(self.json());
        command.arg("--baton").arg(self.path().join("baton")).arg("--grpc").arg(self.path().join("grpc"));
        command.output().unwrap()
    }

    fn report(&self, args: &[&str]) -> Value {
        let output = self.bench(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("medians of 3 interleaved rounds"));
        serde_json::from_slice(&fs::read(self.json()).unwrap()).unwrap()
    }
}

/// The cases of a report, each as `system case concurrency`, and a check that every row is sound.
fn cases(report: &Value) -> Vec<String> {
    let rows = report["rows"].as_array().unwrap();
    let case = |row: &Value| {
        assert_eq!(row["errors"], 0, "{row}");
        assert_eq!(row["rounds"], 3, "{row}");
        // Who is at rest answers nothing.
        let (figure, least) = if row["case"] == "idle" { ("idle_share", -1.0) } else { ("p50_us", 0.0) };
        assert!(row[figure].as_f64().unwrap() > least, "{row}");
        assert!(row["min"]["rps"].as_f64() <= row["max"]["rps"].as_f64(), "{row}");
        format!(
            "{} {} {}",
            row["system"].as_str().unwrap(),
            row["case"].as_str().unwrap(),
            row["concurrency"]
        )
    };
    rows.iter().map(case).collect()
}

#[test]
fn http_interleaves_both_systems() {
    let report = Stage::new().report(&["http", "--rounds", "3", "--sample-ms", "40"]);
    let expect =
        [1, 16, 64].map(|c| [format!("baton-process hello {c}"), format!("hyper hello {c}")]).concat();
    assert_eq!(cases(&report), expect);
    assert!(report["ratios"]["rps_baton_over_hyper_at_64"].as_f64().unwrap() > 0.0);
    assert!(report["ratios"]["p50_us_baton_minus_hyper_at_1"].is_number());
    assert!(report["rows"][0]["cpu_us_per_req"].as_f64().unwrap() > 0.0);
}

#[test]
fn isolations_are_systems_of_one_run() {
    let args = ["http", "--rounds", "3", "--sample-ms", "40", "--isolation", "process,compartment"];
    let report = Stage::new().report(&args);
    let systems: Vec<String> = cases(&report).into_iter().take(3).collect();
    assert_eq!(systems, ["baton-process hello 1", "baton-compartment hello 1", "hyper hello 1"]);
    for ratio in
        ["rps_baton_over_hyper_at_64", "rps_compartment_over_hyper_at_64", "rps_compartment_over_baton_at_64"]
    {
        assert!(report["ratios"][ratio].as_f64().unwrap() > 0.0, "{ratio}");
    }
    assert_eq!(report["promises"]["rps_compartment_over_hyper_at_64"]["at_least"], 0.65);
}

#[test]
fn boutique_measures_mix_chains_and_open_loop() {
    let report = Stage::new().report(&["boutique", "--quick", "--rounds", "3", "--sample-ms", "50"]);
    let cases = cases(&report);
    assert_eq!(cases.len(), 2 * 13, "{cases:?}");
    for case in ["grpc mix 1", "baton-process mix 64", "grpc checkout 16", "baton-process mix-open-same 64"] {
        assert!(cases.iter().any(|have| have == case), "{case} is missing");
    }
    for ratio in
        ["rps_baton_over_grpc_at_64", "cpu_us_per_req_baton_over_grpc_at_64", "p99_us_baton_over_grpc_at_64"]
    {
        assert!(report["ratios"][ratio].as_f64().unwrap() > 0.0, "{ratio}");
    }
}

#[test]
fn hop_runs_all_yardsticks() {
    let report = Stage::new().report(&["hop", "--quick", "--rounds", "3", "--sample-ms", "20"]);
    let cases = cases(&report);
    // Rings, the socket, the broker and gRPC at four sizes, and the futex at one: the stand-in says nothing of the kernel.
    assert_eq!(cases.len(), 4 * 4 + 1, "{cases:?}");
    let said = report["notes"].to_string();
    assert!(said.contains("baton-process-ebpf is not to be had: the node does not say"), "{said}");
    let row = |system: &str, bytes: u64| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["system"] == system && row["payload_bytes"] == bytes).unwrap().clone()
    };
    assert!(row("uds", 1 << 20)["p50_us"].as_f64() > row("uds", 64)["p50_us"].as_f64());
    assert!(row("futex", 64)["cpu_us_per_req"].as_f64().unwrap() > 0.0);
    assert!(row("broker", 64 << 20)["switches_per_req"].as_f64().unwrap() > 0.5);
    assert!(row("grpc", 64)["cpu_us_per_req"].is_null(), "the stand-in does not tell its own");
    assert_eq!(report["ratios"]["p50_us_baton_1MiB_over_64B"], 1.0);
    assert_eq!(report["ratios"]["p50_us_grpc_over_baton_64B"], 1.0);
}

#[test]
fn hop_between_compartments_is_held_to_processes_and_to_copying() {
    let args = ["hop", "--quick", "--rounds", "3", "--sample-ms", "10", "--isolation", "process,compartment"];
    let report = Stage::new().report(&args);
    let cases = cases(&report);
    for case in ["hop-trust-app", "hop-trust-buffer"] {
        assert!(cases.contains(&format!("baton-compartment {case} 1")), "{cases:?}");
    }
    assert!(cases.contains(&"memcpy hop 1".to_owned()), "{cases:?}");
    let ratios = &report["ratios"];
    assert_eq!(ratios["p50_us_trust_app_1MiB"], 2.0);
    assert_eq!(ratios["p50_us_baton_over_trust_buffer_64B"], 1.0);
    assert!(ratios["p50_us_trust_buffer_over_memcpy_1MiB"].as_f64().unwrap() < 1.0);
    assert_eq!(report["promises"]["p50_us_trust_buffer_over_memcpy_64KiB"], Value::Null);
}

#[test]
fn cold_starts_are_counted_from_the_clocks_of_both_sides() {
    let report = Stage::new().with_workerd().report(&["coldstart", "--quick", "--sample-ms", "40"]);
    let rows = report["rows"].as_array().unwrap();
    let row = |system: &str, case: &str| {
        let is_it = |row: &&Value| row["system"] == system && row["case"] == case;
        rows.iter().find(is_it).unwrap_or_else(|| panic!("{system} {case} is missing"))
    };
    let baton = |case| row("baton-compartment", case);
    let [cold, warm] = ["replica", "replica-warm"].map(|case| baton(case)["p50_us"].as_f64());
    assert_eq!((cold, warm), (Some(3.0), Some(1.0)));
    assert!(baton("cell")["p50_us"].as_f64().unwrap() > 0.0);
    assert_eq!(baton("first-load")["p50_us"], 700.0);
    assert!(row("forkexec", "replica")["p50_us"].as_f64().unwrap() > 100.0);
    assert!(row("workerd", "cell")["p50_us"].as_f64().unwrap() > 100.0);
    assert!(report["ratios"]["p50_us_workerd_over_cell"].as_f64().unwrap() > 0.0);
    for case in ["memory", "memory-used"] {
        assert!(baton(case)["private_kib"].as_f64().unwrap() > 100.0);
    }
    assert_eq!(report["promises"]["p99_us_cell"]["at_most"], 3000.0);
    assert!(report["ratios"]["p50_us_reset_minus_off_at_1"].is_number());
    assert!(report["ratios"]["cpu_us_per_req_reset_minus_off_at_16"].is_number());
}

#[test]
fn soak_keeps_the_books() {
    let stage = Stage::new();
    let args = ["soak", "--minutes", "0.02", "--load", "0.3"];
    let output = stage.bench(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdict: Value = serde_json::from_slice(&fs::read(stage.json()).unwrap()).unwrap();
    assert_eq!((verdict["buffers_left"].as_u64(), verdict["errors"]["status"].as_u64()), (Some(0), Some(0)));
    assert!(verdict["looks"].as_array().unwrap().len() >= 3);
    // Of this app the stand-in says, in its list only, that buffers are out.
    fs::write(stage.path().join("baton.toml"), "[app]\nname = \"leaky\"\n").unwrap();
    let output = stage.bench(&args);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("7 buffers did not come back"));
}

#[test]
fn what_is_not_installed_is_left_out_with_a_note() {
    let stage = Stage::new();
    fs::remove_file(stage.path().join("grpc")).unwrap();
    let report = stage.report(&["http", "--rounds", "3", "--sample-ms", "40"]);
    assert_eq!(report["rows"].as_array().unwrap().len(), 3);
    assert!(report["notes"][0].as_str().unwrap().starts_with("hyper is left out"));
    assert_eq!(report["ratios"].as_object().unwrap().len(), 0);
}

#[test]
#[ignore = "is the stand-in for a node or a server; the other tests start it"]
fn stand_in() {
    let at = std::env::var("CONFIG").map_or_else(|_| "127.0.0.1:0".to_owned(), |config| address_in(&config));
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    // The test harness has begun a line.
    match std::env::var("STAND_IN").unwrap_or_default().as_str() {
        "node" => {
            println!("\n{{\"gateway\":\"{address}\",\"admin\":\"{address}\",\"token\":\"t\",\"apps\":[]}}")
        }
        "stamp" => return println!("\n{}", now_ns()),
        _ => println!("\nlistening {address}"),
    }
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || answer(socket));
        }
    });
    if std::env::var_os("CONFIG").is_some() {
        // Who has started it kills it.
        thread::sleep(Duration::from_secs(20));
    }
    while std::io::stdin().read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
}

/// The address of the first socket in a configuration of `workerd`.
fn address_in(config: &str) -> String {
    let text = fs::read_to_string(config).unwrap();
    text.split("address = \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// Answers every request; bodies of requests arrive with their heads here.
fn answer(mut socket: TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(count) = socket.read(&mut buffer)
        && count > 0
    {
        let text = String::from_utf8_lossy(&buffer[..count]);
        let path = text.split(' ').nth(1).unwrap();
        let body = match path {
            path if path.starts_with("/?") => TRIPS.to_owned(),
            "/coldstart" => stamps(now_ns()),
            "/dirty" => "0".to_owned(),
            "/dirty-reset" => "25".to_owned(),
            "/v1/apps/shop/pool" => r#"{"buffers_out":3,"buffers_in_use":0,"buffers_stashed":3}"#.to_owned(),
            "/v1/apps/leaky/pool" => r#"{"error":"no such place","hint":""}"#.to_owned(),
            "/v1/apps" => apps(),
            _ => r#"<a href="/product/AAA">one</a><a href="/product/BBB">two</a>"#.to_owned(),
        };
        let is_form = text.starts_with("POST") && !path.starts_with("/v1/");
        let status = if is_form { "303 See Other" } else { "200 OK" };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        if socket.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// A compartment that began now, and called another that took 3 µs at first and 1 µs then.
fn stamps(now_ns: u64) -> String {
    let stamps = [
        ("first_ns", 0),
        ("called_ns", 1000),
        ("second_ns", 4000),
        ("called_again_ns", 5000),
        ("second_again_ns", 6000),
    ];
    let stamps = stamps.map(|(name, after)| format!("\"{name}\":{}", now_ns + after));
    format!("{{{}}}", stamps.join(","))
}

/// One app that leaks, and one with two cells, both of which are this process.
fn apps() -> String {
    let me = std::process::id();
    let replicas = json!([{ "cell": 0, "pid": me }, { "cell": 1, "pid": me }]);
    let loaded = json!({ "load_ns": 700_000, "from_snapshot": false });
    let functions = json!([{ "loaded": loaded, "replicas": replicas }]);
    let leaky = json!({ "app": "leaky", "pool": { "buffers_in_use": 6, "orphans": 1 } });
    json!({ "apps": [leaky, { "app": "shop", "functions": functions }] }).to_string()
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
