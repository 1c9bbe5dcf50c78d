//! `baton invoke`: one call, its body on standard output.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use baton_control::protocol::{EventReply, INVOCATION_HEADER, PATH_HEADER};
use baton_flow::RECEIPT_HEADER;
use bytes::Bytes;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::talk;
use crate::cli::{InvokeArgs, Target};
use crate::client::{Answer, escaped, full, parse, refusal, request};
use crate::failure::Failure;
use crate::output::{Style, bytes_out, json_out, line_out};

pub(super) fn run(home: &Path, args: &InvokeArgs) -> Result<ExitCode, Failure> {
    let body = match &args.data {
        Some(data) => read(data)?,
        None => Vec::new(),
    };
    let default = if args.data.is_some() { "POST" } else { "GET" };
    let method = args.method.as_deref().unwrap_or(default);
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| {
        Failure::bad_input(format_args!("{method:?} is no method"), "use one such as GET or POST")
    })?;
    let Target { app, function } = &args.target;
    let way = if args.event { "events" } else { "invoke" };
    let path = format!("/v1/{way}/{}/{}", escaped(app), escaped(function));
    let mut request = request(method, &path, full(Bytes::from(body)))?;
    let mut add = |name: &str, value: &str| {
        let wrong = || Failure::bad_input(format_args!("{name}:{value} is no header"), "write NAME:VALUE");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        request.headers_mut().append(name, value);
        Ok::<(), Failure>(())
    };
    if let Some(path) = &args.path {
        add(PATH_HEADER, path)?;
    }
    args.headers.iter().try_for_each(|header| add(&header.name, &header.value))?;
    if args.receipt {
        add(RECEIPT_HEADER, "1")?;
    }
    let answer = talk(home, async |client| client.send(request).await)?;
    if args.event {
        if !answer.status.is_success() {
            return Err(refusal(&answer));
        }
        let EventReply { event } = parse(&answer.body)?;
        if args.output.json {
            json_out(&EventReply { event })?;
        } else {
            line_out(&event)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let code = report(args, &answer)?;
    if args.receipt
        && let Some(invocation) = answer.headers.get(INVOCATION_HEADER).and_then(|value| value.to_str().ok())
    {
        super::receipt::show(home, invocation, args.output.json)?;
    }
    Ok(code)
}

/// The body of a request: text, a file, or standard input.
fn read(data: &OsStr) -> Result<Vec<u8>, Failure> {
    let bytes = data.as_bytes();
    let from = match bytes.strip_prefix(b"@") {
        None => return Ok(bytes.to_vec()),
        Some(from) => OsStr::from_bytes(from),
    };
    let read = if from == "-" {
        let mut body = Vec::new();
        io::stdin().lock().read_to_end(&mut body).map(|_| body)
    } else {
        std::fs::read(from)
    };
    read.map_err(|error| {
        Failure::bad_input(format_args!("cannot read {}: {error}", from.display()), "write --data @FILE")
    })
}

fn report(args: &InvokeArgs, answer: &Answer) -> Result<ExitCode, Failure> {
    let failed = answer.status.as_u16() >= 400;
    let code = if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let invocation = answer.headers.get(INVOCATION_HEADER).map(text);
    if args.output.json {
        let headers: Vec<_> =
            answer.headers.iter().map(|(name, value)| [name.as_str().to_owned(), text(value)]).collect();
        json_out(&json!({
            "status": answer.status.as_u16(),
            "invocation": invocation,
            "headers": headers,
            "body": String::from_utf8_lossy(&answer.body),
        }))?;
        return Ok(code);
    }
    if failed && invocation.is_none() {
        // The node's own words, not the function's.
        return Err(refusal(answer));
    }
    bytes_out(&answer.body)?;
    if failed {
        eprintln!("{} the function answered {}", Style::stderr().red("error:"), answer.status);
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_text_or_a_file() {
        assert_eq!(read(OsStr::new("text")).unwrap(), b"text");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"in the file").unwrap();
        let mut data = std::ffi::OsString::from("@");
        data.push(&file);
        assert_eq!(read(&data).unwrap(), b"in the file");
        assert!(read(OsStr::new("@/no/such/file")).is_err());
    }
}
