//! What has to go from the table that is there, and what of it stays.
//!
//! Chains that stay the same are emptied and filled again, so that every packet
//! meets either all of the old rules or all of the new ones. A chain that is
//! taken away works until the new ones do.

use super::elements;
use super::error::FirewallError;
use super::intervals::{self, Interval};
use super::netlink::Channel;
use super::numbers::NFT_TABLE_F_PERSIST;
use super::requests::{self, KeyWithTimeout};
use super::rules::{bans, rates};
use super::ruleset::Ruleset;
use super::snapshot::Snapshot;
use super::state::{ObjectState, SetState};
use super::transaction::{Subject, Transaction};

/// The part of the old table that cannot stay.
pub(crate) enum Replacement {
    /// All of it: the kernel does not let a table become persistent.
    Whole,
    /// Its rules, and these objects, sets and chains, which are not as they
    /// should be.
    Parts { objects: Vec<ObjectState>, sets: Vec<String>, chains: Vec<String> },
}

/// A set's name and elements.
pub(crate) type SetElements = (String, Vec<KeyWithTimeout>);

impl Replacement {
    pub(crate) fn between(old: &Snapshot, wanted: &Snapshot) -> Self {
        if (old.table.flags ^ wanted.table.flags) & NFT_TABLE_F_PERSIST != 0 {
            return Self::Whole;
        }
        let objects = old.objects.iter().filter(|(name, o)| wanted.objects.get(*name) != Some(o));
        let sets = old.sets.iter().filter(|(name, set)| wanted.sets.get(*name) != Some(set));
        let chains = old.chains.iter().filter(|(name, c)| wanted.chains.get(*name) != Some(c));
        Self::Parts {
            objects: objects.map(|(_, object)| object.clone()).collect(),
            sets: sets.map(|(name, _)| name.clone()).collect(),
            chains: chains.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Puts the removal in front of what is defined anew.
    pub(crate) fn remove(
        &self,
        transaction: &mut Transaction,
        ruleset: &Ruleset,
        flags: u32,
    ) -> Result<(), FirewallError> {
        let Self::Parts { objects, sets, chains } = self else {
            return transaction.push(Subject::Table, requests::delete_table());
        };
        transaction.push(Subject::Table, requests::add_table(flags, &ruleset.comment))?;
        transaction.push(Subject::Table, requests::delete_rules())?;
        for set in sets {
            transaction.push(Subject::Set(set.clone()), requests::delete_set(set))?;
        }
        for chain in chains {
            transaction.push(Subject::Chain(chain.clone()), requests::delete_chain(chain))?;
        }
        // When neither rules nor sets refer to them any more.
        for ObjectState { name, kind, .. } in objects {
            let delete = requests::delete_object(*kind, name);
            transaction.push(Subject::Helper(name.clone()), delete)?;
        }
        Ok(())
    }

    /// The elements that have to be added again, with the time they have left:
    /// those of sets that are removed, but come back with the same key. Those
    /// without an end were not made by us and do not come back. Nor do those
    /// that count their uses: nobody can tell whether they are used up, and
    /// rates begin anew. Bans are more than their keys: `intervals` carries them.
    pub(crate) fn carried(
        &self,
        channel: &Channel,
        old: &Snapshot,
        wanted: &Snapshot,
    ) -> Result<Vec<SetElements>, FirewallError> {
        let same_key =
            |a: &SetState, b: &SetState| (a.key_type, a.key_len) == (b.key_type, b.key_len);
        let mut carried = Vec::new();
        for (name, set) in &wanted.sets {
            let plain = !bans::SETS.contains(&name.as_str()) && !rates::is_set(name);
            let comes_back = plain && old.sets.get(name).is_some_and(|other| same_key(set, other));
            if comes_back && set.expression.is_empty() && self.removes_set(name) {
                let mut elements = elements::list(channel, name)?;
                elements.retain(|(_, left)| left.is_some_and(|left| !left.is_zero()));
                carried.push((name.clone(), elements));
            }
        }
        Ok(carried)
    }

    /// What is banned, if that has to be added again.
    pub(crate) fn carried_bans(
        &self,
        channel: &Channel,
        old: &Snapshot,
    ) -> Result<Option<Vec<Interval>>, FirewallError> {
        let there = bans::SETS.iter().all(|set| old.sets.contains_key(*set));
        let removed = bans::SETS.iter().any(|set| self.removes_set(set));
        (there && removed).then(|| intervals::read(channel)).transpose()
    }

    fn removes_set(&self, name: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Parts { sets, .. } => sets.iter().any(|set| set == name),
        }
    }
}
