//! Signatures by ring, which TLS brings along: what `jsonwebtoken` asks of a provider, for checking only.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};

static PROVIDER: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| Ok(Box::new(ByRing::new(*algorithm, key)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has `jsonwebtoken` check signatures by ring from now on.
pub(super) fn install() {
    // An error says that this was done before.
    let _ = PROVIDER.install_default();
}

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl ByRing {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        // A public key taken for a secret is how tokens are forged.
        if key.family() != algorithm.family() {
            return Err(new_error(ErrorKind::InvalidKeyFormat));
        }
        Ok(Self { algorithm, key: key.clone() })
    }

    fn rsa(&self, by: &'static signature::RsaParameters, message: &[u8], signature: &[u8]) -> Option<()> {
        match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(by, message, signature).ok()
            }
            DecodingKeyKind::SecretOrDer(der) => {
                UnparsedPublicKey::new(by, der).verify(message, signature).ok()
            }
        }
    }

    fn plain(
        &self,
        by: &'static dyn signature::VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<()> {
        let key = self.key.try_get_as_bytes().ok()?;
        UnparsedPublicKey::new(by, key).verify(message, signature).ok()
    }

    fn secret(&self, by: hmac::Algorithm, message: &[u8], tag: &[u8]) -> Option<()> {
        hmac::verify(&hmac::Key::new(by, self.key.try_get_as_bytes().ok()?), message, tag).ok()
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> std::result::Result<(), Error> {
        let is_good = match self.algorithm {
            Algorithm::HS256 => self.secret(hmac::HMAC_SHA256, message, signed),
            Algorithm::HS384 => self.secret(hmac::HMAC_SHA384, message, signed),
            Algorithm::HS512 => self.secret(hmac::HMAC_SHA512, message, signed),
            Algorithm::RS256 => self.rsa(&signature::RSA_PKCS1_2048_8192_SHA256, message, signed),
            Algorithm::RS384 => self.rsa(&signature::RSA_PKCS1_2048_8192_SHA384, message, signed),
            Algorithm::RS512 => self.rsa(&signature::RSA_PKCS1_2048_8192_SHA512, message, signed),
            Algorithm::PS256 => self.rsa(&signature::RSA_PSS_2048_8192_SHA256, message, signed),
            Algorithm::PS384 => self.rsa(&signature::RSA_PSS_2048_8192_SHA384, message, signed),
            Algorithm::PS512 => self.rsa(&signature::RSA_PSS_2048_8192_SHA512, message, signed),
            Algorithm::ES256 => self.plain(&signature::ECDSA_P256_SHA256_FIXED, message, signed),
            Algorithm::ES384 => self.plain(&signature::ECDSA_P384_SHA384_FIXED, message, signed),
            Algorithm::EdDSA => self.plain(&signature::ED25519, message, signed),
            _ => None,
        };
        is_good.ok_or_else(Error::new)
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
