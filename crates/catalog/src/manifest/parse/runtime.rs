//! `runtime` and the keys that belong to it.

use super::super::fault::{ManifestFault, RuntimeFault};
use super::super::read::{Located, Placed, Reader, wrong_type};
use super::super::{Build, Http, Lambda, Listen, Python, Runtime};
use super::build;
use crate::names::FunctionName;
use crate::words::RuntimeWord;

const LAMBDA_KEYS: &[&str] = &["runtime", "aws_limits"];

/// Every key that belongs to some runtime, with the runtimes that have it.
const KEYS: &[(&str, &[RuntimeWord])] = &[
    ("handler", &[RuntimeWord::Python, RuntimeWord::Lambda]),
    ("python", &[RuntimeWord::Python, RuntimeWord::Http, RuntimeWord::Lambda]),
    ("snapshot", &[RuntimeWord::Python]),
    ("command", &[RuntimeWord::Http]),
    ("port", &[RuntimeWord::Http]),
    ("socket", &[RuntimeWord::Http]),
    ("ready", &[RuntimeWord::Http]),
    ("ports", &[RuntimeWord::Http]),
    ("lambda", &[RuntimeWord::Lambda]),
];

/// What a function is written for, and where its executable or code comes from.
pub(super) fn runtime(name: &FunctionName, table: &Reader<'_, '_>) -> Result<(Runtime, Build), Located> {
    let word: RuntimeWord = table.word("runtime")?;
    for (key, owners) in KEYS {
        if let Some(value) = table.get(key).filter(|_| !owners.contains(&word)) {
            let fault = RuntimeFault::NotOfRuntime { key, runtime: word.as_str(), owners };
            return Err(Located::new(value.span(), fault.into()));
        }
    }
    let runtime = match word {
        RuntimeWord::Native => return Ok((Runtime::Native, build(name, table)?)),
        RuntimeWord::Python => Runtime::Python(python(table)?),
        RuntimeWord::Http => Runtime::Http(http(table)?),
        RuntimeWord::Lambda => Runtime::Lambda(lambda(table)?),
    };
    let has_build = table.get("build").is_some() || table.get("artifact").is_some();
    let build = if has_build { build(name, table)? } else { Build::Files };
    Ok((runtime, build))
}

fn owned(text: Option<Placed<'_>>) -> Option<String> {
    text.map(|(_, text)| text.to_owned())
}

fn python(table: &Reader<'_, '_>) -> Result<Python, Located> {
    Ok(Python {
        handler: owned(table.text("handler")?),
        python: table.text("python")?.map(|(_, path)| path.into()),
        snapshot: table.bool("snapshot")?.unwrap_or(true),
    })
}

fn http(table: &Reader<'_, '_>) -> Result<Http, Located> {
    let command = table.texts("command")?;
    let command = table.required(command, "command", "command = [\"PROGRAM\", \"ARGUMENT\"]")?;
    let socket = table.text("socket")?;
    let port = port(table)?;
    let listen = match (port, socket) {
        (Some(_), Some((span, _))) => {
            return Err(Located::new(span, RuntimeFault::PortAndSocket.into()));
        }
        (port, None) => {
            Listen::Port(table.required(port, "port", "port = 8000, or socket = \"/tmp/NAME.sock\"")?)
        }
        (None, Some((_, path))) => Listen::Socket(path.into()),
    };
    Ok(Http {
        command: command.into_iter().map(|(_, word)| word.to_owned()).collect(),
        listen,
        ready: owned(table.text("ready")?),
        python: table.text("python")?.map(|(_, path)| path.into()),
        ports: ports(table)?,
    })
}

fn ports(table: &Reader<'_, '_>) -> Result<Option<Vec<u16>>, Located> {
    let expected = "a list of ports such as [9000]";
    let Some(items) = table.list("ports", expected)? else { return Ok(None) };
    let port = |item: &toml::Spanned<toml::de::DeValue<'_>>| {
        let whole = item.get_ref().as_integer();
        let number = whole.and_then(|whole| u16::from_str_radix(whole.as_str(), whole.radix()).ok());
        number.ok_or_else(|| wrong_type("ports", expected, item))
    };
    items.iter().map(port).collect::<Result<_, _>>().map(Some)
}

fn port(table: &Reader<'_, '_>) -> Result<Option<u16>, Located> {
    let Some(number) = table.count("port")? else { return Ok(None) };
    u16::try_from(number).map(Some).map_err(|_| {
        let span = table.get("port").map_or_else(|| table.span(), toml::Spanned::span);
        let (min, max) = (crate::limits::PORT_MIN.to_string(), u16::MAX.to_string());
        Located::new(span, ManifestFault::OutOfRange { key: "port", value: number.to_string(), min, max })
    })
}

fn lambda(table: &Reader<'_, '_>) -> Result<Lambda, Located> {
    let example = "lambda = { runtime = \"python3.11\" }";
    let inner = table.required(table.table("lambda", LAMBDA_KEYS)?, "lambda", example)?;
    inner.required(inner.get("runtime"), "runtime", "runtime = \"python3.11\"")?;
    Ok(Lambda {
        handler: owned(table.text("handler")?),
        runtime: inner.word("runtime")?,
        aws_limits: inner.bool("aws_limits")?.unwrap_or_default(),
        python: table.text("python")?.map(|(_, path)| path.into()),
    })
}
