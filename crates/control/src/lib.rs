//! Deployments, store and admin API.
//!
//! ```text
//!   CLI ──Unix socket, or TCP with a token──▶ admin ──▶ Deployer ──plan──▶ steps ──▶ Plane (the data-plane thread)
//!                                               │          ├──▶ Artifacts   $BATON_HOME/artifacts/<blake3>
//!                                               │          ├──▶ Modules     $BATON_HOME/wasm/<key>, made by baton-wasmc
//!                                               │          ├──▶ Trees       $BATON_HOME/files/<blake3>
//!                                               │          └──▶ Store       $BATON_HOME/state.redb
//!                                               └──▶ Plane: status, logs, capabilities, receipts, metrics
//! ```
//!
//! Everything here runs on the control thread; what the data plane knows is asked for through [`Plane`]. A
//! deployment is stored once it runs, so that a restart brings back the last one that worked.
#![forbid(unsafe_code)]

pub mod admin;
mod artifacts;
mod bundles;
mod cluster;
mod connections;
mod deploy;
mod disk;
mod events;
mod graph;
mod home;
pub mod lambda;
pub mod limits;
mod modules;
mod plane;
mod procs;
pub mod protocol;
mod secrets;
mod store;
mod usage;

pub use artifacts::{
    ArtifactError, ArtifactHash, Artifacts, Context, HashFault, Incoming, Objection, Place, VetError, Vetted,
    Within, vet, vet_module,
};
pub use baton_wasm::ENGINE_VERSION as WASM_ENGINE;
pub use bundles::{PackError, Trees, pack};
pub use cluster::{
    AppReport, AppRow, BucketReport, Cluster, ClusterError, ClusterOptions, ClusterReport, CopyReport,
    EnterError, Entered, Load, NodePart, Row, StoreReport, Tls,
};
pub use deploy::{
    Change, DeployFault, Deployer, Outcome, Placed, PolicyFault, Restored, RolloutError, SecretChange,
    SecretFault, Step, Submission, Wish, plan,
};
pub use disk::is_guarded;
pub use events::{DeadReport, Event, EventFault, Events, QueueReport};
pub use graph::{Declared, GATEWAY, Graph, GraphEdge, GraphNode, GraphRoute};
pub use home::{Home, HomeError, admin_socket};
pub use modules::{ModuleError, Modules, Programs};
pub use plane::{Answer, Plane};
pub use secrets::{SecretError, SecretReport, SecretValue, SecretValueFault};
pub use store::{Beside, Deployment, Kept, Made, Store, StoreError, Stored, Undone};
pub use usage::{Usage, UsageError, UsageReport, UsageRow, Used};
