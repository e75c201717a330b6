//! TLS over our buffers (RFC 8446, RFC 5246). rustls shakes hands; the records after that are opened and sealed here, in leases.
//! The only importer of rustls. Not here: sockets' life and HTTP.

mod authorities;
mod identity;
mod resolver;
mod server;
mod tickets;

pub use authorities::Authorities;
pub use identity::{BadCertificates, BadKey, Chain, Identity};
pub use server::{Server, ServerSpec};
pub use tickets::Tickets;
