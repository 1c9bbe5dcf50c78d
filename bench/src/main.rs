//! `baton-bench`, which `baton bench` executes.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    baton_bench::cli::main()
}
