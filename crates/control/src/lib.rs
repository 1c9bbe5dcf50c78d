//! Deployments, store and admin API.
