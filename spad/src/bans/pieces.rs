//! Networks that overlap, as intervals that do not: a sweep from the lowest
//! address to the highest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use spa_proto::Prefix;

use crate::firewall::Interval;

/// What changes at an address.
#[derive(Clone, Copy)]
enum Edge {
    Begins(Time),
    Ends(Time),
    Spared,
    NotSpared,
}

/// How long a ban lasts; [`FOR_EVER`] is more than any other.
type Time = Duration;
const FOR_EVER: Time = Duration::MAX;

/// What is in force at the address that the sweep has reached.
#[derive(Default)]
struct Sweep {
    edges: BTreeMap<u128, Vec<Edge>>,
    /// How many bans of each length.
    bans: BTreeMap<Time, usize>,
    spared: usize,
}

/// The intervals in which something of `banned` is in force and nothing of
/// `spared`, each with the longest time.
pub(super) fn cut(
    banned: impl Iterator<Item = (Prefix, Option<Duration>)>,
    spared: &[Prefix],
) -> Vec<Interval> {
    let (mut v4, mut v6) = (Sweep::default(), Sweep::default());
    let family = |network: &Prefix| network.address().is_ipv4();
    for (network, left) in banned {
        let left = left.unwrap_or(FOR_EVER);
        let sweep = if family(&network) { &mut v4 } else { &mut v6 };
        sweep.add(&network, Edge::Begins(left), Edge::Ends(left));
    }
    for network in spared {
        let sweep = if family(network) { &mut v4 } else { &mut v6 };
        sweep.add(network, Edge::Spared, Edge::NotSpared);
    }
    let mut pieces = v4.pieces(u32::MAX.into(), |bits| {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)))
    });
    pieces.extend(v6.pieces(u128::MAX, |bits| IpAddr::V6(Ipv6Addr::from(bits))));
    pieces
}

impl Sweep {
    fn add(&mut self, network: &Prefix, first: Edge, behind: Edge) {
        let (low, high) = ends(network);
        self.edges.entry(low).or_default().push(first);
        // Behind the highest address there is nothing to come.
        if let Some(next) = high.checked_add(1) {
            self.edges.entry(next).or_default().push(behind);
        }
    }

    fn pieces(mut self, highest: u128, address: impl Fn(u128) -> IpAddr) -> Vec<Interval> {
        let mut pieces: Vec<(u128, u128, Time)> = Vec::new();
        let edges = std::mem::take(&mut self.edges);
        let mut next = edges.keys().skip(1);
        for (low, changes) in &edges {
            changes.iter().for_each(|edge| self.pass(*edge));
            let high = next.next().map_or(highest, |next| next - 1);
            let Some(time) = self.in_force() else { continue };
            match pieces.last_mut() {
                Some((_, last, same)) if *last + 1 == *low && *same == time => *last = high,
                _ => pieces.push((*low, high, time)),
            }
        }
        let interval = |(first, last, time)| Interval {
            first: address(first),
            last: address(last),
            left: (time != FOR_EVER).then_some(time),
        };
        pieces.into_iter().map(interval).collect()
    }

    fn pass(&mut self, edge: Edge) {
        match edge {
            Edge::Begins(time) => *self.bans.entry(time).or_default() += 1,
            Edge::Ends(time) => {
                let count = self.bans.entry(time).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.bans.remove(&time);
                }
            }
            Edge::Spared => self.spared += 1,
            Edge::NotSpared => self.spared = self.spared.saturating_sub(1),
        }
    }

    fn in_force(&self) -> Option<Time> {
        self.bans.last_key_value().filter(|_| self.spared == 0).map(|(time, _)| *time)
    }
}

/// The lowest and the highest address, as numbers.
fn ends(network: &Prefix) -> (u128, u128) {
    let (low, bits) = match network.address() {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let free = bits - u32::from(network.prefix_len());
    (low, low | 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Prefix {
        spa_keys::cidr::parse(text).unwrap()
    }

    fn banned(list: &[(&str, u64)]) -> Vec<(Prefix, Option<Duration>)> {
        let left = |seconds: u64| (seconds > 0).then_some(Duration::from_secs(seconds));
        list.iter().map(|(network, seconds)| (net(network), left(*seconds))).collect()
    }

    fn pieces(list: &[(&str, u64)], spared: &[&str]) -> Vec<String> {
        let spared: Vec<_> = spared.iter().map(|text| net(text)).collect();
        let show = |i: &Interval| {
            let left = i.left.map_or("ever".to_owned(), |left| left.as_secs().to_string());
            format!("{}-{} {left}", i.first, i.last)
        };
        cut(banned(list).into_iter(), &spared).iter().map(show).collect()
    }

    #[test]
    fn separate_bans_stay_separate() {
        let list = [("192.0.2.9", 5), ("10.0.0.0/8", 0), ("2001:db8::/32", 7)];
        let both = ["10.0.0.0-10.255.255.255 ever", "192.0.2.9-192.0.2.9 5"];
        let v6 = "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 7";
        assert_eq!(pieces(&list, &[]), [&both[..], &[v6]].concat());
        assert!(pieces(&[], &["10.0.0.0/8"]).is_empty());
    }

    #[test]
    fn the_longest_of_several_counts() {
        let around = [("10.0.0.0/24", 60)];
        let shorter = [("10.0.0.0/24", 60), ("10.0.0.7", 5)];
        assert_eq!(pieces(&shorter, &[]), pieces(&around, &[]));
        let longer = [("10.0.0.0/24", 60), ("10.0.0.7", 0)];
        let three = ["10.0.0.0-10.0.0.6 60", "10.0.0.7-10.0.0.7 ever", "10.0.0.8-10.0.0.255 60"];
        assert_eq!(pieces(&longer, &[]), three);
    }

    #[test]
    fn neighbours_of_one_length_are_one_piece() {
        let list = [("10.0.0.0/25", 60), ("10.0.0.128/25", 60)];
        assert_eq!(pieces(&list, &[]), ["10.0.0.0-10.0.0.255 60"]);
    }

    #[test]
    fn what_is_spared_is_cut_out() {
        let list = [("10.0.0.0/24", 0)];
        let around = ["10.0.0.0-10.0.0.15 ever", "10.0.0.32-10.0.0.255 ever"];
        assert_eq!(pieces(&list, &["10.0.0.16/28"]), around);
        assert!(pieces(&list, &["10.0.0.0/8"]).is_empty());
        assert!(pieces(&list, &["10.0.0.0/8", "10.0.0.0/25"]).is_empty());
        assert_eq!(pieces(&list, &["::/0"]).len(), 1, "families do not mix");
    }

    #[test]
    fn the_ends_of_both_families_are_reached() {
        let list = [("255.255.255.254/31", 0), ("ffff::/16", 0), ("0.0.0.0/31", 3), ("::/127", 3)];
        let last = "ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ever";
        let v4 = ["0.0.0.0-0.0.0.1 3", "255.255.255.254-255.255.255.255 ever"];
        assert_eq!(pieces(&list, &[]), [&v4[..], &["::-::1 3", last]].concat());
        assert_eq!(pieces(&list, &["0.0.0.0/0", "::/0"]), [""; 0]);
    }

    /// Against the definition, address by address.
    #[test]
    fn says_the_same_as_the_list() {
        let mut seed = 1_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        for round in 0..500 {
            let mut network = || {
                Prefix::of(Ipv4Addr::from(random(64)).into(), 26 + u8::try_from(random(7)).unwrap())
            };
            let nets: Vec<_> = (0..8).map(|_| network()).collect();
            let spared: Vec<_> = (0..2).map(|_| network()).collect();
            let left = |n: usize| {
                (n > 0).then_some(Duration::from_secs(u64::try_from(n % 4).unwrap() + 1))
            };
            let list: Vec<_> = nets.iter().enumerate().map(|(n, net)| (*net, left(n))).collect();
            let pieces = cut(list.iter().copied(), &spared);
            for bits in 0..70 {
                let address = IpAddr::V4(Ipv4Addr::from(bits));
                let spared = spared.iter().any(|net| net.contains(address));
                let bans = list.iter().filter(|(net, _)| !spared && net.contains(address));
                let wanted = bans.map(|(_, left)| left.unwrap_or(FOR_EVER)).max();
                let mut found = pieces.iter().filter(|i| i.first <= address && address <= i.last);
                let given = found.next().map(|i| i.left.unwrap_or(FOR_EVER));
                assert_eq!((given, found.next()), (wanted, None), "round {round}, {address}");
            }
        }
    }
}
