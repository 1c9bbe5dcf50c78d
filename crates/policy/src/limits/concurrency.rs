//! Requests at once, for each key. Only keys with a request under way are kept: there are never more than those.

use std::collections::HashMap;
use std::hash::RandomState;

use baton_catalog::policy::{Concurrency, Source};

use super::number;
use crate::request::Request;
use crate::verdict::Refusal;

/// Requests under way by key.
#[derive(Debug)]
pub(crate) struct AtOnce {
    source: Source,
    max: u32,
    under_way: HashMap<u64, u32>,
    hasher: RandomState,
}

impl AtOnce {
    pub(crate) fn new(settings: &Concurrency) -> Self {
        Self {
            source: settings.key.clone(),
            max: settings.max,
            under_way: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// The key under which the request is counted until [`AtOnce::leave`].
    pub(crate) fn admit(&mut self, request: &Request<'_>) -> Result<u64, Refusal> {
        let key = number(&self.hasher, &self.source, request);
        let count = self.under_way.entry(key).or_default();
        if *count >= self.max {
            return Err(
                Refusal::new(429, "too many requests at once; send it again when one has ended").after(1)
            );
        }
        *count += 1;
        Ok(key)
    }

    pub(crate) fn leave(&mut self, key: u64) {
        if let Some(count) = self.under_way.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&key);
            }
        }
    }
}
