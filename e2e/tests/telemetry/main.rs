//! What a node tells of itself and of invocations: traces, metrics, receipts, accounts, and what `baton test` makes of them.

mod accounts;
mod cases;
mod collector;
mod edges;
mod logs;
mod metrics;
mod traces;
