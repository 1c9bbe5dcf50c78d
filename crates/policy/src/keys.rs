//! API keys: who has which, without keeping any.

use std::rc::Rc;

use baton_catalog::policy::ApiKeys;
use blake3::Hash;

use crate::request::Request;
use crate::verdict::Refusal;

/// Keys longer than this are nobody's.
const KEY_BYTES_MAX: usize = 512;

/// A key that is good.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
}

/// The keys of one handler.
#[derive(Debug)]
pub(crate) struct Keys {
    header: String,
    keys: Vec<(Hash, Rc<Key>)>,
}

impl Keys {
    pub(crate) fn new(settings: &ApiKeys) -> Result<Self, String> {
        let keys = settings.keys.iter().map(|key| {
            let hash = Hash::from_hex(&key.hash).map_err(|_| format!("the hash of key {:?}", key.name))?;
            Ok((hash, Rc::new(Key { name: key.name.clone(), scopes: key.scopes.clone() })))
        });
        Ok(Self { header: settings.header.to_ascii_lowercase(), keys: keys.collect::<Result<_, String>>()? })
    }

    pub(crate) fn admit(&self, request: &mut Request<'_>) -> Result<(), Refusal> {
        let refuse = |message: &'static str| Refusal::new(401, message).challenging("ApiKey");
        let shown = request
            .only_header(&self.header)
            .map_err(|()| refuse("the request has two API keys; send one"))?
            .filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX)
            .ok_or_else(|| {
                refuse("the request has no API key; send one in the header that the service names")
            })?;
        let hash = blake3::hash(shown);
        // All are looked at, and each comparison takes the same time.
        let mut found = None;
        for (known, key) in &self.keys {
            if *known == hash {
                found = Some(Rc::clone(key));
            }
        }
        request.key = Some(found.ok_or_else(|| refuse("the API key is not known"))?);
        // The function has no use for the secret.
        request.remove(&self.header);
        Ok(())
    }
}
