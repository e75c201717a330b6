//! The real binary between scripted clients and origins on ephemeral ports, one module a topic. Not here: parsing
//! (`tests/http.rs`), checking configurations (`tests/cli.rs`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_log;
mod admin;
mod affinity;
mod answers;
mod balance;
mod bodies;
mod bounds;
mod certificates;
mod client_auth;
mod cluster_tls;
mod conditions;
mod deadlines;
mod dev_cert;
mod events;
mod explain;
mod failures;
mod forwarding;
mod framing;
mod harness;
mod hedging;
mod https;
mod limits;
mod logins;
mod metrics;
mod others_tls;
mod pages;
mod permissive;
mod paths;
mod proxy_protocol;
mod reload;
mod queues;
mod resilience;
mod scarcity;
mod sockets;
mod tcp;
mod tenants;
mod tls;
mod trace;
mod tunnels;
mod variables;
mod verbs;
mod watching;
mod workarounds;
mod workers;
