//! workerd, of Cloudflare Workers.

use super::{Fleet, Setup, SystemError, start_server};
use crate::locate;

/// Starts workerd with a worker that says hello.
pub fn start_workerd(setup: &Setup, system: &str) -> Result<Fleet, SystemError> {
    let program = locate::npm_program("workerd");
    let state = tempfile::tempdir().map_err(SystemError::State)?;
    for (name, text) in [("config.capnp", WORKERD_CONFIG), ("worker.js", WORKER)] {
        std::fs::write(state.path().join(name), text).map_err(SystemError::State)?;
    }
    let args = ["serve".into(), state.path().join("config.capnp").into(), "--control-fd=1".into()];
    let mut fleet = start_server(setup, system, &program, args.to_vec())?;
    fleet.state = Some(state);
    Ok(fleet)
}

const WORKERD_CONFIG: &str = "using Workerd = import \"/workerd/workerd.capnp\";
const config :Workerd.Config = (
  services = [(name = \"main\", worker = .hello)],
  sockets = [(name = \"http\", address = \"127.0.0.1:0\", http = (), service = \"main\")],
);
const hello :Workerd.Worker = (
  modules = [(name = \"worker\", esModule = embed \"worker.js\")],
  compatibilityDate = \"2025-01-01\",
);
";
const WORKER: &str = "export default {
  fetch() {
    return new Response(\"hello, world\\n\", { headers: { \"content-type\": \"text/plain\" } });
  },
};
";
