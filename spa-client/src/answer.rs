//! What comes in place of a connection.

use std::io::{self, ErrorKind};

/// What came in place of a connection, the last time that something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing, as where packets are dropped.
    None,
    /// Nothing listens there.
    Refused,
    /// There is no way there, or somebody forbids it.
    Unreachable,
}

impl Answer {
    /// What an attempt has ended with, if that came from anybody: a refusal, or an ICMP error,
    /// which reads as forbidden on IPv6.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::ConnectionRefused => Some(Self::Refused),
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied => Some(Self::Unreachable),
            _ => None,
        }
    }
}
