//! The yardstick of `baton bench`: the boutique's functions as ten gRPC services over loopback, one process each,
//! with the same function bodies; one gRPC hop; a bare hyper server.
//!
//! ```text
//! baton-bench-grpc SERVICE --listen 127.0.0.1:0 --peers catalog=127.0.0.1:4001,…   SERVICE: frontend, catalog, …
//! baton-bench-grpc hop-server --listen 127.0.0.1:0
//! baton-bench-grpc hop-client --peer 127.0.0.1:4001 --payload 1048576 --iterations 1000
//! baton-bench-grpc chain-back --listen 127.0.0.1:0
//! baton-bench-grpc chain-front --listen 127.0.0.1:0 --peer 127.0.0.1:4001
//! baton-bench-grpc chain-client --peer 127.0.0.1:4002 --payload 4096       round trips: a line of standard input each
//! baton-bench-grpc chain-counts --peer 127.0.0.1:4001,127.0.0.1:4002
//! baton-bench-grpc hyper --listen 127.0.0.1:0
//! ```
//! A server prints `listening ADDRESS` when it is ready. It ends on SIGTERM, or when its standard input, if that is a
//! pipe or a socket, is closed. Each is one thread, as a function of Baton is.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;

use boutique_shop::Ids;
use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::peers::Peers;
use crate::proto::{
    ad_server::AdServer, cart_server::CartServer, catalog_server::CatalogServer,
    checkout_server::CheckoutServer, currency_server::CurrencyServer, email_server::EmailServer,
    payment_server::PaymentServer, recommendation_server::RecommendationServer,
    shipping_server::ShippingServer,
};

mod chain;
mod convert;
mod frontend;
mod hop;
mod messages;
mod peers;
mod services;

/// Clients and servers, as tonic generates them.
#[allow(
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    reason = "generated code answers to its generator"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/boutique.Catalog.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Currency.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Cart.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Recommendation.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Shipping.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Checkout.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Payment.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Email.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Ad.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Hop.rs"));
    include!(concat!(env!("OUT_DIR"), "/boutique.Chain.rs"));
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Frontend,
    Catalog,
    Currency,
    Cart,
    Recommendation,
    Shipping,
    Checkout,
    Payment,
    Email,
    Ad,
    HopServer,
    HopClient,
    ChainFront,
    ChainBack,
    ChainClient,
    ChainCounts,
    Hyper,
}

/// The yardsticks of `baton bench`.
#[derive(Debug, Parser)]
struct Options {
    /// What to run.
    role: Role,
    /// Where a server listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Where a function finds those that it calls: NAME=HOST:PORT,…
    #[arg(long, default_value = "", value_parser = Peers::parse)]
    peers: Peers,
    /// The server that hop-client, chain-client or chain-front calls, or those that chain-counts asks.
    #[arg(long, default_value = "")]
    peer: String,
    /// Bytes of each request of a client.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Round trips of hop-client.
    #[arg(long, default_value_t = 1000)]
    iterations: usize,
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    // Channels belong to the runtime from the moment on that they are parsed.
    let entered = runtime.enter();
    let options = Options::parse();
    drop(entered);
    match tokio::task::LocalSet::new().block_on(&runtime, run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("baton-bench-grpc: {error}");
    ExitCode::FAILURE
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    match options.role {
        Role::HopClient => return hop::client(&options.peer, options.payload, options.iterations).await,
        Role::ChainClient => return chain::client(&options.peer, options.payload).await,
        Role::ChainCounts => return chain::counts(&options.peer).await,
        _ => {}
    }
    let listener = TcpListener::bind(&options.listen).await?;
    println!("listening {}", listener.local_addr()?);
    end_with_stdin()?;
    let peers = options.peers;
    let routes = match options.role {
        Role::HopClient | Role::ChainClient | Role::ChainCounts => return Ok(()),
        Role::Hyper => return Ok(frontend::hello(listener).await?),
        Role::Frontend => return Ok(frontend::shop(listener, peers).await?),
        Role::Catalog => Routes::new(CatalogServer::new(services::Catalog::default())),
        Role::Currency => Routes::new(CurrencyServer::new(services::Currency)),
        Role::Cart => Routes::new(CartServer::new(services::Cart::default())),
        Role::Recommendation => {
            let turn = AtomicUsize::new(0);
            Routes::new(RecommendationServer::new(services::Recommendation { peers, turn }))
        }
        Role::Shipping => Routes::new(ShippingServer::new(services::Shipping::default())),
        Role::Checkout => Routes::new(CheckoutServer::new(services::Checkout { peers, ids: Ids::new() })),
        Role::Payment => Routes::new(PaymentServer::new(services::Payment::default())),
        Role::Email => Routes::new(EmailServer::new(services::Email::default())),
        Role::Ad => Routes::new(AdServer::new(services::Ad::default())),
        Role::HopServer => Routes::new(hop::service()),
        Role::ChainFront | Role::ChainBack => Routes::new(chain::Link::service(&options.peer)?),
    };
    let mut server = match options.role {
        Role::HopServer | Role::ChainFront | Role::ChainBack => chain::server(),
        _ => Server::builder(),
    };
    // `tcp_nodelay` of the builder is for listeners that tonic opens itself: this one sets it on each connection.
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(server.add_routes(routes).serve_with_incoming(incoming).await?)
}

/// Ends the process once whoever started it closes the pipe that is its standard input.
fn end_with_stdin() -> std::io::Result<()> {
    let kind = std::fs::metadata("/dev/stdin").map(|stdin| stdin.file_type());
    if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
        std::thread::Builder::new().name("stdin".into()).spawn(|| {
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut [0; 64]).is_ok_and(|len| len > 0) {}
            std::process::exit(0);
        })?;
    }
    Ok(())
}
