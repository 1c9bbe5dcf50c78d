//! Secrets of a function, on their way from the store into the environment of its replicas.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Environment entries whose values nobody is shown: there is no way to print them, and they are not serialised.
#[derive(Clone, Default)]
pub struct SecretEnv(Vec<(String, Arc<Zeroizing<Vec<u8>>>)>);

impl SecretEnv {
    /// Adds an entry.
    pub fn add(&mut self, variable: String, value: Zeroizing<Vec<u8>>) {
        self.0.push((variable, Arc::new(value)));
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `NAME=value`, as a program finds them; the name alone for one that holds NUL.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<CString, &str>> {
        self.0.iter().map(|(variable, value)| {
            let mut entry = Vec::with_capacity(variable.len() + value.len() + 2);
            entry.extend_from_slice(variable.as_bytes());
            entry.push(b'=');
            entry.extend_from_slice(value);
            CString::new(entry).map_err(|_| variable.as_str())
        })
    }
}

impl fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(variable, _)| variable)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_and_values_are_not() {
        let mut secrets = SecretEnv::default();
        secrets.add("DB_PASSWORD".to_owned(), Zeroizing::new(b"hunter2".to_vec()));
        let shown = format!("{secrets:?} {:?}", Some(&secrets));
        assert!(
            shown.contains("DB_PASSWORD") && !shown.contains("hunter2") && !shown.contains("104"),
            "{shown}"
        );
        let entries: Vec<_> = secrets.entries().map(Result::unwrap).collect();
        assert_eq!(entries, [CString::new("DB_PASSWORD=hunter2").unwrap()]);
    }

    #[test]
    fn a_value_with_nul_is_told_by_its_name_alone() {
        let mut secrets = SecretEnv::default();
        secrets.add("KEY".to_owned(), Zeroizing::new(b"a\0b".to_vec()));
        assert_eq!(secrets.entries().next(), Some(Err("KEY")));
    }
}
