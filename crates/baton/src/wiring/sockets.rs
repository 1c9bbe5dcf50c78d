//! The admin API's two doors.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::failure::Failure;

pub(super) fn tcp(address: SocketAddr) -> Result<TcpListener, Failure> {
    listener(address, ("the admin API", "--admin"))
}

/// For clients of AWS Lambda.
pub(super) fn lambda(address: SocketAddr) -> Result<TcpListener, Failure> {
    listener(address, ("the Lambda API", "--lambda"))
}

fn listener(address: SocketAddr, (what, option): (&str, &str)) -> Result<TcpListener, Failure> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error: io::Error| {
        Failure::failed(
            format_args!("{what} cannot listen on {address}: {error}"),
            format!("choose another address with {option} (port 0 takes any free one)"),
        )
    })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::failed(format_args!("the admin API has no address: {error}"), ""))
}

/// Listens at a path that only this user may open. The caller holds the directory's lock, so what an earlier node
/// left there is nobody's.
pub(super) fn unix(path: &Path) -> Result<UnixListener, Failure> {
    let new = path.with_extension("new");
    let listen = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        // It gets its name only when nobody else may open it.
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        fs::rename(&new, path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error: io::Error| {
        Failure::failed(
            format_args!("the admin API cannot listen at {}: {error}", path.display()),
            "set BATON_HOME to a directory of this user on a local file system",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_private_and_replaces_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(unix(&path).unwrap());
        assert!(path.exists(), "a killed node leaves its socket");
        let _listener = unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = tcp(address(&first).unwrap()).unwrap_err();
        assert!(format!("{error:?}").contains("--admin"));
    }
}
