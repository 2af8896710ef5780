//! Who is banned, until when, and why. Pure, but for [`BanFile`].
//!
//! Bans may lie within each other, and a trusted network within a ban. The
//! kernel's sets take neither: [`Bans::intervals`] says the same in pieces that
//! do not overlap.

mod file;
mod pieces;

pub use file::{BanFile, BanFileError};

use std::collections::BTreeMap;
use std::time::Duration;

use spa_proto::{Prefix, Timestamp};

use crate::firewall::Interval;

/// How many bans there can be.
pub const MOST: usize = 32_768;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who: every address of this network.
    pub network: Prefix,
    /// Since when.
    pub since: Timestamp,
    /// For how long in all; `None` until it is lifted.
    pub lasts: Option<Duration>,
    /// As the administrator has put it; may be empty.
    pub why: String,
    /// User id of who has asked for it.
    pub by: Option<u32>,
}

impl Ban {
    /// The time it has left; `None` for one without end. Never more than it was
    /// made for, wherever the clock has been set since.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        self.lasts.map(|lasts| self.since.plus(lasts).since(now).min(lasts))
    }

    /// When it ends by itself.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.lasts.map(|lasts| self.since.plus(lasts))
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.left(now).is_some_and(|left| left.is_zero())
    }
}

/// All bans in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    by_network: BTreeMap<Prefix, Ban>,
}

impl Bans {
    /// Puts a ban in force, in place of an earlier one of the same network.
    pub fn put(&mut self, ban: Ban) {
        self.by_network.insert(ban.network, ban);
    }

    /// Lifts the bans of `network` and of networks within it.
    pub fn lift(&mut self, network: &Prefix) -> Vec<Ban> {
        self.take(|ban| covers(network, &ban.network))
    }

    /// Lets go of those whose time is over.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Ban> {
        self.take(|ban| ban.is_over(now))
    }

    fn take(&mut self, which: impl Fn(&Ban) -> bool) -> Vec<Ban> {
        let mut taken = Vec::new();
        self.by_network.retain(|_, ban| {
            let taken_out = which(ban);
            if taken_out {
                taken.push(ban.clone());
            }
            !taken_out
        });
        taken
    }

    /// The widest ban that all of `network` lies in.
    #[must_use]
    pub fn covering(&self, network: &Prefix) -> Option<&Ban> {
        let around = |len| self.by_network.get(&Prefix::of(network.address(), len));
        (0..=network.prefix_len()).find_map(around)
    }

    /// Whether what is granted to `source` would open nothing, where bans hold against
    /// grants too: it is banned, and does not lie in a `trusted` network.
    #[must_use]
    pub fn holds_against(&self, source: &Prefix, trusted: &[Prefix]) -> bool {
        let spared = trusted.iter().any(|network| covers(network, source));
        !spared && self.covering(source).is_some()
    }

    /// The bans, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_network.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_network.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }

    /// What is banned, without the `spared` networks, as intervals that do not
    /// overlap: where bans do, the one that lasts longest counts.
    #[must_use]
    pub fn intervals(&self, spared: &[Prefix], now: Timestamp) -> Vec<Interval> {
        let banned = self.iter().filter(|ban| !ban.is_over(now));
        pieces::cut(banned.map(|ban| (ban.network, ban.left(now))), spared)
    }
}

/// Whether all of `inner` lies in `outer`.
#[must_use]
pub fn covers(outer: &Prefix, inner: &Prefix) -> bool {
    outer.prefix_len() <= inner.prefix_len() && outer.contains(inner.address())
}

/// Whether two networks have an address in common.
#[must_use]
pub fn overlap(one: &Prefix, other: &Prefix) -> bool {
    covers(one, other) || covers(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn net(text: &str) -> Prefix {
        spa_keys::cidr::parse(text).unwrap()
    }

    fn ban(network: &str, seconds: u64) -> Ban {
        let lasts = (seconds > 0).then_some(Duration::from_secs(seconds));
        Ban { network: net(network), since: NOW, lasts, why: String::new(), by: None }
    }

    fn bans(list: &[(&str, u64)]) -> Bans {
        let mut bans = Bans::default();
        list.iter().for_each(|(network, seconds)| bans.put(ban(network, *seconds)));
        bans
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn time_left_follows_the_clock_but_never_exceeds_the_ban() {
        let ban = ban("192.0.2.1", 60);
        let left = |now| ban.left(now).map(|left| left.as_secs());
        assert_eq!(left(NOW), Some(60));
        assert_eq!(left(later(59)), Some(1));
        assert_eq!(left(later(600)), Some(0));
        assert_eq!(left(Timestamp::ZERO), Some(60), "a clock that is not set yet");
    }

    #[test]
    fn the_last_word_on_a_network_counts() {
        let mut bans = bans(&[("192.0.2.1", 60), ("192.0.2.1", 30), ("192.0.2.0/24", 0)]);
        assert_eq!(bans.len(), 2);
        let over: Vec<_> = bans.expire(later(30)).iter().map(|ban| ban.network).collect();
        assert_eq!(over, [net("192.0.2.1")]);
    }

    #[test]
    fn a_network_is_lifted_with_all_that_lies_in_it() {
        let mut bans = bans(&[("192.0.2.1", 0), ("192.0.2.0/24", 0), ("192.0.0.0/16", 0)]);
        assert_eq!(bans.lift(&net("192.0.2.0/25")).len(), 1);
        assert_eq!(bans.lift(&net("192.0.2.0/24")).len(), 1);
        assert_eq!(bans.lift(&net("192.0.2.0/24")).len(), 0);
        assert_eq!(bans.len(), 1, "the wider one stays");
    }

    #[test]
    fn an_address_is_covered_by_any_ban_around_it() {
        let bans = bans(&[("192.0.2.0/24", 0), ("2001:db8::/32", 0)]);
        for (network, covered) in [
            ("192.0.2.77", true),
            ("192.0.2.0/24", true),
            ("192.0.2.0/23", false),
            ("192.0.3.1", false),
            ("2001:db8:1::/48", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(bans.covering(&net(network)).is_some(), covered, "{network}");
        }
    }
}
