//! The data-plane thread: gateway, flow, and the end of both.

use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;

use baton_flow::transfer::{Endpoint, Settings, StartError};
use baton_flow::{Flow, Options, PlaneInbox, Sampling};
use baton_gateway::{Authorities, BindError, Egress, Gateway, Limits, Tls};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::backend::FlowBackend;
use super::cloudevents::{Delivery, Door};
use super::{DRAIN_TIME, Order, figures, runtime};
use crate::failure::Failure;

/// What the thread is given.
pub(super) struct DataPlane {
    pub(super) listen: SocketAddr,
    pub(super) tls: Option<Tls>,
    pub(super) options: Options,
    pub(super) sampling: Sampling,
    pub(super) authorities: Authorities,
    pub(super) inbox: PlaneInbox,
    pub(super) orders: mpsc::Receiver<Order>,
    /// How other nodes reach this one, if there are others.
    pub(super) endpoint: Option<Settings>,
    pub(super) bound: SyncSender<Result<Bound, Failure>>,
    /// Where events go that are put into queues.
    pub(super) door: mpsc::Sender<Delivery>,
}

/// Where the data plane listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) gateway: SocketAddr,
    /// For other nodes.
    pub(super) transfer: Option<SocketAddr>,
}

/// The data-plane thread, from start to end.
pub(super) fn data_plane(plane: DataPlane) {
    let DataPlane { listen, tls, options, sampling, authorities, inbox, mut orders, endpoint, bound, door } =
        plane;
    baton_replica::turns::shorten();
    let runtime = match runtime(|| ()) {
        Ok(runtime) => runtime,
        Err(failure) => {
            let _ = bound.send(Err(failure));
            return;
        }
    };
    LocalSet::new().block_on(&runtime, async move {
        let gateway = match Gateway::bind(listen, Limits::default()) {
            Ok(gateway) => match tls {
                Some(tls) => gateway.with_tls(tls),
                None => gateway,
            },
            Err(error) => {
                let _ = bound.send(Err(not_bound(&error)));
                return;
            }
        };
        let flow = Flow::new(options);
        flow.set_sampling(sampling);
        let handle = gateway.handle();
        let egress = Egress::new(authorities);
        flow.fetch_by(egress.fetch());
        flow.tunnel_by(egress.tunnels());
        figures::publish(handle.clone(), egress);
        let endpoint = match endpoint {
            None => None,
            Some(settings) => match flow.join(settings).await {
                Ok(endpoint) => Some(endpoint),
                Err(error) => {
                    let _ = bound.send(Err(not_joined(&error)));
                    return;
                }
            },
        };
        tokio::task::spawn_local(inbox.run(flow.clone()));
        let addresses =
            Bound { gateway: gateway.local_addr(), transfer: endpoint.as_ref().map(Endpoint::address) };
        tokio::task::spawn_local(gateway.serve(FlowBackend::new(flow.clone(), Door::new(door))));
        let _ = bound.send(Ok(addresses));
        // All senders gone means that the main thread is.
        if matches!(orders.recv().await, Some(Order::Drain)) {
            let drain = async {
                if let Some(endpoint) = &endpoint {
                    endpoint.refuse();
                }
                handle.drain(DRAIN_TIME).await;
                flow.begin_drain();
                let _ = timeout(DRAIN_TIME, flow.drained()).await;
                if let Some(endpoint) = &endpoint {
                    endpoint.drain(DRAIN_TIME).await;
                }
            };
            tokio::select! {
                () = drain => {}
                _ = orders.recv() => {}
            }
        }
        flow.stop().await;
        figures::withdraw();
    });
}

fn not_joined(error: &StartError) -> Failure {
    Failure::failed(
        error,
        "see --cluster-listen, --cluster-cert, --cluster-key, --cluster-ca, --insecure-plaintext",
    )
}

fn not_bound(error: &BindError) -> Failure {
    let text = error.to_string();
    let (what, hint) = text.split_once(": ").unwrap_or((&text, ""));
    Failure::failed(what, hint)
}
