//! Key material on disk for spa: who the server is, which clients it knows, and
//! the tokens that make clients of people.
//!
//! ```text
//! DIR/server.toml              identity   the server's private key, cloak, name, port
//! DIR/clients/NAME.toml        record     one client: keys and policy
//! DIR/clients/NAME+DEVICE.toml record     one device of a person
//! DIR/clients/NAME+.toml       person     what all devices of a person may do
//! DIR/revoked/NAME-KID.toml    record     what is left of it afterwards, without secrets
//! DIR/last-knocks              last_knocks  who knocked when, as the daemon writes it now and then
//! DIR/moved-KEYS               moved      who knocks with the server's new keys by now
//! DIR/lock                     store      held by whoever writes
//! ```
//!
//! A [`Token`] carries a record's secrets from server to client; a
//! [`PublicKeyLine`] a client's key from client to server. Both are one line of
//! text with a checksum (`docs/protocol.md` §8 and §9).
//!
//! Secrets have neither `Debug` nor `PartialEq` and are wiped when dropped.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod ask;
pub mod backup;
pub mod cidr;
pub mod date;
pub mod document;
pub mod duration;
pub mod encoding;
pub mod files;
pub mod hours;
pub mod note;
pub mod passphrase;
pub mod random;
pub mod wipe;

mod armour;
mod error;
mod field;
mod host;
mod identity;
mod last_knocks;
mod lasting;
mod limits;
mod lock;
mod moved;
mod os;
mod policy;
#[cfg(test)]
#[path = "../../spa-proto/src/printable.rs"]
mod printable;
mod proof;
mod record;
mod record_file;
mod rotation;
mod store;
mod token;

pub use error::StoreError;
pub use host::{InvalidHost, check_host, own_host_name};
pub use identity::{FormerIdentity, ReplacedServer, ServerIdentity};
pub use last_knocks::LastKnocks;
pub use lasting::Lasting;
pub use limits::{Modes, Widest};
pub use moved::Moved;
pub use policy::{Person, Policy};
pub use proof::{ProofError, PublicKeyLine};
pub use record::{
    AddressRule, ClientName, ClientRecord, ClientState, InvalidAddressRule, InvalidName,
    RevokedClient,
};
pub use record_file::FileOf;
pub use rotation::{FormerKeys, Replaced};
pub use store::{Listing, NewClient, PeopleListing, RevokedListing, Store};
pub use token::{SealedToken, Token, TokenEnrolment, TokenError};

#[cfg(test)]
mod tests {
    use crate::backup::Backup;
    use crate::passphrase::PassphraseKey;
    use crate::printable::assert_not_printable;
    use crate::record_file::RecordFile;
    use crate::{ClientRecord, FormerIdentity, FormerKeys, NewClient, ServerIdentity};
    use crate::{SealedToken, Token, TokenEnrolment};

    #[test]
    fn nothing_that_has_a_secret_inside_can_be_printed() {
        assert_not_printable![ServerIdentity, FormerIdentity, ClientRecord, FormerKeys, NewClient];
        assert_not_printable![Token, TokenEnrolment, SealedToken, PassphraseKey];
        assert_not_printable![Backup, RecordFile];
    }
}
