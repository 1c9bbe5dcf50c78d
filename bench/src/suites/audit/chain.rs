//! A chain of two functions that can be sent requests, and what it counts of itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::load::{Load, Pace, Plan, Step, Until, get, request};
use crate::suites::SuiteError;
use crate::systems::Fleet;

/// How long the node may take for a single request.
const WITHIN: Duration = Duration::from_secs(10);

/// What no tracepoint sees.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Beside {
    /// Messages that a codec has encoded so far.
    pub(super) encoded: u64,
    /// … decoded.
    pub(super) decoded: u64,
    /// Heads of HTTP messages that were read or written so far.
    pub(super) heads: u64,
    /// How often a request's payload is copied between functions.
    pub(super) copies_of_payload: f64,
    /// Heads of each request, where it is not a count that grows.
    pub(super) heads_of_each: f64,
}

impl Beside {
    /// What has come since an earlier look.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            encoded: self.encoded.saturating_sub(before.encoded),
            decoded: self.decoded.saturating_sub(before.decoded),
            heads: self.heads.saturating_sub(before.heads),
            ..self
        }
    }
}

/// Who sends requests to a chain, one after the other, over one connection.
pub(super) trait Client {
    /// The thread that sends.
    fn thread(&self) -> u32;
    /// Sends so many requests, and has all their answers.
    fn send(&mut self, count: u64) -> Result<(), SuiteError>;
}

/// Two functions, one behind the other.
pub(super) trait Chain {
    /// The name of its rows.
    fn system(&self) -> &str;
    /// How it counts what no tracepoint sees.
    fn how(&self) -> &str;
    /// All threads of its processes.
    fn threads(&self) -> Vec<u32>;
    /// Who sends it payloads of this length.
    fn client(&self, payload: u64) -> Result<Box<dyn Client>, SuiteError>;
    /// What it says of itself so far.
    fn beside(&self, payload: u64) -> Result<Beside, SuiteError>;
}

/// Two functions of an app.
#[derive(Debug)]
pub(super) struct Baton(Fleet);

impl Baton {
    pub(super) fn new(fleet: Fleet) -> Self {
        Self(fleet)
    }

    fn failed(&self, problem: String) -> SuiteError {
        SuiteError::Answer { system: self.0.system.clone(), problem }
    }
}

impl Chain for Baton {
    fn system(&self) -> &str {
        &self.0.system
    }

    fn how(&self) -> &'static str {
        "encodes, decodes and payloads copied between functions: the receipt of a request of the same length, hop by hop; heads: \
         its serialisations, which are HTTP with the client"
    }

    fn threads(&self) -> Vec<u32> {
        self.0.threads()
    }

    fn client(&self, payload: u64) -> Result<Box<dyn Client>, SuiteError> {
        let request = post(&self.0, payload, "");
        let step = Arc::new(Step { request, expect: &[200], counted: true });
        let load = Load::open(self.0.address, vec![Plan { setup: Vec::new(), cycle: vec![step] }])?;
        Ok(Box::new(Posts { system: self.0.system.clone(), load }))
    }

    /// Sends one request more, which asks for its receipt.
    fn beside(&self, payload: u64) -> Result<Beside, SuiteError> {
        let asks = post(&self.0, payload, "x-baton-receipt: 1\r\nconnection: close\r\n");
        let answer = request(self.0.address, &asks, WITHIN)?;
        if answer.status != 200 {
            return Err(
                self.failed(format!("status {} of a request that asks for its receipt", answer.status))
            );
        }
        let admin = self.0.admin.as_ref().ok_or_else(|| self.failed("there is no admin API".into()))?;
        let answer = get(admin.address, "/v1/receipts/last", Some(&admin.token), WITHIN)?;
        let receipt: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        of_receipt(&receipt, payload).ok_or_else(|| self.failed(format!("its receipt is {receipt}")))
    }
}

/// What a receipt says of a request with so long a payload.
fn of_receipt(receipt: &Value, payload: u64) -> Option<Beside> {
    let hops = receipt["hops"].as_array().filter(|hops| hops.len() >= 2)?;
    let sum = |name: &str| hops.iter().map(|hop| hop[name].as_u64()).sum::<Option<u64>>();
    let (copied, heads) = (sum("bytes_copied")?, sum("serialisations")?);
    Some(Beside {
        copies_of_payload: copied as f64 / payload.max(1) as f64,
        heads_of_each: heads as f64,
        ..Beside::default()
    })
}

fn post(fleet: &Fleet, payload: u64, more: &str) -> Vec<u8> {
    let host = fleet.address;
    let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\n{more}content-length: {payload}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + usize::try_from(payload).unwrap_or(0), 0x5a);
    request
}

/// The load generator, with one connection.
struct Posts {
    system: String,
    load: Load,
}

impl Client for Posts {
    fn thread(&self) -> u32 {
        u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
    }

    fn send(&mut self, count: u64) -> Result<(), SuiteError> {
        let outcome = self.load.run(Pace::Closed, Until::Answered(count));
        if outcome.answered == count && outcome.errors.total() == 0 {
            return Ok(());
        }
        let problem = format!("{} of {count} requests: {:?}", outcome.answered, outcome.errors);
        Err(SuiteError::Answer { system: self.system.clone(), problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_summed_over_their_hops() {
        let hop =
            |copied: u64, heads: u64| serde_json::json!({ "bytes_copied": copied, "serialisations": heads });
        let receipt = serde_json::json!({ "hops": [hop(0, 2), hop(4096, 0)] });
        let beside = of_receipt(&receipt, 4096).unwrap();
        assert_eq!((beside.copies_of_payload, beside.heads_of_each), (1.0, 2.0));
        assert!(
            of_receipt(&serde_json::json!({ "hops": [hop(0, 2)] }), 4096).is_none(),
            "the chain has two functions"
        );
        assert!(of_receipt(&Value::Null, 4096).is_none());
    }

    #[test]
    fn counts_are_told_since_the_last_look() {
        let look = |encoded, heads| Beside { encoded, heads, heads_of_each: 2.0, ..Beside::default() };
        assert_eq!(look(10, 7).since(look(4, 7)), look(6, 0));
    }
}
