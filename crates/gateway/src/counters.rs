//! What `/metrics` shows of the gateway: plain cells, since everything is on one thread.

use std::cell::Cell;

use http::StatusCode;

/// Live counters.
#[derive(Debug, Default)]
pub struct Counters {
    by_class: [Cell<u64>; 5],
    connections_open: Cell<u64>,
    connections_accepted: Cell<u64>,
    connections_refused: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    handshakes: Cell<u64>,
    handshakes_failed: Cell<u64>,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Answers by status class: 1xx, 2xx, 3xx, 4xx, 5xx. A head that HTTP forbids counts as 4xx.
    pub answers_by_class: [u64; 5],
    /// Connections that are open.
    pub connections_open: u64,
    /// Connections taken since the start.
    pub connections_accepted: u64,
    /// Connections turned away since too many were open.
    pub connections_refused: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// TLS handshakes that came to a good end.
    pub handshakes: u64,
    /// Connections that ended in their handshake, those of clients that spoke no TLS included.
    pub handshakes_failed: u64,
}

impl Counters {
    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            answers_by_class: self.by_class.each_ref().map(Cell::get),
            connections_open: self.connections_open.get(),
            connections_accepted: self.connections_accepted.get(),
            connections_refused: self.connections_refused.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            handshakes: self.handshakes.get(),
            handshakes_failed: self.handshakes_failed.get(),
        }
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.by_class.get(class) {
            add(count, 1);
        }
    }

    pub(crate) fn opened(&self) {
        add(&self.connections_open, 1);
        add(&self.connections_accepted, 1);
    }

    pub(crate) fn greeted(&self, well: bool) {
        add(if well { &self.handshakes } else { &self.handshakes_failed }, 1);
    }

    pub(crate) fn closed(&self) {
        self.connections_open.set(self.connections_open.get().saturating_sub(1));
    }

    pub(crate) fn refused(&self) {
        add(&self.connections_refused, 1);
        self.answered(StatusCode::SERVICE_UNAVAILABLE);
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes_in, bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.bytes_out, bytes as u64);
    }
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get().wrapping_add(count));
}
