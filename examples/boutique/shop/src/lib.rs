//! What the Online Boutique's ten functions do, whatever carries their calls.
//!
//! ```text
//!   frontend ──▶ every function below          checkout ──▶ cart, catalog, currency, shipping,
//!   recommendation ──▶ catalog                              payment, email
//! ```
//! The bodies that call other functions are generic over [`Services`]: the Baton glue carries its calls
//! through shared memory, the gRPC yardstick through HTTP/2, and [`Local`] within one process for the tests.
//! Everything that travels is one of the layouts of [`wire`], read where it lies.
#![forbid(unsafe_code)]

pub mod ad;
pub mod cart;
pub mod catalog;
pub mod checkout;
pub mod currency;
pub mod email;
pub mod frontend;
pub mod payment;
pub mod recommendation;
pub mod shipping;
pub mod wire;

mod failure;
mod ids;
mod local;
mod money;
mod services;
mod text;

pub use failure::Failure;
pub use ids::Ids;
pub use local::{Calls, Local};
pub use money::{Code, Money, MoneyError};
pub use services::{Layout, Services};
pub use text::{Text, TextError};
