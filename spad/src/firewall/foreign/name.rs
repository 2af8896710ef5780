//! Chains of other tables, by the words that `nft` knows them by.

use crate::firewall::ruleset::TABLE;
use netlink_packet_netfilter::NetfilterProtoFamily;
use nftnl::ProtoFamily;
use std::fmt;
use std::str::FromStr;

/// A family whose chains IP packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Both.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// A table's family and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) family: Family,
    pub(crate) name: String,
}

/// A chain in a table that is not ours, as people write it: `ip filter INPUT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainName {
    pub(crate) table: TableName,
    pub(crate) chain: String,
}

/// Why a text names no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChainName {
    /// It is not made of three words, or the first is no family.
    Form,
    /// It is in spad's own table.
    Own,
}

impl Family {
    const ALL: [Self; 3] = [Self::Inet, Self::Ip, Self::Ip6];

    const fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }

    /// As netlink messages have it.
    pub(crate) const fn protocol(self) -> NetfilterProtoFamily {
        match self {
            Self::Inet => NetfilterProtoFamily::Inet,
            Self::Ip => NetfilterProtoFamily::IPv4,
            Self::Ip6 => NetfilterProtoFamily::IPv6,
        }
    }

    /// As libnftnl has it.
    pub(crate) const fn of_nftnl(self) -> ProtoFamily {
        match self {
            Self::Inet => ProtoFamily::Inet,
            Self::Ip => ProtoFamily::Ipv4,
            Self::Ip6 => ProtoFamily::Ipv6,
        }
    }

    /// By its number in a netlink message; `None` for one without IP packets,
    /// or with packets that are not for this host.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| u8::from(family.protocol()) == number)
    }

    /// Whether packets of IPv6 (or of IPv4) pass its chains.
    pub(crate) fn has(self, v6: bool) -> bool {
        match self {
            Self::Inet => true,
            Self::Ip => !v6,
            Self::Ip6 => v6,
        }
    }
}

impl TableName {
    pub(crate) fn is_ours(&self) -> bool {
        self.family == Family::Inet && self.name == TABLE
    }
}

impl FromStr for ChainName {
    type Err = BadChainName;

    fn from_str(text: &str) -> Result<Self, BadChainName> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [family, table, chain] = words[..] else { return Err(BadChainName::Form) };
        let family = Family::ALL.into_iter().find(|known| known.word() == family);
        let family = family.ok_or(BadChainName::Form)?;
        let table = TableName { family, name: table.to_owned() };
        if table.is_ours() {
            return Err(BadChainName::Own);
        }
        Ok(Self { table, chain: chain.to_owned() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family.word(), self.name)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.chain)
    }
}

impl fmt::Display for BadChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => {
                "expected family (ip, ip6 or inet), table and chain, such as \"ip filter INPUT\""
            }
            Self::Own => "table inet spad is spad's own: name the chains of others",
        })
    }
}

impl std::error::Error for BadChainName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_three_words() {
        for text in ["ip filter INPUT", "ip6 filter INPUT", "inet firewalld filter_INPUT"] {
            assert_eq!(text.parse::<ChainName>().map(|name| name.to_string()), Ok(text.into()));
        }
        for text in ["", "filter INPUT", "ip filter INPUT now", "arp filter INPUT"] {
            assert_eq!(text.parse::<ChainName>(), Err(BadChainName::Form), "{text}");
        }
        assert_eq!("inet spad guard".parse::<ChainName>(), Err(BadChainName::Own));
    }
}
