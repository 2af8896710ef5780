//! The ruleset in the kernel: installs it, holds it, compares it.

use super::counters::{self, Counted};
use super::element::Connection;
use super::error::{Drift, FirewallError};
use super::existing;
use super::grant_set::GrantSet;
use super::intervals::{self, Interval};
use super::netlink::Channel;
use super::numbers::NFT_TABLE_F_PERSIST;
use super::replacement::{Replacement, SetElements};
use super::requests::{self, ELEMENTS_PER_MESSAGE};
use super::rules::MARK;
use super::ruleset::{Existing, PortRange, Ruleset, TABLE};
use super::snapshot::{self, Snapshot};
use super::transaction::{Subject, Transaction};
use nix::libc::{EINVAL, EOPNOTSUPP};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const NFT_TABLE_F_OWNER: u32 = 2;
pub(super) const OWNED: u32 = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;

/// How to hold the table.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Own the table (`owner | persist`) where the kernel knows how to. Without,
    /// others can change it, and only [`super::Watch`] tells.
    pub own: bool,
    /// Let connections live on that are there before the first ruleset. Not
    /// where a table was in force already and has gone: whoever got in since
    /// was not meant to.
    pub existing: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { own: true, existing: true }
    }
}

/// Where the installed table came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There was none, and this process had not made one before.
    Created,
    /// There was one that another spad, or a saved ruleset, had left. Its
    /// elements stay with the time they have left.
    Adopted,
    /// This process's own, with its elements.
    Reloaded,
    /// Somebody had removed this process's own: the grants are gone.
    Restored,
}

/// What an installation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where the table came from.
    pub origin: Origin,
    /// How many connections from before live on; 0 unless created or restored.
    pub existing: usize,
    /// What did not go as it should, though nothing is open that should not be.
    pub warnings: Vec<String>,
}

/// The table `inet spad`. It owns the netlink socket that owns the table: keep
/// it for the life of the process. When it is dropped, the table stays, and
/// stays shut; grants in it end on time.
pub struct Firewall {
    pub(super) channel: Channel,
    pub(super) own: bool,
    keep_existing: bool,
    pub(super) installed: Option<Snapshot>,
    /// The sets that hold grants, as installed, and what they are called.
    pub(super) sets: BTreeMap<GrantSet, String>,
    /// What the next installation bans; `None` for what is banned already.
    pub(super) staged: Option<Vec<Interval>>,
    /// Those of the very first start, should the table have to be made anew.
    existing: BTreeSet<Connection>,
    /// Those to ports that the next installation is going to shut.
    newcomers: BTreeSet<Connection>,
    /// The TCP ports that are shut; `None` where nobody knows.
    shut: Option<Vec<PortRange>>,
}

impl Firewall {
    /// Opens the netlink socket, to own the table where the kernel can.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or on a kernel without `nf_tables`.
    pub fn open() -> Result<Self, FirewallError> {
        Self::open_with(Options::default())
    }

    /// Opens the netlink socket.
    ///
    /// # Errors
    /// As [`Firewall::open`].
    pub fn open_with(options: Options) -> Result<Self, FirewallError> {
        let channel = Channel::open()?;
        // Says at once whether we may, and whether the kernel can.
        Snapshot::read(&channel)?;
        Ok(Self {
            channel,
            own: options.own,
            keep_existing: options.existing,
            installed: None,
            sets: BTreeMap::new(),
            staged: None,
            existing: BTreeSet::new(),
            newcomers: BTreeSet::new(),
            shut: None,
        })
    }

    /// Says which TCP ports a table shuts that is there already, and has been shutting since
    /// before this process: connections to others live on when these are shut.
    pub fn takes_over_from(&mut self, shut: Vec<PortRange>) {
        self.shut = Some(shut);
    }

    /// Puts `ruleset` in force, in one transaction: at no moment is anything
    /// open that neither the old nor the new ruleset opens. Elements of sets
    /// that both have stay, with the time they have left. Afterwards the table
    /// is read back and compared.
    ///
    /// # Errors
    /// If the table is not ours or somebody else owns it, or if the kernel
    /// refuses a part: then all is as it was. [`FirewallError::ReadBack`] if it
    /// holds something else than what was sent.
    pub fn install(&mut self, ruleset: &Ruleset) -> Result<Installed, FirewallError> {
        let before = Snapshot::read(&self.channel)?;
        self.check_ours(before.as_ref())?;
        // Never later: whoever has got in since, by somebody's mistake, is not
        // to be kept.
        let first = before.is_none() && self.installed.is_none() && self.keep_existing;
        let mut warnings = Vec::new();
        if first {
            warnings.extend(self.look_for_existing(ruleset));
        }
        let newcomers = self.open_until_now(before.is_some(), ruleset, &mut warnings);
        self.newcomers = newcomers;
        let wanted = self.commit(|this| this.try_commit(before.as_ref(), ruleset))?;
        if before.is_none() {
            warnings.extend(self.forget_unlabelled(ruleset));
        }
        let report = Installed {
            origin: self.origin(before.is_some()),
            existing: if before.is_none() { self.existing.len() } else { 0 },
            warnings,
        };
        self.installed = Some(wanted);
        self.existing.append(&mut self.newcomers);
        self.shut = Some(ruleset.shut_ports().to_vec());
        self.staged = None;
        self.sets = ruleset.grants.iter().map(|set| (*set, set.name())).collect();
        self.read_back()?;
        Ok(report)
    }

    pub(super) fn read_back(&self) -> Result<(), FirewallError> {
        match self.verify() {
            Ok(()) => Ok(()),
            Err(Drift::Changed(differences)) => Err(FirewallError::ReadBack(differences)),
            Err(Drift::Unreadable(why)) => Err(why),
        }
    }

    /// Compares the kernel's table, without the elements of its sets, with what
    /// was installed.
    ///
    /// # Errors
    /// What differs.
    pub fn verify(&self) -> Result<(), Drift> {
        let wanted =
            self.installed.as_ref().ok_or(Drift::Unreadable(FirewallError::NotInstalled))?;
        let now = Snapshot::read(&self.channel).map_err(Drift::Unreadable)?;
        let gone = || vec![format!("table 'inet {TABLE}' is gone")];
        let differences = now.map_or_else(gone, |now| wanted.differences(&now));
        if differences.is_empty() { Ok(()) } else { Err(Drift::Changed(differences)) }
    }

    /// What each rule has counted: of each chain, by name, its rules in order.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<String, Vec<Option<Counted>>>, FirewallError> {
        counters::read(&self.channel)
    }

    /// Whether the kernel keeps everybody else from changing the table.
    #[must_use]
    pub fn owned(&self) -> bool {
        self.installed.as_ref().is_some_and(|s| s.table.flags & OWNED == OWNED)
    }

    /// Where connections come from that live on though no grant let them in: those
    /// of the first start, and those to ports that were shut since.
    pub(crate) fn living_on(&self) -> impl Iterator<Item = SocketAddr> {
        self.existing.iter().map(|connection| connection.source)
    }

    pub(crate) fn port(&self) -> u32 {
        self.channel.port()
    }

    pub(super) fn check_ours(&self, before: Option<&Snapshot>) -> Result<(), FirewallError> {
        let Some(before) = before else { return Ok(()) };
        match before.table.owner {
            Some(port) if port != self.channel.port() => Err(FirewallError::OwnedByOther { port }),
            _ if before.table.comment.starts_with(MARK) => Ok(()),
            _ => Err(FirewallError::NotOurs { found: snapshot::describe(before) }),
        }
    }

    fn origin(&self, was_there: bool) -> Origin {
        match (was_there, self.installed.is_some()) {
            (false, false) => Origin::Created,
            (true, false) => Origin::Adopted,
            (true, true) => Origin::Reloaded,
            (false, true) => Origin::Restored,
        }
    }

    /// Connections to ports that a reload, or a start, is going to shut: they were open to
    /// everyone until now, so that nobody gets in this way who could not before.
    fn open_until_now(
        &self,
        was_there: bool,
        ruleset: &Ruleset,
        warnings: &mut Vec<String>,
    ) -> BTreeSet<Connection> {
        let Some(existing) = ruleset.existing.as_ref().filter(|_| was_there) else {
            return BTreeSet::new();
        };
        let Some(shut) = self.shut.as_ref().filter(|shut| **shut != existing.tcp) else {
            return BTreeSet::new();
        };
        self.connections(ruleset, existing, |it| !existing::is_to(it, shut), warnings)
    }

    /// The connections that live on, and what to say about it.
    fn look_for_existing(&mut self, ruleset: &Ruleset) -> Vec<String> {
        let Some(existing) = &ruleset.existing else { return Vec::new() };
        let mut warnings = Vec::new();
        self.existing = self.connections(ruleset, existing, |_| true, &mut warnings);
        warnings
    }

    /// Connections to ports that a ruleset shuts, as many as there is room for.
    fn connections(
        &self,
        ruleset: &Ruleset,
        existing: &Existing,
        is_wanted: impl Fn(&Connection) -> bool,
        warnings: &mut Vec<String>,
    ) -> BTreeSet<Connection> {
        let (mut found, faults) = existing::connections(&self.channel, &existing.tcp);
        found.retain(is_wanted);
        warnings.extend(faults);
        let limit = ruleset.sets.iter().find(|s| s.name == existing.set4).map_or(0, |s| s.size);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if found.len() > limit {
            let found = found.len();
            warnings.push(format!("of {found} connections only {limit} live on: the set is full"));
        }
        found.into_iter().take(limit).collect()
    }

    /// When the ruleset is in force, and labels with it: without a table entries had no room for any.
    fn forget_unlabelled(&self, ruleset: &Ruleset) -> Option<String> {
        let existing = ruleset.existing.as_ref().filter(|existing| !existing.udp.is_empty())?;
        let error = existing::forget_udp(&self.channel, &existing.udp).err()?;
        Some(format!("UDP flows from before it was in force end with their grants: {error}"))
    }

    /// Commits, falling back to a table without owner where the kernel does not
    /// know owners that persist.
    pub(super) fn commit(
        &mut self,
        attempt: impl Fn(&Self) -> Result<Snapshot, FirewallError>,
    ) -> Result<Snapshot, FirewallError> {
        match attempt(self) {
            Err(e) if self.own && owner_is_unknown(&e) => {
                self.own = false;
                attempt(self)
            }
            result => result,
        }
    }

    fn try_commit(
        &self,
        before: Option<&Snapshot>,
        ruleset: &Ruleset,
    ) -> Result<Snapshot, FirewallError> {
        let flags = self.flags(before);
        let wanted = Snapshot::of(ruleset, flags)?;
        let mut transaction = Transaction::new();
        let mut banned = self.staged.clone();
        let elements = match before {
            None => existing_elements(ruleset, &self.existing),
            Some(before) => {
                let replacement = Replacement::between(before, &wanted);
                if matches!(replacement, Replacement::Parts { .. }) {
                    self.take_over(before, ruleset, flags)?;
                }
                replacement.remove(&mut transaction, ruleset, flags)?;
                banned = match banned {
                    None => replacement.carried_bans(&self.channel, before)?,
                    staged => staged,
                };
                let carried = replacement.carried(&self.channel, before, &wanted)?;
                [carried, existing_elements(ruleset, &self.newcomers)].concat()
            }
        };
        transaction.define(ruleset, flags)?;
        if let Some(banned) = &banned {
            intervals::replace(&mut transaction, banned)?;
        }
        for (set, elements) in &elements {
            for elements in elements.chunks(ELEMENTS_PER_MESSAGE) {
                transaction
                    .push(Subject::Elements(set.clone()), requests::add_elements(set, elements))?;
            }
        }
        self.channel.commit(transaction)?;
        Ok(wanted)
    }

    /// Makes an orphan ours, and wakes up a dormant table, with the rules that it
    /// has: in one transaction with that the kernel takes no new base chains.
    fn take_over(
        &self,
        before: &Snapshot,
        ruleset: &Ruleset,
        flags: u32,
    ) -> Result<(), FirewallError> {
        if before.table.flags == flags {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        transaction.push(Subject::Table, requests::add_table(flags, &ruleset.comment))?;
        self.channel.commit(transaction)
    }

    fn flags(&self, before: Option<&Snapshot>) -> u32 {
        match (self.own, before) {
            (true, _) => OWNED,
            // A table that persists cannot be made one that does not.
            (false, Some(before)) => before.table.flags & NFT_TABLE_F_PERSIST,
            (false, None) => 0,
        }
    }
}

fn existing_elements(ruleset: &Ruleset, connections: &BTreeSet<Connection>) -> Vec<SetElements> {
    let Some(existing) = &ruleset.existing else { return Vec::new() };
    let keys = |v4: bool| {
        let of_family = |c: &&Connection| matches!(c.destination, SocketAddr::V4(_)) == v4;
        connections.iter().filter(of_family).map(|c| (c.key(), None)).collect()
    };
    vec![(existing.set4.clone(), keys(true)), (existing.set6.clone(), keys(false))]
}

/// Whether the kernel refused the table itself, as those do that do not know
/// its flags: `owner` came with Linux 5.12, `persist` with 6.9.
fn owner_is_unknown(error: &FirewallError) -> bool {
    let FirewallError::Refused { what, source } = error else { return false };
    let unknown = matches!(source.raw_os_error(), Some(EOPNOTSUPP | EINVAL));
    unknown && *what == Subject::Table.to_string()
}
