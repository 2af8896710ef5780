//! What a client's record lets it ask for beyond a grant for one address in
//! its service's own mode.

use std::net::IpAddr;

use spa_proto::GrantMode;

/// The grant modes that a client may ask for; all of them unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Modes([bool; GrantMode::ALL.len()]);

impl Modes {
    /// Every mode.
    pub const ALL: Self = Self([true; GrantMode::ALL.len()]);

    /// Whether the client may ask for `mode`.
    #[must_use]
    pub fn contains(self, mode: GrantMode) -> bool {
        self.iter().any(|one| one == mode)
    }

    /// The modes, from the widest to the narrowest.
    pub fn iter(self) -> impl Iterator<Item = GrantMode> {
        GrantMode::ALL.into_iter().zip(self.0).filter_map(|(mode, there)| there.then_some(mode))
    }

    pub(crate) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl Default for Modes {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<GrantMode> for Modes {
    fn from_iter<I: IntoIterator<Item = GrantMode>>(modes: I) -> Self {
        let modes: Vec<_> = modes.into_iter().collect();
        Self(GrantMode::ALL.map(|mode| modes.contains(&mode)))
    }
}

/// The widest prefixes that a client may be granted, as their lengths in bits;
/// single addresses unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Widest {
    /// For IPv4: 8 to 32.
    pub v4: u8,
    /// For IPv6: 32 to 128.
    pub v6: u8,
}

impl Widest {
    /// One address of either family.
    pub const ADDRESS: Self = Self { v4: 32, v6: 128 };
    /// The widest there are.
    pub const ANY: Self = Self { v4: 8, v6: 32 };

    /// For the family of `address`.
    #[must_use]
    pub const fn of(self, address: IpAddr) -> u8 {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// What no record may say.
    pub(crate) fn check(self) -> Result<(), &'static str> {
        if !(8..=32).contains(&self.v4) {
            return Err("widest-ipv4 is a prefix length from 8 to 32");
        }
        if !(32..=128).contains(&self.v6) {
            return Err("widest-ipv6 is a prefix length from 32 to 128");
        }
        Ok(())
    }
}

impl Default for Widest {
    fn default() -> Self {
        Self::ADDRESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_a_set() {
        let modes: Modes =
            [GrantMode::Bound, GrantMode::Once, GrantMode::Bound].into_iter().collect();
        assert!(modes.contains(GrantMode::Once) && modes.contains(GrantMode::Bound));
        assert!(!modes.contains(GrantMode::Window));
        assert_eq!(modes.iter().collect::<Vec<_>>(), [GrantMode::Once, GrantMode::Bound]);
        assert!(GrantMode::ALL.into_iter().all(|mode| Modes::default().contains(mode)));
        assert!(Modes::from_iter([]).is_empty());
    }

    #[test]
    fn widths_go_by_family() {
        let widest = Widest { v4: 24, v6: 64 };
        assert_eq!(widest.of("192.0.2.1".parse().unwrap()), 24);
        assert_eq!(widest.of("2001:db8::1".parse().unwrap()), 64);
        assert_eq!(Widest::default().check(), Ok(()));
        for (v4, v6, fits) in
            [(8, 32, true), (7, 128, false), (33, 128, false), (32, 31, false), (32, 129, false)]
        {
            assert_eq!(Widest { v4, v6 }.check().is_ok(), fits, "{v4} {v6}");
        }
    }
}
