//! nginx with a configuration of our own, in the foreground.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::locate;
use crate::proc::{Server, ServerSpec};

use super::{Setup, SystemError, is_there};

const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// It says that it is ready where it says what is wrong.
const BOTH_OUTPUTS: &str = "exec \"$0\" \"$@\" 2>&1";

/// Starts nginx with this configuration, which is kept in `state`, and waits until it listens at `at`.
///
/// # Errors
/// It is not installed, or does not start.
pub(crate) fn start_nginx(
    setup: &Setup,
    name: &str,
    state: &Path,
    configuration: &str,
    at: SocketAddr,
) -> Result<Server, SystemError> {
    let program = locate::nginx();
    if !is_there(&program) {
        return Err(SystemError::Missing(program));
    }
    let config = state.join("nginx.conf");
    fs::write(&config, configuration).map_err(SystemError::State)?;
    let mut args: Vec<OsString> = ["-c", BOTH_OUTPUTS].map(OsString::from).to_vec();
    args.extend([program.into(), "-e".into(), "stderr".into(), "-c".into(), config.into()]);
    let spec = ServerSpec {
        name: format!("nginx of {name}"),
        program: "sh".into(),
        args,
        env: Vec::new(),
        core: Some(setup.server_core),
        ready_within: LISTENS_WITHIN,
    };
    let (server, ()) = Server::start(&spec, |line| line.contains("start worker process").then_some(()))?;
    // It says so before it listens.
    let until = Instant::now() + LISTENS_WITHIN;
    while TcpStream::connect_timeout(&at, LISTENS_WITHIN).is_err() && Instant::now() < until {
        thread::sleep(LOOK);
    }
    Ok(server)
}

/// Addresses that were free a moment ago; whoever takes one meanwhile has the server say so.
pub(crate) fn free_addresses<const COUNT: usize>() -> io::Result<[SocketAddr; COUNT]> {
    let mut listeners = Vec::with_capacity(COUNT);
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}
