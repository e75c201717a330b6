//! cairn: a thread-per-core HTTP proxy for bare-metal Linux.
//!
//! The modules stand in layers, from the process down to its constants: a module imports only modules declared below it.

pub mod server;
pub mod control;
pub mod config;
pub mod worker;
pub mod listener;
pub mod downstream;
pub mod exchange;
pub mod snapshot;
pub mod route;
pub mod cluster;
pub mod upstream;
pub mod pool;
pub mod forward;
pub mod respond;
pub mod telemetry;
pub mod observer;
pub mod access_log;
pub mod trace;
pub mod http2;
pub mod http;
pub mod proxy_protocol;
pub mod transport;
pub mod tls;
pub mod uring;
pub mod buffer;
pub mod runtime;
pub mod event_log;
pub mod printable;
pub mod calendar;
pub mod id;
pub mod limits;
