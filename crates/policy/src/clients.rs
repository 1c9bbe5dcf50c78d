//! What a client must be, or may do.

use std::collections::BTreeMap;

use baton_catalog::policy::{Authorize, Identity};

use crate::request::Request;
use crate::verdict::Refusal;

/// Identities by certificates.
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

impl Names {
    pub(crate) fn new(settings: &Identity) -> Self {
        Self(settings.names.clone())
    }

    pub(crate) fn admit(&self, request: &Request<'_>) -> Result<(), Refusal> {
        match request.client.identity {
            None => Err(Refusal::new(401, "the connection has no client certificate; show one")),
            Some(_) if self.0.is_empty() => Ok(()),
            Some(name) if self.0.iter().any(|good| good == name) => Ok(()),
            Some(_) => Err(Refusal::new(403, "the client certificate's identity may not do this")),
        }
    }
}

/// What is asked of a client.
#[derive(Debug)]
pub(crate) struct Rule {
    scopes: Vec<String>,
    claims: BTreeMap<String, Vec<String>>,
    identities: Vec<String>,
    keys: Vec<String>,
    callers: Vec<String>,
}

impl Rule {
    pub(crate) fn new(settings: &Authorize) -> Self {
        Self {
            scopes: settings.scopes.clone(),
            claims: settings.claims.clone(),
            identities: settings.identities.clone(),
            keys: settings.keys.clone(),
            callers: settings.callers.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn admit(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let forbid = |message: &'static str| Err(Refusal::new(403, message));
        // Whom the node itself knows to call is judged by that alone.
        if let Some(caller) = request.client.caller {
            return match self.callers.is_empty() || self.callers.iter().any(|good| good == caller) {
                true => Ok(()),
                false => forbid("this function may not call that one so"),
            };
        }
        let token = request.token.as_ref();
        let of_token = token.map_or(&[][..], |token| token.scopes());
        let of_key = request.key.as_ref().map_or(&[][..], |key| &key.scopes);
        if !self.scopes.iter().all(|scope| of_token.contains(scope) || of_key.contains(scope)) {
            return forbid("the client lacks a scope that this needs");
        }
        let has =
            |(name, values): (&String, &Vec<String>)| token.is_some_and(|token| token.has(name, values));
        if !self.claims.iter().all(has) {
            return forbid("the client's token does not have what this needs");
        }
        let identity = request.client.identity;
        if !self.identities.is_empty()
            && !identity.is_some_and(|name| self.identities.iter().any(|i| i == name))
        {
            return forbid("the client's certificate does not have the identity that this needs");
        }
        let key = request.key.as_ref();
        if !self.keys.is_empty() && !key.is_some_and(|key| self.keys.contains(&key.name)) {
            return forbid("the client's API key may not do this");
        }
        let asks_clients = !(self.scopes.is_empty()
            && self.claims.is_empty()
            && self.identities.is_empty()
            && self.keys.is_empty());
        if !self.callers.is_empty() && !asks_clients {
            return forbid("only functions may call this");
        }
        Ok(())
    }
}
