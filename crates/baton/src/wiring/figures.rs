//! The gateway's figures on their way to the metrics.
//!
//! The gateway's handle cannot leave its thread, so a closure goes there and reads it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use baton_control::admin::{Figure, GatewayFigures};
use baton_flow::PlaneHandle;
use baton_gateway::{Egress, Handle, Snapshot};

thread_local! {
    /// The gateway of the data-plane thread, and its way out; empty on every other thread.
    static GATEWAY: RefCell<Option<(Handle, Rc<Egress>)>> = const { RefCell::new(None) };
}

/// Called on the data-plane thread once the gateway listens.
pub(super) fn publish(handle: Handle, egress: Rc<Egress>) {
    GATEWAY.set(Some((handle, egress)));
}

/// Called on the data-plane thread at its end.
pub(super) fn withdraw() {
    GATEWAY.set(None);
}

/// Asks the data-plane thread.
pub(super) fn of(plane: PlaneHandle) -> GatewayFigures {
    Arc::new(move || {
        let plane = plane.clone();
        Box::pin(async move { plane.run(|_| std::future::ready(read())).await })
    })
}

fn read() -> Vec<Figure> {
    GATEWAY.with_borrow(|gateway| {
        gateway.as_ref().map_or_else(Vec::new, |(gateway, egress)| {
            figures(&gateway.counters().snapshot(), egress.connections_opened())
        })
    })
}

fn figures(snapshot: &Snapshot, outgoing: u64) -> Vec<Figure> {
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let answers = CLASSES.iter().zip(snapshot.answers_by_class).map(|(class, count)| (Some(*class), count));
    let one = |name, help, counts, value| Figure { name, help, counts, values: vec![(None, value)] };
    vec![
        Figure { name: "answers", help: "Answers by status class", counts: true, values: answers.collect() },
        one("connections_open", "Connections that are open", false, snapshot.connections_open),
        one("connections_accepted", "Connections taken", true, snapshot.connections_accepted),
        one("connections_refused", "Connections turned away", true, snapshot.connections_refused),
        one("tls_handshakes", "TLS handshakes of clients", true, snapshot.handshakes),
        one("tls_handshakes_failed", "TLS handshakes that failed", true, snapshot.handshakes_failed),
        one("outgoing_connections", "Connections opened for requests of functions", true, outgoing),
        one("received_bytes", "Bytes read from clients", true, snapshot.bytes_in),
        one("sent_bytes", "Bytes written to clients", true, snapshot.bytes_out),
    ]
}
