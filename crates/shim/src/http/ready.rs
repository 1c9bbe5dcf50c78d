//! Whether the program is ready. The SDK does not serve yet, so this waits as ordinary programs do.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use super::head;
use crate::io::Address;

/// Time between two looks: short at first, as most programs are up soon.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long one answer of the ready path may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Longest head of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why the program counts as not ready.
#[derive(Debug)]
pub(crate) struct NotReady {
    address: Address,
    path: Option<String>,
    within: Duration,
    last: Look,
}

/// What one look came to.
#[derive(Debug)]
enum Look {
    /// Nobody accepts connections.
    Refused(io::Error),
    /// The connection broke, or stayed silent.
    Silent(io::Error),
    /// It answered with this status.
    Status(u16),
    /// What it said is no HTTP.
    Garbage,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotReady { address, path, within, last } = self;
        write!(f, "the program was not ready within {within:?}: ")?;
        let path = path.as_deref().unwrap_or_default();
        match last {
            Look::Refused(error) => write!(
                f,
                "nothing accepts connections at {address} ({error}); let it listen there, or say in the manifest where it does"
            ),
            Look::Silent(error) => write!(f, "GET {path} at {address} got no answer ({error})"),
            Look::Status(status) => {
                write!(f, "GET {path} at {address} answers with {status}, not with less than 400")
            }
            Look::Garbage => write!(f, "what answers GET {path} at {address} does not speak HTTP"),
        }
    }
}

/// Waits until the program accepts connections, or answers `path` well.
pub(crate) fn wait(address: &Address, path: Option<&str>, within: Duration) -> Result<(), NotReady> {
    let until = Instant::now() + within;
    let mut pause = PAUSE_FIRST;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let last = match look(address, path, left.min(ANSWER_WITHIN)) {
            Ok(()) => return Ok(()),
            Err(last) => last,
        };
        if Instant::now() + pause >= until {
            let path = path.map(str::to_owned);
            return Err(NotReady { address: address.clone(), path, within, last });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn look(address: &Address, path: Option<&str>, patience: Duration) -> Result<(), Look> {
    let stream = address.connect().map_err(Look::Refused)?;
    let Some(path) = path else { return Ok(()) };
    // A time-out of nothing is refused by the system.
    stream.set_patience(patience.max(Duration::from_millis(1))).map_err(Look::Silent)?;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    (&stream).write_all(ask.as_bytes()).map_err(Look::Silent)?;
    let mut said = Vec::new();
    let mut piece = [0u8; 1024];
    loop {
        match (&stream).read(&mut piece) {
            Ok(0) => return Err(Look::Silent(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => said.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Look::Silent(error)),
        }
        match head::status_of(&said) {
            Ok(Some(status)) if (200..400).contains(&status) => return Ok(()),
            Ok(Some(status)) => return Err(Look::Status(status)),
            Ok(None) if said.len() < HEAD_BYTES_MAX => {}
            Ok(None) | Err(()) => return Err(Look::Garbage),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers as many connections as there are answers.
    fn server(answers: &'static [&'static str]) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0u8; 1024];
                let _ = stream.read(&mut asked);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Address::Port(port)
    }

    #[test]
    fn a_program_is_ready_once_it_answers_well() {
        let answers = &["HTTP/1.1 503 Not yet\r\n\r\n", "nonsense", "HTTP/1.0 204 Yes\r\n\r\n"];
        wait(&server(answers), Some("/up"), Duration::from_secs(5)).unwrap();
        wait(&server(&[""]), None, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn one_that_does_not_says_what_was_seen_last() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let told = wait(&Address::Port(port), None, Duration::from_millis(20)).unwrap_err().to_string();
        assert!(told.contains("nothing accepts connections at 127.0.0.1:"), "{told}");
        let path = Address::Path("/nowhere/x.sock".into());
        assert!(wait(&path, None, Duration::ZERO).unwrap_err().to_string().contains("/nowhere/x.sock"));
        let within = Duration::from_millis(300);
        let said = |answers| wait(&server(answers), Some("/up"), within).unwrap_err().to_string();
        assert!(said(&["HTTP/1.1 500 Oh\r\n\r\n"; 64]).contains("answers with 500"));
        assert!(said(&["220 smtp.example ESMTP\r\n"; 64]).contains("does not speak HTTP"));
        assert!(said(&[""; 64]).contains("got no answer"));
    }
}
