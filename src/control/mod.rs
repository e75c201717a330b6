//! Control plane: everything that may block, allocate or lock, on one tokio thread. The data plane never waits for it.
//! Not here: serving (`worker`).

pub mod demo;
