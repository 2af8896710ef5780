//! Links: bridged local networks, routers between them, and tunnels without Ethernet header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::error::{Doing, Result, fail};
use super::host::{Host, finish};
use super::process::Running;
use super::{Lab, Output};

/// Which addresses a network gives its hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addressing {
    v4: bool,
    v6: bool,
    global: bool,
}

impl Addressing {
    /// 10.x and fd00:…, which no client takes for its global address.
    pub const PRIVATE: Self = Self { v4: true, v6: true, global: false };
    /// The same without IPv6.
    pub const V4_ONLY: Self = Self { v6: false, ..Self::PRIVATE };
    /// The same without IPv4.
    pub const V6_ONLY: Self = Self { v4: false, ..Self::PRIVATE };
    /// Documentation addresses, 203.0.113.x and 2001:db8:…, which count as global.
    pub const GLOBAL: Self = Self { global: true, ..Self::PRIVATE };

    fn v4(self, lan: u8, host: u8) -> Option<Ipv4Addr> {
        let address = if self.global {
            let [a, b, c] = [[203, 0, 113], [198, 51, 100], [192, 0, 2]][usize::from(lan % 3)];
            Ipv4Addr::new(a, b, c, host)
        } else {
            Ipv4Addr::new(10, 0, lan, host)
        };
        self.v4.then_some(address)
    }

    fn v6(self, lan: u8, host: u8) -> Option<Ipv6Addr> {
        let (lan, host) = (lan.into(), host.into());
        let address = if self.global {
            Ipv6Addr::new(0x2001, 0xdb8, lan, 0, 0, 0, 0, host)
        } else {
            Ipv6Addr::new(0xfd00, 0, lan, 0, 0, 0, 0, host)
        };
        self.v6.then_some(address)
    }
}

/// An interface of a host and what is on it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name on the host, such as `eth0`.
    pub name: String,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address, link-local ones aside.
    pub v6: Option<Ipv6Addr>,
}

impl Interface {
    /// All addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// A network: a bridge of the lab with hosts on it.
pub struct Lan<'lab> {
    lab: &'lab Lab,
    number: u8,
    addressing: Addressing,
    members: AtomicU8,
}

impl Lab {
    /// A network of these hosts with private addresses of both families.
    pub fn lan(&self, hosts: &[&Host]) -> Result<Lan<'_>> {
        self.lan_with(Addressing::PRIVATE, hosts)
    }

    /// A network of these hosts.
    pub fn lan_with(&self, addressing: Addressing, hosts: &[&Host]) -> Result<Lan<'_>> {
        let number = u8::try_from(self.next_lan()).doing("too many networks")?;
        let lan = Lan { lab: self, number, addressing, members: AtomicU8::new(0) };
        let bridge = lan.bridge();
        self.ip(&format!(
            "link add {bridge} type bridge forward_delay 0 mcast_snooping 0\nlink set {bridge} up\n"
        ))?;
        for host in hosts {
            lan.attach(host)?;
        }
        Ok(lan)
    }

    /// Runs lines of `ip` in the lab itself, where the bridges are.
    fn ip(&self, lines: &str) -> Result<Output> {
        let mut command = self.holder.entrance.command("ip");
        command.args(["-batch", "-"]);
        run_piped(command, "ip in the lab", lines)?.ok()
    }
}

fn run_piped(mut command: std::process::Command, name: &str, input: &str) -> Result<Output> {
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn()?, name.to_owned(), input)
}

impl Lan<'_> {
    /// Gives a host the next address, on a new interface `eth0`, `eth1`, ….
    pub fn attach(&self, host: &Host) -> Result<Interface> {
        self.attach_as(host, &format!("eth{}", host.interfaces().len()))
    }

    /// As [`Lan::attach`], on an interface of this name.
    pub fn attach_as(&self, host: &Host, name: &str) -> Result<Interface> {
        let number = self.members.fetch_add(1, Ordering::Relaxed) + 1;
        let interface = Interface {
            name: name.to_owned(),
            v4: self.addressing.v4(self.number, number),
            v6: self.addressing.v6(self.number, number),
        };
        self.connect(host, name)?;
        host.bring_up(&interface)?;
        host.add_interface(interface.clone());
        Ok(interface)
    }

    fn connect(&self, host: &Host, name: &str) -> Result {
        let (port, pid, bridge) = (self.lab.next_port(), host.inner_pid(), self.bridge());
        self.lab.ip(&format!(
            "link add port{port} type veth peer name {name} netns {pid}\n\
             link set port{port} master {bridge} up\n"
        ))?;
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("lan{}", self.number)
    }
}

impl Host {
    /// Runs lines of `ip`.
    pub fn ip(&self, lines: &str) -> Result {
        self.run_with_input(["ip", "-batch", "-"], lines)?.ok()?;
        Ok(())
    }

    /// Gives an interface this IPv4 address in place of the one that it has.
    pub fn change_v4(&self, name: &str, new: Ipv4Addr) -> Result {
        let interfaces = self.interfaces().into_iter();
        let mut found = interfaces.filter(|interface| interface.name == name);
        let Some(Interface { v4: Some(old), v6, .. }) = found.next() else {
            return fail(format!("{} has no IPv4 address on {name}", self.name()));
        };
        self.ip(&format!("address del {old}/24 dev {name}\naddress add {new}/24 dev {name}\n"))?;
        self.add_interface(Interface { name: name.to_owned(), v4: Some(new), v6 });
        Ok(())
    }

    fn bring_up(&self, interface: &Interface) -> Result {
        let name = &interface.name;
        let v4 = interface.v4.map(|address| format!("address add {address}/24 dev {name}\n"));
        let v6 = interface.v6.map(|address| format!("address add {address}/64 dev {name} nodad\n"));
        let addresses = v4.into_iter().chain(v6).collect::<String>();
        self.ip(&format!("link set {name} up\n{addresses}"))
    }

    /// Sends everything that is not local through this router.
    pub fn route_via(&self, router: &IpAddr) -> Result {
        self.ip(&format!("route add default via {router}\n"))
    }

    /// Makes this host forward packets of both families.
    pub fn forward(&self) -> Result {
        self.sysctl("net.ipv4.ip_forward", "1")?;
        self.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Makes this host hide what it forwards out of `interface` behind its own address.
    pub fn masquerade(&self, interface: &str) -> Result {
        self.forward()?;
        self.nft(&format!(
            "table inet lab_nat {{\n chain out {{\n type nat hook postrouting priority srcnat\n \
             oifname \"{interface}\" masquerade\n }}\n}}\n"
        ))?
        .ok()?;
        Ok(())
    }
}

/// A link of two tun interfaces, whose packets have no Ethernet header. It lasts as long as this.
pub struct Tunnel {
    _ends: [Running; 2],
}

impl Lab {
    /// Connects two hosts by interfaces named `tun0`, with addresses 10.99.0.1, fd99::1 and
    /// 10.99.0.2, fd99::2. Needs access to /dev/net/tun, which user namespaces may lack.
    pub fn tunnel(&self, hosts: [&Host; 2]) -> Result<Tunnel> {
        let socket = self.dir().join(format!("tun{}.sock", self.next_port()));
        let script = include_str!("tun.py");
        let open = |host: &Host| {
            let path = socket.display().to_string();
            let mut end = host.spawn(["python3", "-c", script, &path])?;
            end.wait_for("ready", Duration::from_secs(10))?;
            Ok::<_, super::LabError>(end)
        };
        let ends = [open(hosts[0])?, open(hosts[1])?];
        for (number, host) in [1, 2].into_iter().zip(hosts) {
            let interface = Interface {
                name: "tun0".to_owned(),
                v4: Some(Ipv4Addr::new(10, 99, 0, number)),
                v6: Some(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into())),
            };
            host.bring_up(&interface)?;
            host.add_interface(interface);
        }
        Ok(Tunnel { _ends: ends })
    }

    /// Whether [`Lab::tunnel`] can work here.
    pub fn has_tun(&self) -> bool {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        device.is_ok()
    }
}

impl Interface {
    /// Its link-local address.
    pub fn link_local(&self, host: &Host) -> Result<Ipv6Addr> {
        let shown = host.run(["ip", "-6", "-o", "addr", "show", "dev", &self.name])?.ok()?;
        let words = shown.stdout.split_whitespace();
        let mut found = words.filter_map(|word| word.strip_suffix("/64")?.parse().ok());
        match found.find(Ipv6Addr::is_unicast_link_local) {
            Some(address) => Ok(address),
            None => fail(format!("{} has no link-local address: {}", self.name, shown.stdout)),
        }
    }
}
