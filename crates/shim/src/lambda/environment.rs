//! What the program is started with: the environment as AWS sets it, and what runs it.

use std::path::Path;

use super::LambdaConfig;

/// Where its files are.
const TASK_ROOT: &str = "/app";
/// The variable that says so, where they are elsewhere.
const FILES_ENV: &str = "BATON_FILES";
const REGION: &str = "us-east-1";
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Runs Python functions: by `awslambdaric` if the package, or the interpreter, has it.
const PYTHON: &str = include_str!("bootstrap.py");
/// Runs Node.js functions.
const NODE: &str = include_str!("bootstrap.js");

/// Where the function's files are.
pub(super) fn root() -> String {
    std::env::var(FILES_ENV).unwrap_or_else(|_| TASK_ROOT.to_owned())
}

/// The program and its arguments; `Err` says what is missing.
pub(super) fn command(config: &LambdaConfig) -> Result<Vec<String>, String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    if config.language.starts_with("python") {
        // The version that is asked for, if it is there.
        let own = config.python.is_none() && is_on_path(&config.language);
        let interpreter = if own { config.language.as_str() } else { "python3" };
        return Ok(words(&[interpreter, "-u", "-c", PYTHON]));
    }
    if config.language.starts_with("nodejs") {
        return Ok(words(&["node", "-e", NODE]));
    }
    let bootstrap = format!("{}/bootstrap", root());
    if Path::new(&bootstrap).is_file() {
        return Ok(vec![bootstrap]);
    }
    Err(format!("there is no `bootstrap` in the package, which {} needs", config.language))
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Names and values.
type Entries = Vec<(&'static str, String)>;

/// Variables that are set whatever the manifest says, and those that are set unless it says otherwise.
pub(super) fn variables(config: &LambdaConfig, port: u16) -> (Entries, Entries) {
    let root = root();
    let own = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let name = own("AWS_LAMBDA_FUNCTION_NAME", &config.function);
    let version = own("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST");
    let region = own("AWS_REGION", REGION);
    let fixed = vec![
        ("_HANDLER", config.handler.clone()),
        ("LAMBDA_TASK_ROOT", root.clone()),
        ("LAMBDA_RUNTIME_DIR", root.clone()),
        ("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}")),
        ("AWS_LAMBDA_FUNCTION_NAME", name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", version.clone()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", config.memory_mib.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("[{version}]{:08x}", std::process::id())),
        ("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", config.language)),
        ("AWS_REGION", region.clone()),
        ("AWS_DEFAULT_REGION", region),
    ];
    let usual = vec![
        ("PATH", PATH.to_owned()),
        ("LD_LIBRARY_PATH", format!("{root}/lib:{root}")),
        ("LANG", "C.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("HOME", "/tmp".to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
    ];
    (fixed, usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(language: &str) -> LambdaConfig {
        let text = format!(
            r#"{{"language":"{language}","handler":"app.main","function":"echo","within_ms":30000,"memory_mib":128}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_environment_is_as_aws_sets_it() {
        let (fixed, _) = variables(&config("python3.11"), 9001);
        let find =
            |name: &str| fixed.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str());
        assert_eq!(find("_HANDLER"), Some("app.main"));
        assert_eq!(find("AWS_LAMBDA_RUNTIME_API"), Some("127.0.0.1:9001"));
        assert_eq!(find("AWS_EXECUTION_ENV"), Some("AWS_Lambda_python3.11"));
        assert_eq!(find("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), Some("128"));
    }

    #[test]
    fn a_runtime_has_its_interpreter_and_provided_ones_need_a_bootstrap() {
        assert!(command(&config("python3.11")).unwrap()[0].starts_with("python3"));
        assert_eq!(command(&config("nodejs20.x")).unwrap()[0], "node");
        assert!(command(&config("provided.al2023")).unwrap_err().contains("bootstrap"));
    }
}
