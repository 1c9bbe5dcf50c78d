//! Sealing: ChaCha20-Poly1305 under a key of a file of its own.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::SecretError;

const KEY_BYTES: usize = 32;

/// A key that seals values.
pub(crate) struct SealKey(LessSafeKey);

impl SealKey {
    /// The key of a file: 64 hexadecimal digits. Rights of others to read it are taken away.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or holds something else.
    pub(crate) fn read(path: &Path) -> Result<Self, SecretError> {
        let io = |source| SecretError::Key { path: path.to_owned(), source };
        let text = match fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SecretError::KeyMissing { path: path.to_owned() });
            }
            Err(error) => return Err(io(error)),
        };
        narrow(path).map_err(io)?;
        Self::parse(&text).ok_or_else(|| SecretError::KeyDamaged { path: path.to_owned() })
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(text).ok()?.trim();
        let bytes = unhex(digits).filter(|bytes| bytes.len() == KEY_BYTES).map(Zeroizing::new)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Draws a key, and keeps it in a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn make(path: &Path) -> Result<Self, SecretError> {
        let text = make(path).map_err(|source| SecretError::Key { path: path.to_owned(), source })?;
        Self::parse(&text).ok_or_else(|| SecretError::KeyDamaged { path: path.to_owned() })
    }

    /// Seals a value, bound to what it is. `None` where there are no random numbers.
    pub(crate) fn seal(&self, bound_to: &[u8], value: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        // Drawn anew for each value: 96 bits, and no key seals more than some thousands of them.
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut text = Zeroizing::new(value.to_vec());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        let sealed = self.0.seal_in_place_separate_tag(nonce_used, Aad::from(bound_to), text.as_mut_slice());
        let tag = sealed.ok()?;
        Some(nonce.iter().chain(text.iter()).chain(tag.as_ref()).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Opens what was sealed with this key for this place; `None` for all else.
    pub(crate) fn open(&self, bound_to: &[u8], sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(unhex(sealed)?);
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::from(bound_to), sealed).ok()?;
        Some(Zeroizing::new(opened.to_vec()))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            pair.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(pair, 16).ok())?
        })
        .collect()
}

/// A backup or a copy may have widened it.
fn narrow(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "others could read the key of secrets; its rights are narrowed");
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| io::Error::other("no random numbers"))?;
    let text =
        Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
    let new = path.with_extension("new");
    // What an interrupted try left behind is nobody's key.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(text)
}
