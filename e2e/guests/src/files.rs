//! A function with files: says what it read before its first request, and what it finds now.

use std::fmt::{Display, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitCode;

use baton::{Context, Error, Request, Response};

/// Serves once it has read its greeting, as a program reads its configuration.
pub(crate) fn serve() -> ExitCode {
    let at_start = shown(fs::read_to_string("/app/greeting"));
    baton::serve(async move |context, request| report(&at_start, context, request).await)
}

async fn report(at_start: &str, _context: Context, _request: Request) -> Result<Response, Error> {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn Display| {
        let _ = writeln!(text, "{name}={value}");
    };
    line("at start", &at_start);
    line("place", &std::env::var("BATON_FILES").unwrap_or_default());
    line("greeting", &shown(fs::read_to_string("/app/greeting")));
    line("relative", &shown(fs::read_to_string("app/deep/er/file")));
    line("large", &shown(fs::read("/app/large").map(|bytes| sum(&bytes))));
    line("middle", &shown(middle()));
    line(
        "size",
        &shown(fs::metadata("/app/large").map(|about| format!("{} {:o}", about.len(), mode(&about)))),
    );
    line("list", &shown(list("/app")));
    line("deep", &shown(list("/app/deep")));
    line("missing", &shown(fs::read_to_string("/app/missing")));
    line("outside", &shown(fs::read_to_string("/app/../etc/passwd")));
    line("below", &shown(fs::read_to_string("/app/greeting/x")));
    line("write", &shown(fs::write("/app/greeting", "x").map(|()| "written")));
    line("append", &shown(OpenOptions::new().append(true).open("/app/greeting").map(|_| "opened")));
    line("create", &shown(File::create("/app/new").map(|_| "created")));
    line("remove", &shown(fs::remove_file("/app/greeting").map(|()| "removed")));
    line("mkdir", &shown(fs::create_dir("/app/new").map(|()| "made")));
    Ok(Response::ok(text))
}

fn shown<T: Display>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn mode(about: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions())
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().zip(1..).map(|(byte, place)| u64::from(*byte) * place).sum()
}

/// Ten bytes out of the middle of a file.
fn middle() -> io::Result<String> {
    let mut file = File::open("/app/large")?;
    file.seek(SeekFrom::End(-10))?;
    let mut bytes = [0; 10];
    file.read_exact(&mut bytes)?;
    Ok(format!("{bytes:?}"))
}

fn list(path: impl AsRef<Path>) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names.join(" "))
}
