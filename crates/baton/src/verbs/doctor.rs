//! `baton doctor`: what this machine offers, and which isolation settings follow.

use baton_control::Programs;
use baton_replica::{Capability, Machine, interpreter, probe, template};
use serde_json::{Value, json};

use crate::cli::JsonArgs;
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out, print_table, table};

/// An isolation setting on this machine.
struct Setting {
    name: &'static str,
    /// Whether this node can run functions with it.
    available: bool,
    /// Why, or what it would need.
    why: String,
}

pub(super) fn run(args: &JsonArgs) -> Result<(), Failure> {
    let machine = probe();
    let settings = settings(&machine);
    if args.json {
        return json_out(&object(&machine, &settings));
    }
    let style = Style::stdout();
    line_out(&format!("Linux {}, {} cores", machine.kernel, machine.cores))?;
    line_out("")?;
    let mark = |available: bool| if available { "yes" } else { "no" };
    let rows = machine.capabilities().map(|c| {
        vec![mark(c.available).to_owned(), c.name.to_owned(), c.detail.clone(), c.needed_for.to_owned()]
    });
    print_table(&table(&["", "WHAT", "FOUND", "NEEDED FOR"], rows))?;
    line_out("")?;
    for Setting { name, available, why } in &settings {
        let word = if *available { style.green("available  ") } else { style.yellow("unavailable") };
        line_out(&format!("{word}  isolation = \"{name}\": {why}"))?;
    }
    let Waking { found, auto } =
        waking(settings.iter().any(|setting| setting.name == "process" && setting.available));
    let (word, why) = match &found {
        Ok(()) => {
            (style.green("available  "), "a program in the kernel hands payloads over between processes")
        }
        Err(why) => (style.yellow("unavailable"), why.as_str()),
    };
    line_out(&format!("{word}  wake = \"ebpf\": {why}; {auto}"))?;
    for Runtime { name, found } in &runtimes() {
        let (word, why) = match found {
            Ok(why) => (style.green("available  "), why),
            Err(why) => (style.yellow("unavailable"), why),
        };
        line_out(&format!("{word}  {name}: {why}"))?;
    }
    let missing: Vec<&Capability> = machine.capabilities().filter(|c| !c.available).collect();
    if !missing.is_empty() {
        line_out("")?;
    }
    for Capability { name, remedy, .. } in missing {
        line_out(&format!("{}: {remedy}", style.blue(name)))?;
    }
    Ok(())
}

/// Who can hand over between processes here.
struct Waking {
    found: Result<(), String>,
    /// What `auto` comes to.
    auto: &'static str,
}

fn waking(processes: bool) -> Waking {
    let needs = || Err("it needs what process isolation needs".to_owned());
    let found = if processes { baton_flow::wake::kernel() } else { needs() };
    let auto = match found {
        Ok(()) => "\"auto\" is \"ebpf\" for processes with trust = \"buffer\", \"ring\" otherwise",
        Err(_) => "\"auto\" is \"ring\"",
    };
    Waking { found, auto }
}

/// A program that runs functions in a language of its own.
struct Runtime {
    name: &'static str,
    /// Where it is, or why it is not.
    found: Result<String, String>,
}

fn runtimes() -> [Runtime; 2] {
    let python = interpreter::python(None);
    let python = python.map(|found| found.path.display().to_string()).map_err(|error| error.to_string());
    let node = interpreter::which("node".as_ref());
    let absent = "it is not in PATH; functions for Node.js need it".to_owned();
    let node = node.map(|found| found.display().to_string()).ok_or(absent);
    [Runtime { name: "python3", found: python }, Runtime { name: "node", found: node }]
}

fn settings(machine: &Machine) -> [Setting; 3] {
    let process = machine.can_isolate_processes();
    let mut missing: Vec<&str> = machine.missing_for_cells().map(|c| c.name).collect();
    let program = template::program();
    if program.is_err() {
        missing.push("the program baton-cell beside baton");
    }
    if !process {
        missing.push("what process isolation needs");
    }
    [
        Setting {
            name: "process",
            available: process,
            why: if process {
                "namespaces, system-call filters and sealed memory work".to_owned()
            } else {
                "this machine forbids part of the sandbox; `--insecure-no-sandbox` runs functions without one"
                    .to_owned()
            },
        },
        Setting {
            name: "compartment",
            available: missing.is_empty(),
            why: match program {
                Ok(program) if missing.is_empty() => {
                    format!("memory keys and system-call dispatch work, cells run {}", program.display())
                }
                _ => format!("it needs {}; use fallback = \"process\"", missing.join(", ")),
            },
        },
        wasm(&missing),
    ]
}

/// The same as compartments, and two programs more.
fn wasm(missing: &[&str]) -> Setting {
    let why = match Programs::of_this_node().check() {
        _ if !missing.is_empty() => format!("it needs {}", missing.join(", ")),
        Err(error) => error.to_string(),
        Ok(()) => format!("cells run modules, compiled for engine {}", baton_control::WASM_ENGINE),
    };
    let available = missing.is_empty() && Programs::of_this_node().check().is_ok();
    Setting { name: "wasm", available, why }
}

fn object(machine: &Machine, settings: &[Setting]) -> Value {
    let capabilities: Vec<_> = machine
        .capabilities()
        .map(|c| {
            json!({
                "name": c.name,
                "available": c.available,
                "detail": c.detail,
                "needed_for": c.needed_for,
                "remedy": c.remedy,
            })
        })
        .collect();
    let isolation: Vec<_> = settings
        .iter()
        .map(|s| json!({ "isolation": s.name, "available": s.available, "why": s.why }))
        .collect();
    let Waking { found, auto } = waking(machine.can_isolate_processes());
    let wake = json!({
        "ebpf": found.is_ok(),
        "why": found.err().unwrap_or_else(|| "a program in the kernel can be loaded".to_owned()),
        "auto": auto,
    });
    json!({
        "kernel": machine.kernel,
        "cores": machine.cores,
        "capabilities": capabilities,
        "isolation": isolation,
        "wake": wake,
        "runtimes": runtimes().map(|Runtime { name, found }| {
            let available = found.is_ok();
            json!({ "name": name, "available": available, "why": found.unwrap_or_else(|why| why) })
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_named_with_a_reason() {
        let machine = probe();
        let object = object(&machine, &settings(&machine));
        let isolation = object["isolation"].as_array().unwrap();
        let names: Vec<_> = isolation.iter().map(|row| row["isolation"].as_str().unwrap()).collect();
        assert_eq!(names, ["process", "compartment", "wasm"]);
        assert!(isolation.iter().all(|row| !row["why"].as_str().unwrap().is_empty()));
        let wake = &object["wake"];
        let auto = wake["auto"].as_str().unwrap();
        assert_eq!(wake["ebpf"].as_bool().unwrap(), auto.contains("\"ebpf\""), "{wake}");
        assert!(!wake["why"].as_str().unwrap().is_empty());
        assert!(object["capabilities"].as_array().unwrap().len() > 10);
    }
}
