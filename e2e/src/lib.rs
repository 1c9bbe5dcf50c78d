//! End-to-end tests of the real binary: what they share.
//!
//! A test writes an [`App`] (a manifest beside the guest program of `guests/`), starts a [`Node`] with it, which is a
//! real `baton up` with a state directory and ports of its own, and talks to it as clients do: raw [`http`] over
//! sockets, and the command line. Everything is bounded in time, and nothing survives its test: a node that is dropped
//! is killed by its number, and its replicas die with it.
#![forbid(unsafe_code)]

mod app;
pub mod http;
mod machine;
pub mod members;
mod nats;
mod node;
pub mod process;
mod secrets;

pub use app::App;
pub use baton_netns::Net;
pub use http::{Client, Response};
pub use machine::{
    baton, component, in_cells, in_modules, isolation, kernel_hands_over, machine_runs, memory_is_bounded,
    module_in_c, nodes, python_environment, python_interpreter, sandboxed, source_root, wake,
};
pub use nats::Nats;
pub use node::{Finished, Node, cli, wait_until};
pub use secrets::{contains, files_with, set_secret};

/// Ends a test about replicas that are processes of their own, where functions run otherwise.
#[macro_export]
macro_rules! need_processes {
    () => {
        if $crate::in_cells() {
            eprintln!("SKIP: {}: about functions in processes of their own", module_path!());
            return;
        }
    };
}

/// Ends a test about one node, where functions are on several.
#[macro_export]
macro_rules! need_one_node {
    () => {
        if $crate::nodes() > 1 {
            eprintln!("SKIP: {}: about what one node can tell by itself", module_path!());
            return;
        }
    };
}

/// Ends a test about what modules have not, with the reason, where functions are modules.
#[macro_export]
macro_rules! need_native {
    ($why:literal) => {
        if $crate::in_modules() {
            eprintln!("SKIP: {}: {}", module_path!(), $why);
            return;
        }
    };
}

/// Ends the test loudly where this machine cannot run functions in a sandbox.
#[macro_export]
macro_rules! need_sandbox {
    () => {
        if !$crate::sandboxed() {
            eprintln!(
                "SKIP: {}: this machine cannot isolate processes; `baton doctor` says why",
                module_path!()
            );
            return;
        }
    };
}
