//! Banned addresses in the kernel: two sets of intervals, which must not
//! overlap and are replaced as a whole.

use super::apply::Firewall;
use super::elements;
use super::error::FirewallError;
use super::netlink::Channel;
use super::numbers::{NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_KEY};
use super::requests::{self, ELEMENTS_PER_MESSAGE, End};
use super::rules::bans::SETS;
use super::transaction::{Subject, Transaction};
use super::wire;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

// linux/netfilter/nf_tables.h
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// Addresses of one family, from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
    /// After how long the kernel lets go of it; `None` for never.
    pub left: Option<Duration>,
}

impl Firewall {
    /// Bans these addresses and no others, in one transaction. Intervals do not
    /// overlap; those with less than a millisecond left are passed over.
    ///
    /// # Errors
    /// If the kernel refuses: then all is as it was.
    pub fn set_banned(&mut self, intervals: &[Interval]) -> Result<(), FirewallError> {
        let mut transaction = Transaction::new();
        replace(&mut transaction, intervals)?;
        self.channel.commit(transaction)
    }

    /// What is to be banned as soon as, and not before, the next ruleset is in
    /// force: in the same transaction. Without this, what is banned stays so.
    pub fn stage_banned(&mut self, intervals: Vec<Interval>) {
        self.staged = Some(intervals);
    }

    /// What is banned, IPv4 first, in the order of addresses.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn banned(&self) -> Result<Vec<Interval>, FirewallError> {
        read(&self.channel)
    }
}

/// All that is in the kernel's sets.
pub(super) fn read(channel: &Channel) -> Result<Vec<Interval>, FirewallError> {
    let lists = SETS.map(|set| elements::each_of(channel, set, end).map(|ends| paired(set, ends)));
    Ok(lists.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Empties the sets and fills them with these.
pub(super) fn replace(
    transaction: &mut Transaction,
    intervals: &[Interval],
) -> Result<(), FirewallError> {
    let alive = |i: &&Interval| i.left.is_none_or(|left| left.as_millis() > 0);
    for (set, v4) in SETS.into_iter().zip([true, false]) {
        let subject = || Subject::Elements(set.to_owned());
        transaction.push(subject(), requests::flush_set(set))?;
        let of_family = intervals.iter().filter(|i| i.first.is_ipv4() == v4).filter(alive);
        let ends: Vec<End> = of_family.flat_map(ends).collect();
        for ends in ends.chunks(ELEMENTS_PER_MESSAGE) {
            transaction.push(subject(), requests::add_ends(set, ends))?;
        }
    }
    Ok(())
}

/// An interval up to the last address there is has no end.
fn ends(interval: &Interval) -> impl Iterator<Item = End> + use<> {
    let behind = match interval.last {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|a| a.to_be_bytes().to_vec()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|a| a.to_be_bytes().to_vec()),
    };
    let first = match interval.first {
        IpAddr::V4(first) => first.octets().to_vec(),
        IpAddr::V6(first) => first.octets().to_vec(),
    };
    std::iter::once(End::First(first, interval.left)).chain(behind.map(End::Behind))
}

fn end(element: &[u8]) -> Option<End> {
    let value = |kind| wire::find(wire::nested(element), kind);
    let key = wire::nested(value(NFTA_SET_ELEM_KEY)?).next()?.1.to_vec();
    let flags = value(NFTA_SET_ELEM_FLAGS).map_or(0, wire::word);
    if flags & NFT_SET_ELEM_INTERVAL_END != 0 {
        return Some(End::Behind(key));
    }
    let left = value(NFTA_SET_ELEM_EXPIRATION).and_then(|v| v.try_into().ok());
    Some(End::First(key, left.map(|left| Duration::from_millis(u64::from_be_bytes(left)))))
}

/// Each beginning with the next end behind it.
fn paired(set: &str, ends: Vec<End>) -> Vec<Interval> {
    let (mut firsts, mut behind) = (Vec::new(), Vec::new());
    for end in ends {
        match end {
            End::First(key, left) => firsts.push((key, left)),
            End::Behind(key) => behind.push(key),
        }
    }
    firsts.sort_unstable();
    behind.sort_unstable();
    let highest = || vec![0xff; if set == SETS[0] { 4 } else { 16 }];
    let interval = |(first, left): (Vec<u8>, Option<Duration>)| {
        let next = behind.get(behind.partition_point(|key| *key <= first));
        let last = next.map_or_else(highest, |key| before(key));
        Some(Interval { first: address(&first)?, last: address(&last)?, left })
    };
    firsts.into_iter().filter_map(interval).collect()
}

/// The key before this one, which is not the first.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    key
}

fn address(key: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(key).ok().map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|| Some(Ipv6Addr::from(<[u8; 16]>::try_from(key).ok()?).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(first: &str, last: &str, seconds: u64) -> Interval {
        let left = (seconds > 0).then_some(Duration::from_secs(seconds));
        Interval { first: first.parse().unwrap(), last: last.parse().unwrap(), left }
    }

    #[test]
    fn ends_make_the_same_intervals_again() {
        let v4 = [
            interval("0.0.0.0", "9.255.255.255", 0),
            interval("10.0.0.0", "10.0.0.255", 60),
            interval("10.0.1.0", "10.0.1.0", 5),
            interval("240.0.0.0", "255.255.255.255", 0),
        ];
        let v6 = [
            interval("2001:db8::", "2001:db8::ffff", 60),
            interval("ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0),
        ];
        for (set, intervals) in SETS.into_iter().zip([&v4[..], &v6[..]]) {
            assert_eq!(paired(set, intervals.iter().flat_map(ends).collect()), intervals);
            assert_eq!(paired(set, intervals.iter().rev().flat_map(ends).collect()), intervals);
        }
    }
}
