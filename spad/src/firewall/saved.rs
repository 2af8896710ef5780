//! A ruleset as the messages that put it in force: for when neither the
//! configuration nor the keys can be read, nor any `nft` be run. It has no
//! elements, and so no grants.

use super::apply::{Firewall, OWNED, Options};
use super::error::FirewallError;
use super::numbers::{NFT_MSG_NEWCHAIN, NFT_MSG_NEWOBJ, NFT_MSG_NEWRULE, NFT_MSG_NEWSET};
use super::requests;
use super::rules::MARK;
use super::ruleset::Ruleset;
use super::snapshot::Snapshot;
use super::transaction::{Subject, Transaction};
use super::wire::{self, Message};
use crate::fields::Reader;
use sha2::{Digest, Sha256};

/// Another one when a later spad could not read what an earlier one has written.
const MAGIC: &[u8; 8] = b"spa rul1";
const CHECKSUM: usize = 32;
const PARTS: [u16; 4] = [NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWOBJ];

/// A ruleset without elements, to be written down and put in force later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    own: bool,
    comment: String,
    /// All but the table itself, whose flags depend on the kernel.
    messages: Vec<u8>,
}

impl Saved {
    /// Of a ruleset, and how its table is to be held.
    ///
    /// # Errors
    /// Where a name in it cannot be sent.
    pub fn of(ruleset: &Ruleset, options: Options) -> Result<Self, FirewallError> {
        let mut transaction = Transaction::new();
        transaction.define(ruleset, 0)?;
        let (bytes, _) = transaction.finish();
        let parts = wire::messages(&bytes).filter(is_part);
        let messages = parts.flat_map(wire::tidied).collect();
        Ok(Self { own: options.own, comment: ruleset.comment.clone(), messages })
    }

    /// To be written down. The messages are in this machine's byte order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = u64::try_from(self.comment.len()).unwrap_or(u64::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(self.own));
        bytes.extend(len.to_be_bytes());
        bytes.extend(self.comment.bytes());
        bytes.extend(&self.messages);
        let checksum = Sha256::digest(&bytes);
        bytes.extend(checksum);
        bytes
    }

    /// What was written down; `None` where it is damaged, of another version,
    /// or would touch anything but our table.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
        if Sha256::digest(content)[..] != checksum[..] {
            return None;
        }
        let mut fields = Reader { rest: content };
        if fields.take()? != *MAGIC {
            return None;
        }
        let own = fields.take::<1>()? != [0];
        let len = usize::try_from(fields.number()?).ok()?;
        let (comment, messages) = fields.rest.split_at_checked(len)?;
        let comment = String::from_utf8(comment.to_vec()).ok()?;
        let saved = Self { own, comment, messages: messages.to_vec() };
        saved.is_sound().then_some(saved)
    }

    /// Whether this is a table that a spad would know for its own, and all of
    /// the messages are about it.
    fn is_sound(&self) -> bool {
        let parts = wire::messages(&self.messages).filter(is_part);
        let len: usize = parts.map(|part| wire::tidied(part).len()).sum();
        self.comment.starts_with(MARK) && len > 0 && len == self.messages.len()
    }

    /// How its table is to be held.
    #[must_use]
    pub fn options(&self) -> Options {
        Options { own: self.own, ..Options::default() }
    }

    fn define(&self, transaction: &mut Transaction, flags: u32) -> Result<(), FirewallError> {
        transaction.push(Subject::Table, requests::add_table(flags, &self.comment))?;
        for (number, message) in (1..).zip(wire::messages(&self.messages)) {
            transaction.push(Subject::Saved(number), message.into_inner().to_vec())?;
        }
        Ok(())
    }

    fn snapshot(&self, flags: u32) -> Result<Snapshot, FirewallError> {
        let mut transaction = Transaction::new();
        self.define(&mut transaction, flags)?;
        Ok(Snapshot::sent(transaction))
    }
}

fn is_part(message: &Message<'_>) -> bool {
    wire::is_about_us(message) && PARTS.contains(&(message.message_type() & 0xff))
}

impl Firewall {
    /// Puts a saved ruleset in force, in one transaction. Whatever a spad has
    /// left goes with all its elements: no grant is in force afterwards, and no
    /// connection from before lives on but those made through a grant.
    ///
    /// # Errors
    /// As for [`Firewall::install`]: all is as it was then.
    pub fn install_saved(&mut self, saved: &Saved) -> Result<(), FirewallError> {
        let before = Snapshot::read(&self.channel)?;
        self.check_ours(before.as_ref())?;
        let wanted = self.commit(|this| this.try_saved(before.is_some(), saved))?;
        self.installed = Some(wanted);
        self.read_back()
    }

    fn try_saved(&self, replace: bool, saved: &Saved) -> Result<Snapshot, FirewallError> {
        let flags = if self.own { OWNED } else { 0 };
        let wanted = saved.snapshot(flags)?;
        let mut transaction = Transaction::new();
        if replace {
            transaction.push(Subject::Table, requests::delete_table())?;
        }
        saved.define(&mut transaction, flags)?;
        self.channel.commit(transaction)?;
        Ok(wanted)
    }

    /// Takes our table out of the kernel: what it shuts is open afterwards.
    /// Whether there was one.
    ///
    /// # Errors
    /// If the table is not ours, or a running process owns it.
    pub fn remove(&mut self) -> Result<bool, FirewallError> {
        let before = Snapshot::read(&self.channel)?;
        self.check_ours(before.as_ref())?;
        if before.is_some() {
            let mut transaction = Transaction::new();
            transaction.push(Subject::Table, requests::delete_table())?;
            self.channel.commit(transaction)?;
        }
        self.installed = None;
        self.sets.clear();
        Ok(before.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn saved() -> Saved {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spad.toml");
        std::fs::write(&path, "[service.ssh]\nport = 22\n").unwrap();
        let config = Config::load(&path).unwrap();
        Saved::of(&config.ruleset(), config.options()).unwrap()
    }

    /// As bytes, with a checksum that fits.
    fn sealed(content: &[u8]) -> Vec<u8> {
        [content, &Sha256::digest(content)].concat()
    }

    #[test]
    fn it_survives_the_way_onto_the_disk_and_back() {
        let saved = saved();
        assert_eq!(Saved::from_bytes(&saved.to_bytes()).as_ref(), Some(&saved));
        let unowned = Saved { own: false, ..saved };
        assert!(!Saved::from_bytes(&unowned.to_bytes()).unwrap().options().own);
    }

    #[test]
    fn the_same_ruleset_is_the_same_bytes() {
        let first = saved().to_bytes();
        for n in 1..20_u8 {
            // What libnftnl finds in memory is not always the same.
            drop(vec![n; 200_000]);
            assert!(saved().to_bytes() == first);
        }
    }

    #[test]
    fn any_damage_is_noticed() {
        let bytes = saved().to_bytes();
        for at in (0..bytes.len()).step_by(97) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Saved::from_bytes(&damaged), None, "byte {at}");
            assert_eq!(Saved::from_bytes(&bytes[..at]), None, "only {at} bytes");
        }
    }

    #[test]
    fn nothing_but_our_table_is_touched() {
        let saved = saved();
        let bytes = saved.to_bytes();
        let content = &bytes[..bytes.len() - CHECKSUM];
        assert!(Saved::from_bytes(&sealed(content)).is_some(), "control");
        // A request to delete a rule, an end in the midst of a message, no message at all.
        let first = content.len() - saved.messages.len();
        let mut other = content.to_vec();
        other[first + 4] = 8;
        // Of two names, the kernel takes the second.
        let len = u32::from_ne_bytes(*content[first..].first_chunk().unwrap());
        let mut twice = content.to_vec();
        twice[first..first + 4].copy_from_slice(&(len + 12).to_ne_bytes());
        let name = [&[11, 0, 1, 0][..], b"filter\0\0"].concat();
        let end = first + usize::try_from(len).unwrap();
        twice.splice(end..end, name);
        for (content, what) in [
            (&other[..], "another kind of message"),
            (&twice[..], "two names"),
            (&content[..content.len() - 4], "cut short"),
            (&content[..first], "empty"),
            (&[content, &[0; 8]].concat()[..], "too long"),
        ] {
            assert_eq!(Saved::from_bytes(&sealed(content)), None, "{what}");
        }
        let strange = Saved { comment: "theirs".to_owned(), ..saved };
        assert_eq!(Saved::from_bytes(&strange.to_bytes()), None);
    }
}
