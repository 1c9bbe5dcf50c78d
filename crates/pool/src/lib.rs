//! Payload memory: regions, slab, ledger, capabilities, links.
