//! A packet's way through somebody else's chains. Not all of the packet is
//! known, nor all that chains can ask: what is unclear never counts as an
//! accept, so that whoever asks hears of a drop rather too often than too late.

use super::packet::Packet;
use super::reading::{self, Matches};
use super::rule::{ForeignRule, Verdict};
use std::collections::HashMap;

/// Chains cannot jump deeper than that.
const DEPTH: usize = 16;

/// The chains of a table, and what can be asked about its sets.
pub(super) struct Table<'a> {
    pub(super) chains: HashMap<String, Vec<ForeignRule>>,
    pub(super) sets: &'a dyn Sets,
}

/// Looks into the sets of a table.
pub(super) trait Sets {
    /// What a set has for a key.
    fn find(&self, set: &str, key: &[u8]) -> Found;
}

/// Without a look at any.
impl Sets for () {
    fn find(&self, _: &str, _: &[u8]) -> Found {
        Found::Unclear
    }
}

/// What was found in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// An element, and the verdict beside it in a map of verdicts.
    Element(Option<Verdict>),
    Unclear,
}

/// Where a packet comes out of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Accepted,
    Dropped,
    /// Undecided, at the end.
    Through,
}

impl Table<'_> {
    /// The way through a chain from its first rule to its end.
    pub(super) fn walk(&self, chain: &str, packet: &Packet) -> Way {
        self.chain(chain, packet, DEPTH)
    }

    fn chain(&self, chain: &str, packet: &Packet, depth: usize) -> Way {
        let rules = self.chains.get(chain).map_or(&[][..], Vec::as_slice);
        self.follow(rules, packet, depth)
    }

    /// The way through some rules, one after the other.
    pub(super) fn rules(&self, rules: &[ForeignRule], packet: &Packet) -> Way {
        self.follow(rules, packet, DEPTH)
    }

    fn follow(&self, rules: &[ForeignRule], packet: &Packet, depth: usize) -> Way {
        // Once it may have left the chain, an accept is no longer for certain.
        let mut is_here = true;
        for rule in rules {
            let (matches, verdict) = reading::read(self, rule, packet);
            match (matches, self.outcome(matches, verdict, packet, depth)) {
                (_, Outcome::Dropped) => return Way::Dropped,
                (Matches::Yes, Outcome::Accepted) if is_here => return Way::Accepted,
                (Matches::Yes, Outcome::Left) => return Way::Through,
                (_, Outcome::Left) => is_here = false,
                _ => {}
            }
        }
        Way::Through
    }

    fn outcome(
        &self,
        matches: Matches,
        verdict: Option<Verdict>,
        packet: &Packet,
        depth: usize,
    ) -> Outcome {
        match verdict {
            Some(Verdict::Accept) => Outcome::Accepted,
            Some(Verdict::Drop) if matches >= Matches::OnInterface => Outcome::Dropped,
            Some(Verdict::Return) if matches > Matches::No => Outcome::Left,
            Some(Verdict::Jump(chain)) => match self.into(matches, &chain, packet, depth) {
                Outcome::Left => Outcome::Nothing,
                outcome => outcome,
            },
            Some(Verdict::Goto(chain)) => self.into(matches, &chain, packet, depth),
            _ => Outcome::Nothing,
        }
    }

    fn into(&self, matches: Matches, chain: &str, packet: &Packet, depth: usize) -> Outcome {
        match (matches, depth) {
            (Matches::No, _) => Outcome::Nothing,
            (Matches::Perhaps, _) | (_, 0) => Outcome::Left,
            _ => match self.chain(chain, packet, depth - 1) {
                Way::Accepted => Outcome::Accepted,
                Way::Dropped => Outcome::Dropped,
                Way::Through => Outcome::Left,
            },
        }
    }
}

/// What becomes of a packet at a rule.
enum Outcome {
    Nothing,
    Accepted,
    Dropped,
    /// It leaves the chain undecided.
    Left,
}
