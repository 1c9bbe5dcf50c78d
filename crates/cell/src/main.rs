//! `baton-cell`: the process that holds functions as compartments. A node starts it.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    baton_cell::template::run()
}
