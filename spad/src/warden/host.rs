//! What the warden knows of this host: its addresses, and the indices of the
//! interfaces where knocks are heard.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use spa_proto::Prefix;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::Interfaces;
use crate::sys::ready;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of
/// `linux/rtnetlink.h`.
const LINKS_AND_ADDRESSES: u32 = 0x1 | 0x10 | 0x100;

/// Addresses and interfaces, as the kernel tells of their changes.
pub(super) struct Host {
    news: AsyncFd<OwnedFd>,
    addresses: Option<HashSet<IpAddr>>,
    /// News that [`Self::is_own`] has read, and [`Self::changed`] has not told yet.
    unheard: bool,
}

/// Which of the configured interfaces are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// Indices of those that are; `None` where all are listened on.
    pub(super) indices: Option<Vec<u32>>,
    /// Names of those that are not.
    pub(super) missing: Vec<String>,
}

impl Host {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 of netlink is rtnetlink.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, LINKS_AND_ADDRESSES))?;
        Ok(Self {
            news: ready::register(socket, Interest::READABLE)?,
            addresses: None,
            unheard: false,
        })
    }

    /// Waits until an interface or an address has changed.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.unheard) {
            self.news.async_io(Interest::READABLE, |socket| drain(socket).and_then(heard)).await?;
        }
        self.addresses = None;
        Ok(())
    }

    /// Whether this is an address of this host, or a broadcast address of one
    /// of its networks. Where that cannot be found out, it is.
    pub(super) fn is_own(&mut self, address: IpAddr) -> bool {
        self.addresses().is_none_or(|own| own.contains(&address))
    }

    /// The first such address in a network. Where that cannot be found out, it
    /// is the network's own first.
    pub(super) fn own_in(&mut self, network: &Prefix) -> Option<IpAddr> {
        match self.addresses() {
            Some(own) => own.iter().copied().filter(|own| network.contains(*own)).min(),
            None => Some(network.address()),
        }
    }

    fn addresses(&mut self) -> Option<&HashSet<IpAddr>> {
        // Changes that came but were not waited for yet.
        if drain(self.news.get_ref()).unwrap_or(true) {
            self.addresses = None;
            self.unheard = true;
        }
        if self.addresses.is_none() {
            self.addresses = addresses().ok();
        }
        self.addresses.as_ref()
    }

    pub(super) fn present(&self, interfaces: &Interfaces) -> Present {
        let Interfaces::Named(names) = interfaces else { return Present::default() };
        let mut present = Present { indices: Some(Vec::new()), missing: Vec::new() };
        for name in names {
            // Any socket will do to ask with.
            match netdevice_index(self.news.get_ref(), name) {
                Some(index) => present.indices.get_or_insert_default().push(index),
                None => present.missing.push(name.clone()),
            }
        }
        present
    }
}

fn netdevice_index(socket: impl AsFd, name: &str) -> Option<u32> {
    rustix::net::netdevice::name_to_index(socket, name).ok()
}

/// All addresses of this host, and the broadcast addresses of its networks.
pub(crate) fn addresses() -> nix::Result<HashSet<IpAddr>> {
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    let all = getifaddrs()?.flat_map(|interface| {
        let [address, mask, broadcast] =
            [interface.address, interface.netmask, interface.broadcast].map(|a| a.and_then(ip));
        [address, broadcast, address.zip(mask).and_then(|(address, mask)| last(address, mask))]
    });
    Ok(all.flatten().collect())
}

/// The last address of a network of IPv4: the kernel takes it as the broadcast address also
/// where no interface says so. Networks of two addresses, and of one, have none.
fn last(address: IpAddr, mask: IpAddr) -> Option<IpAddr> {
    let (IpAddr::V4(address), IpAddr::V4(mask)) = (address, mask) else { return None };
    let hosts = !mask.to_bits();
    (hosts > 1).then(|| Ipv4Addr::from_bits(address.to_bits() | hosts).into())
}

/// Reads all there is; whether there was any. Of what it says nothing is needed, so that
/// the kernel throws away all but the first byte.
fn drain(socket: &OwnedFd) -> io::Result<bool> {
    let mut any = false;
    loop {
        match recv(socket, &mut [0; 1], RecvFlags::DONTWAIT) {
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => any = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(any),
            Err(error) => return Err(error.into()),
        }
    }
}

fn heard(any: bool) -> io::Result<()> {
    if any { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_of_a_network_is_for_all_of_it() {
        for (address, mask, expected) in [
            ("10.0.0.1", "255.255.255.0", Some("10.0.0.255")),
            ("10.0.0.9", "255.255.255.252", Some("10.0.0.11")),
            ("10.0.0.8", "255.255.255.254", None),
            ("10.0.0.9", "255.255.255.255", None),
            ("2001:db8::1", "ffff::", None),
        ] {
            let [address, mask] = [address, mask].map(|text| text.parse().unwrap());
            assert_eq!(last(address, mask), expected.map(|text| text.parse().unwrap()));
        }
    }
}
