//! Hearing knocks: packet sockets that see what the firewall then drops.
//!
//! The kernel hands over only what the filter lets through: UDP datagrams of
//! the one right length to the one port, of this host, on the right interface,
//! not in fragments. Nothing is ever bound to the port.

pub mod decode;
pub mod filter;
pub mod socket;

pub use socket::Family;
