//! Grants in the kernel: added, taken out, listed.

use super::apply::Firewall;
use super::element::{Element, Terms};
use super::error::FirewallError;
use super::grant_set::GrantSet;
use super::netlink::Channel;
use super::numbers::{NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_LIST_ELEMENTS};
use super::requests::{self, ELEMENTS_PER_MESSAGE, KeyWithTimeout};
use super::transaction::{Subject, Transaction};
use super::wire::{self, Message};
use netlink_packet_netfilter::NetfilterProtoFamily;
use nix::libc::{EEXIST, ENOENT};
use std::collections::BTreeSet;
use std::time::Duration;

/// The message that does something with elements of a set.
type Request = fn(&str, &[KeyWithTimeout]) -> Vec<u8>;

/// The kernel's unit of time is not longer.
const TICK: Duration = Duration::from_millis(10);

impl Firewall {
    /// Adds `element` for `timeout` from now. If it is there already, that is
    /// the time it has left from now on, be it more or less than before; if it
    /// was used up, it can be used again.
    ///
    /// # Errors
    /// [`FirewallError::SetFull`]: others are untouched. [`FirewallError::BadElement`]
    /// for less than a millisecond.
    pub fn grant(&mut self, element: &Element, timeout: Duration) -> Result<(), FirewallError> {
        self.grant_all(&[(*element, timeout)])
    }

    /// As [`Firewall::grant`] for several elements, no two of them the same, in
    /// one transaction: all of them or, with an error, none.
    ///
    /// # Errors
    /// As [`Firewall::grant`], on account of any of them.
    pub fn grant_all(&mut self, grants: &[(Element, Duration)]) -> Result<(), FirewallError> {
        // Out and in again, because not every kernel changes the time of an
        // element that is there; and first in, because a transaction that fails
        // for want of one to take out costs ten milliseconds instead of 0.03.
        self.change(
            grants,
            &[requests::add_elements, requests::delete_elements, requests::add_elements],
        )
    }

    /// As [`Firewall::grant_all`], where none of them should be there: one message
    /// for three. Where one is nevertheless, it costs ten milliseconds more.
    ///
    /// # Errors
    /// As [`Firewall::grant`], on account of any of them.
    pub fn grant_new(&mut self, grants: &[(Element, Duration)]) -> Result<(), FirewallError> {
        match self.change(grants, &[requests::add_new_elements]) {
            Err(error) if is_there(&error) => self.grant_all(grants),
            result => result,
        }
    }

    /// What these requests do with all of them, one after the other, as one.
    fn change(
        &self,
        grants: &[(Element, Duration)],
        requests: &[Request],
    ) -> Result<(), FirewallError> {
        if grants.iter().any(|(_, timeout)| timeout.as_millis() == 0) {
            return Err(FirewallError::BadElement("its time is over".to_owned()));
        }
        let mut transaction = Transaction::new();
        for (set, elements) in by_set(grants.iter().map(|(e, timeout)| (e, Some(*timeout)))) {
            let set = self.name_of(&set)?;
            for elements in elements.chunks(ELEMENTS_PER_MESSAGE) {
                for request in requests {
                    transaction.push(elements_of(set), request(set, elements))?;
                }
            }
        }
        self.channel.commit(transaction)
    }

    /// Corrects the time of an element that was granted before: `left` from now.
    /// What has vanished comes back, except one for [`Terms::Once`], which may
    /// have been used; and what was used up stays used up. One whose set is not
    /// in the ruleset in force has gone with it.
    ///
    /// # Errors
    /// As [`Firewall::grant`].
    pub fn retime(&mut self, element: &Element, left: Duration) -> Result<(), FirewallError> {
        if !self.has_set_of(element) {
            return Ok(());
        }
        if element.terms != Terms::Once {
            return self.grant(element, left);
        }
        if self.left(element)?.is_none() {
            return Ok(());
        }
        let (set, elements) = (self.name_of(&element.set())?, [(element.key(), Some(left))]);
        let mut transaction = Transaction::new();
        transaction.push(elements_of(set), requests::add_elements(set, &elements))?;
        self.channel.commit(transaction)?;
        // Linux before 6.12 leaves the time as it is: better none than too much.
        match self.left(element)? {
            Some(still) if still > left + TICK => self.withdraw(&[*element]),
            _ => Ok(()),
        }
    }

    /// The time that an element has left; `None` if it is not there.
    fn left(&self, element: &Element) -> Result<Option<Duration>, FirewallError> {
        let key = element.key();
        let mut elements = list(&self.channel, self.name_of(&element.set())?)?.into_iter();
        Ok(elements.find(|(k, _)| *k == key).map(|(_, left)| left.unwrap_or(Duration::MAX)))
    }

    /// Removes elements; those that are not there are passed over, and those
    /// whose set is not in the ruleset in force: they have gone with it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn withdraw(&mut self, elements: &[Element]) -> Result<(), FirewallError> {
        let elements: Vec<_> = elements.iter().filter(|e| self.has_set_of(e)).copied().collect();
        if elements.is_empty() {
            return Ok(());
        }
        match self.put_in_and_out(&elements) {
            Err(FirewallError::SetFull { .. }) => {}
            result => return result,
        }
        // No room even for a moment: one by one, missing or not.
        let each = |element: &Element| {
            delete_if_there(&self.channel, &element.set().name(), element.key())
        };
        elements.iter().try_for_each(each)
    }

    /// Removes elements without a failure if one is missing. Nobody sees them
    /// in between: it is one transaction.
    fn put_in_and_out(&self, elements: &[Element]) -> Result<(), FirewallError> {
        // Each once: it can be taken out only once.
        let elements: BTreeSet<_> = elements.iter().collect();
        let mut transaction = Transaction::new();
        for (set, keys) in by_set(elements.into_iter().map(|element| (element, None))) {
            let set = &set.name();
            for keys in keys.chunks(ELEMENTS_PER_MESSAGE) {
                transaction.push(elements_of(set), requests::add_elements(set, keys))?;
                transaction.push(elements_of(set), requests::delete_elements(set, keys))?;
            }
        }
        self.channel.commit(transaction)
    }

    /// All grants in force, with the time each has left; [`Duration::MAX`] for
    /// one without end, which somebody else must have made.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn elements(&mut self) -> Result<Vec<(Element, Duration)>, FirewallError> {
        let mut grants = Vec::new();
        for (set, name) in &self.sets {
            for (key, left) in list(&self.channel, name)? {
                grants.extend(set.element(&key).map(|e| (e, left.unwrap_or(Duration::MAX))));
            }
        }
        Ok(grants)
    }

    fn has_set_of(&self, element: &Element) -> bool {
        self.sets.contains_key(&element.set())
    }

    fn name_of(&self, set: &GrantSet) -> Result<&str, FirewallError> {
        let unknown = || FirewallError::BadElement(format!("there is no set {}", set.name()));
        self.sets.get(set).map(String::as_str).ok_or_else(unknown)
    }
}

/// Each in the set that it belongs to; there are few sets.
fn by_set<'a>(
    elements: impl Iterator<Item = (&'a Element, Option<Duration>)>,
) -> Vec<(GrantSet, Vec<KeyWithTimeout>)> {
    let mut by_set: Vec<(GrantSet, Vec<KeyWithTimeout>)> = Vec::new();
    for (element, timeout) in elements {
        let (set, one) = (element.set(), (element.key(), timeout));
        match by_set.iter_mut().find(|(other, _)| *other == set) {
            Some((_, elements)) => elements.push(one),
            None => by_set.push((set, vec![one])),
        }
    }
    by_set
}

/// Deletes one element; that it is missing is no failure.
pub(super) fn delete_if_there(
    channel: &Channel,
    set: &str,
    key: Vec<u8>,
) -> Result<(), FirewallError> {
    let mut transaction = Transaction::new();
    transaction.push(elements_of(set), requests::delete_elements(set, &[(key, None)]))?;
    match channel.commit(transaction) {
        Err(e) if !is_missing(&e) => Err(e),
        _ => Ok(()),
    }
}

/// The keys of a set, with the time each has left.
pub(crate) fn list(channel: &Channel, set: &str) -> Result<Vec<KeyWithTimeout>, FirewallError> {
    each_of(channel, set, key_with_timeout)
}

/// What `read` makes of each element of a set. Read by hand: lists are long, and
/// the parser of `netlink-packet-netfilter` formats all that remains for each.
pub(super) fn each_of<T>(
    channel: &Channel,
    set: &str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, FirewallError> {
    let of_message = |message: &Message<'_>| -> Vec<T> {
        let lists =
            wire::attributes(message).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
        let elements = lists.flat_map(|(_, list)| wire::nested(list));
        elements.filter_map(|(_, element)| read(element)).collect()
    };
    let request = requests::list_elements(set);
    let lists = channel.list(NetfilterProtoFamily::Inet, request, |m| Ok(Some(of_message(&m))))?;
    Ok(lists.into_iter().flatten().collect())
}

fn key_with_timeout(element: &[u8]) -> Option<KeyWithTimeout> {
    let mut key = None;
    let mut left = None;
    for (kind, value) in wire::nested(element) {
        match kind {
            NFTA_SET_ELEM_KEY => key = wire::nested(value).next().map(|(_, key)| key.to_vec()),
            NFTA_SET_ELEM_EXPIRATION => left = value.try_into().ok().map(u64::from_be_bytes),
            _ => {}
        }
    }
    Some((key?, left.map(Duration::from_millis)))
}

pub(super) fn elements_of(set: &str) -> Subject {
    Subject::Elements(set.to_owned())
}

fn is_missing(error: &FirewallError) -> bool {
    is_refused_with(error, ENOENT)
}

fn is_there(error: &FirewallError) -> bool {
    is_refused_with(error, EEXIST)
}

fn is_refused_with(error: &FirewallError, number: i32) -> bool {
    let FirewallError::Refused { source, .. } = error else { return false };
    source.raw_os_error() == Some(number)
}
