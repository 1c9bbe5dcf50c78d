//! Names: of functions, with and without the rest of an ARN; of versions and aliases; of the app behind a function.

use super::fault::Fault;

/// The account that ARNs name: there is one.
pub(super) const ACCOUNT: &str = "000000000000";
/// What is called when nothing is said of versions.
pub(super) const LATEST: &str = "$LATEST";
/// Apps of functions that were made by this API have names that begin so.
const APP_PREFIX: &str = "lambda-";
/// A name that fits an app's as it is has at most as many characters.
const PLAIN_CHARS_MAX: usize = 32;
/// Longest name of a function, as with AWS.
const NAME_CHARS_MAX: usize = 64;
/// Longest name of an alias, as with AWS.
const ALIAS_CHARS_MAX: usize = 128;

/// A function as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    /// A version or an alias.
    pub(super) qualifier: Option<String>,
}

/// Reads the name of a path and the query's `Qualifier`.
pub(super) fn named(text: &str, qualifier: Option<&str>) -> Result<Named, Fault> {
    let parts: Vec<&str> = text.split(':').collect();
    let (name, own) = match parts.as_slice() {
        ["arn", _, "lambda", _, _, "function", name] => (*name, None),
        ["arn", _, "lambda", _, _, "function", name, own] => (*name, Some(*own)),
        [account, "function", name] if is_account(account) => (*name, None),
        [account, "function", name, own] if is_account(account) => (*name, Some(*own)),
        ["function", name] => (*name, None),
        ["function", name, own] => (*name, Some(*own)),
        [name] => (*name, None),
        [name, own] => (*name, Some(*own)),
        _ => return Err(Fault::invalid(format!("{text:?} names no function"))),
    };
    let is_fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !is_fit(name) {
        return Err(Fault::invalid(format!(
            "{name:?} is no name of a function: letters, digits, `-` and `_`, at most {NAME_CHARS_MAX}"
        )));
    }
    let qualifier = match (own, qualifier.filter(|text| !text.is_empty())) {
        (Some(own), Some(other)) if own != other => {
            return Err(Fault::invalid(format!("the name says {own:?}, the qualifier {other:?}")));
        }
        (own, other) => own.or(other),
    };
    if let Some(text) = qualifier
        && text != LATEST
        && (text.is_empty() || text.len() > ALIAS_CHARS_MAX || !is_fit(text))
    {
        return Err(Fault::invalid(format!("{text:?} is neither a version nor an alias")));
    }
    Ok(Named { name: name.to_owned(), qualifier: qualifier.map(str::to_owned) })
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT.len() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an alias may have this name.
pub(super) fn check_alias(name: &str) -> Result<(), Fault> {
    let is_fit = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if name.is_empty() || name.len() > ALIAS_CHARS_MAX || !is_fit || is_number {
        return Err(Fault::invalid(format!(
            "{name:?} is no name of an alias: letters, digits, `-` and `_`, at most {ALIAS_CHARS_MAX}, and no number"
        )));
    }
    Ok(())
}

/// The app that a function is. Two functions never have the same.
pub(super) fn app_of(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() <= PLAIN_CHARS_MAX && name.bytes().all(is_plain) {
        return format!("{APP_PREFIX}{name}");
    }
    let mut short: String = name.to_ascii_lowercase().replace('_', "-");
    short.truncate(PLAIN_CHARS_MAX - 9);
    let hash = blake3::hash(name.as_bytes()).to_hex();
    // Longer than any plain one.
    format!("{APP_PREFIX}{short:-<23}-{:.16}", hash.as_str())
}

/// The function of its app that a version is.
pub(super) fn function_of(version: &str) -> String {
    if version == LATEST { "latest".to_owned() } else { format!("v{version}") }
}

pub(super) fn arn(region: &str, name: &str, qualifier: Option<&str>) -> String {
    let arn = format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}");
    match qualifier {
        Some(qualifier) => format!("{arn}:{qualifier}"),
        None => arn,
    }
}

#[cfg(test)]
mod tests {
    use baton_catalog::AppName;
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, qualifier: Option<&str>, name: &str, expected: Option<&str>) {
        let found = named(text, qualifier).unwrap();
        assert_eq!((found.name.as_str(), found.qualifier.as_deref()), (name, expected), "{text}");
    }

    #[test]
    fn functions_are_named_in_all_the_ways_that_clients_know() {
        check("echo", None, "echo", None);
        check("Echo_2:live", None, "Echo_2", Some("live"));
        check("echo:live", Some("live"), "echo", Some("live"));
        check("echo", Some("$LATEST"), "echo", Some("$LATEST"));
        check("000000000000:function:echo", Some("3"), "echo", Some("3"));
        check("arn:aws:lambda:eu-west-1:000000000000:function:echo", None, "echo", None);
        check("arn:aws:lambda:eu-west-1:000000000000:function:echo:7", None, "echo", Some("7"));
    }

    #[test]
    fn what_names_no_function_is_refused() {
        let long = "x".repeat(65);
        for text in ["", "a/b", "../x", "a b", "a:b:c:d:e", "arn:aws:s3:::bucket", "ä", long.as_str(), "a:"]
        {
            assert!(named(text, None).is_err(), "{text}");
        }
        assert!(named("echo:1", Some("2")).is_err());
        assert!(check_alias("12").is_err() && check_alias("").is_err() && check_alias("a.b").is_err());
        assert!(check_alias("live-2").is_ok());
    }

    proptest! {
        #[test]
        fn every_name_gives_an_app_of_its_own(one in "[a-zA-Z0-9_-]{1,64}", other in "[a-zA-Z0-9_-]{1,64}") {
            prop_assert!(AppName::new(&app_of(&one)).is_ok(), "{}", app_of(&one));
            prop_assert_eq!(app_of(&one) == app_of(&other), one == other);
        }
    }
}
