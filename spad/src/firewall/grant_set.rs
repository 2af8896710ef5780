//! The sets that hold grants: one for each service, family, kind of terms and
//! width, so that a packet costs one look-up in each, whoever holds how many.

use super::element::{Element, Terms};
use super::ruleset::{Datatype, Field, Limit, Set, Side};
use spa_proto::{Prefix, ServiceName};
use std::net::{IpAddr, SocketAddr};

/// One of these sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantSet {
    /// What its elements open.
    pub service: ServiceName,
    /// On which terms; a source port stands in the elements, and is 0 here.
    pub terms: Terms,
    /// For IPv4, else for IPv6.
    pub v4: bool,
    /// How many bits of the source an element fixes.
    pub width: u8,
    /// Whether an element names one of this host's addresses too.
    pub destination: bool,
}

impl GrantSet {
    /// The same, without what stands in the elements.
    pub(crate) fn normal(self) -> Self {
        let terms = match self.terms {
            Terms::Bound(_) => Terms::Bound(0),
            terms => terms,
        };
        Self { terms, ..self }
    }

    /// Its name in the table: `once6_ssh`, `window4_24_ssh`.
    #[must_use]
    pub fn name(&self) -> String {
        let family = if self.v4 { 4 } else { 6 };
        let width = if self.is_wide() { format!("_{}", self.width) } else { String::new() };
        format!("{}{family}{width}_{}", self.terms.mode().name(), self.service)
    }

    /// Whether its elements are for more than one source address.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        usize::from(self.width) < self.address_len() * 8
    }

    /// As it is defined in the table.
    pub(crate) fn definition(&self, size: u32) -> Set {
        Set {
            name: self.name(),
            key: self.fields().into_iter().map(Field::datatype).collect::<Vec<Datatype>>(),
            dynamic: false,
            interval: false,
            limit: (self.terms == Terms::Once).then_some(Limit::ONCE),
            timeout: None,
            size,
        }
    }

    /// What of a packet is looked up in it.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let source = match (self.v4, self.is_wide()) {
            (true, false) => Field::Ipv4(Side::Source),
            (false, false) => Field::Ipv6(Side::Source),
            (true, true) => Field::Ipv4Net(self.width),
            (false, true) => Field::Ipv6Net(self.width),
        };
        let to = if self.v4 { Field::Ipv4 } else { Field::Ipv6 };
        let destination = self.destination.then_some(to(Side::Destination));
        let port = matches!(self.terms, Terms::Bound(_)).then_some(Field::Port(Side::Source));
        std::iter::once(source).chain(destination).chain(port).collect()
    }

    /// The element that lets a connection in with these ends, if it is there.
    #[must_use]
    pub fn element_for(&self, source: SocketAddr, destination: IpAddr) -> Element {
        let terms = match self.terms {
            Terms::Bound(_) => Terms::Bound(source.port()),
            terms => terms,
        };
        Element {
            service: self.service,
            source: Prefix::of(source.ip(), self.width),
            destination: self.destination.then_some(destination),
            terms,
        }
    }

    /// The element that a key stands for; `None` for one that is not ours.
    pub(crate) fn element(&self, key: &[u8]) -> Option<Element> {
        let (source, rest) = key.split_at_checked(self.address_len())?;
        let source = Prefix::new(address(source)?, self.width)?;
        let (destination, rest) = match self.destination {
            true => rest.split_at_checked(self.address_len())?,
            false => (&[][..], rest),
        };
        let destination = address(destination);
        let terms = match (self.terms, rest) {
            (Terms::Bound(_), &[high, low, _, _]) => Terms::Bound(u16::from_be_bytes([high, low])),
            (Terms::Bound(_), _) => return None,
            (terms, _) => terms,
        };
        Some(Element { service: self.service, source, destination, terms })
    }

    fn address_len(&self) -> usize {
        if self.v4 { 4 } else { 16 }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(source: &str, destination: Option<&str>, terms: Terms) -> Element {
        let (address, len) = source.split_once('/').unwrap();
        Element {
            service: "ssh".parse().unwrap(),
            source: Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap(),
            destination: destination.map(|text| text.parse().unwrap()),
            terms,
        }
    }

    #[test]
    fn elements_survive_the_way_into_their_set_and_back() {
        for (element, set) in [
            (element("192.0.2.1/32", None, Terms::Window), "window4_ssh"),
            (element("192.0.2.1/32", Some("10.0.0.1"), Terms::Once), "once4_ssh"),
            (element("192.0.2.0/24", Some("10.0.0.1"), Terms::Window), "window4_24_ssh"),
            (element("2001:db8::1/128", Some("2001:db8::9"), Terms::Bound(40000)), "bound6_ssh"),
            (element("2001:db8::/64", None, Terms::Once), "once6_64_ssh"),
        ] {
            assert_eq!(element.set().name(), set);
            assert_eq!(element.set().element(&element.key()), Some(element));
            assert_eq!(element.set().element(&element.key()[1..]), None);
        }
    }
}
