//! A node with a Lambda API, a key for it, and the clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use baton_e2e::{Node, python_interpreter, source_root};
use serde_json::Value;
use tempfile::TempDir;

/// A node with a Lambda API, and a directory for files.
pub(crate) struct Place {
    pub(crate) node: Node,
    key: (String, String),
    python: PathBuf,
    files: TempDir,
}

impl Place {
    /// A node without any app.
    pub(crate) fn start() -> Option<Self> {
        let python = python_interpreter()?;
        Some(Self::with(Node::bare("lambda", &["--lambda", "127.0.0.1:0"]), python))
    }

    /// The node that was started with the state directory of one that was killed.
    pub(crate) fn again(home: TempDir) -> Option<Self> {
        let python = python_interpreter()?;
        Some(Self::with(Node::restart_with(home, "lambda", &["--lambda", "127.0.0.1:0"]), python))
    }

    fn with(node: Node, python: PathBuf) -> Self {
        let made = node.cli(["lambda", "keys", "add", "--json"]).json();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let key = (text("AccessKeyId"), text("SecretAccessKey"));
        Self { node, key, python, files: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.files.path().join(name), content).unwrap();
    }

    /// A zip of one of the files.
    pub(crate) fn zip(&self, zip: &str, file: &str) -> String {
        let program =
            "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').write(sys.argv[2], sys.argv[3])";
        let mut command = Command::new(&self.python);
        let done = command.args(["-c", program, &self.path(zip), &self.path(file), file]).output().unwrap();
        assert!(done.status.success());
        self.path(zip)
    }

    fn url(&self) -> String {
        format!("http://{}", self.node.lambda.expect("it was started with --lambda"))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("AWS_ACCESS_KEY_ID", &self.key.0).env("AWS_SECRET_ACCESS_KEY", &self.key.1);
        command.env("LAMBDA_URL", self.url()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command
    }

    /// Runs a case of `clients.py`; what it printed.
    pub(crate) fn python(&self, case: &str, env: &[(&str, &str)]) -> String {
        let script = source_root().join("e2e/tests/lambda/clients.py");
        let mut command = self.command(&self.python);
        self.told(case, command.arg(script).arg(case).envs(env.iter().copied()).output().unwrap())
    }

    fn told(&self, what: &str, output: Output) -> String {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let log = || self.node.cli(["logs"]).stdout;
        assert!(output.status.success(), "{what}: {out}\n{err}\n--- log\n{}\n{}", log(), self.node.words());
        out.into_owned()
    }

    /// `aws lambda …`; what it printed.
    pub(crate) fn aws(&self, args: &[&str]) -> Value {
        let program = self.python.with_file_name("aws");
        let mut command = self.command(&program);
        command.args(["--endpoint-url", &self.url(), "--region", "eu-west-1", "--output", "json", "lambda"]);
        let out = self.told("aws", command.args(args).output().unwrap());
        serde_json::from_str(&out).unwrap_or(Value::Null)
    }

    /// Runs `client.mjs`.
    pub(crate) fn javascript(&self) {
        let modules = std::env::var_os("BATON_TEST_SERVERS").map(|place| PathBuf::from(place).join("lambda"));
        let Some(modules) =
            modules.filter(|place| place.join("node_modules/@aws-sdk/client-lambda").is_dir())
        else {
            eprintln!("SKIP: Lambda: the AWS SDK for JavaScript is not installed");
            return;
        };
        self.file("index.js", include_bytes!("index.js"));
        let zip = fs::read(self.zip("fn.zip", "index.js")).unwrap();
        let script = source_root().join("e2e/tests/lambda/client.mjs");
        let mut command = self.command(Path::new("node"));
        command.env("LAMBDA_MODULES", modules).env("PACKAGE", base64(&zip));
        self.told("client.mjs", command.arg(script).output().unwrap());
    }
}

/// Few tests need it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = char::from(LETTERS[(word >> (18 - 6 * place) & 63) as usize]);
            out.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    out
}
