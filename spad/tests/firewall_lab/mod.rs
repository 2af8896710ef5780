//! Hosts for the firewall's tests: each is a network namespace that lives as
//! long as its value, and threads that go there.

#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;
use spa_proto::Prefix;
use spad::firewall::plan::{Access, Labels, Managed, Mode, Ports, Service};
use spad::firewall::{
    Element, Firewall, FirewallError, Installed, Options, Plan, PortRange, Protocol, Ruleset,
    Terms, rules,
};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub mod raw;
pub mod scene;

/// How long to wait for what ought not to come.
pub const SOON: Duration = Duration::from_millis(400);
/// How long to wait for what ought to come, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const KNOCK_PORT: u16 = 62201;
pub const LABELS: Labels = Labels { granted: 103, cut: 104 };

/// Runs a test's body where it may make network namespaces: here for root, else
/// in a copy of the test program inside a user namespace.
pub fn isolated(test: &str, body: impl FnOnce()) {
    if nix::unistd::geteuid().is_root() {
        return body();
    }
    let program = std::env::current_exe().expect("own path");
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .status()
        .expect("unshare, of the Debian package util-linux");
    assert!(status.success(), "{test} failed in its user namespace");
}

/// A host: a network namespace.
pub struct Host(File);

impl Host {
    /// A host with nothing but its loopback interface.
    pub fn new() -> Self {
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            sh("ip link set lo up; sysctl -qw net.ipv6.conf.default.accept_dad=0");
            File::open("/proc/thread-self/ns/net").expect("its file")
        });
        Self(namespace.join().expect("a host"))
    }

    /// Runs `work` on this host and returns what it returns.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("going to the host");
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` on this host, and does not wait for it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.0.try_clone().expect("the host's file");
        thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("going to the host");
            work()
        })
    }

    /// A firewall here, with this ruleset in force.
    pub fn firewall(&self, options: Options, ruleset: &Ruleset) -> (Firewall, Installed) {
        let mut firewall = self.run(|| Firewall::open_with(options)).expect("a firewall");
        let installed = self.install_when_free(&mut firewall, ruleset);
        (firewall, installed)
    }

    /// Installs a ruleset, after waiting for a firewall that was dropped: as
    /// long as another test is about to run a program, that has its socket too.
    pub fn install_when_free(&self, firewall: &mut Firewall, ruleset: &Ruleset) -> Installed {
        let began = Instant::now();
        loop {
            match self.run(|| firewall.install(ruleset)) {
                Ok(installed) => return installed,
                Err(FirewallError::OwnedByOther { .. }) if began.elapsed() < PATIENCE => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Deletes our table as somebody else would, after waiting likewise.
    pub fn delete_when_free(&self) {
        self.sh("for n in $(seq 100); do nft delete table inet spad 2>&1 && exit 0; sleep 0.1; done; exit 1");
    }

    /// A firewall that shuts ssh here.
    pub fn guarded(&self) -> Firewall {
        self.firewall(Options::default(), &ssh_only()).0
    }

    /// Runs shell commands, which have to succeed; returns what they print.
    pub fn sh(&self, commands: &str) -> String {
        self.run(|| sh(commands))
    }

    /// Runs shell commands; returns what they complain of if they fail.
    pub fn try_sh(&self, commands: &str) -> Result<String, String> {
        self.run(|| try_sh(commands, ""))
    }

    /// Loads a ruleset as somebody else would.
    pub fn nft(&self, ruleset: &str) {
        self.run(|| try_sh("nft -f -", ruleset)).unwrap_or_else(|e| panic!("{e}\n{ruleset}"));
    }

    /// A table as `nft` lists it, without what it has counted, and without the
    /// table's own flags and owner, of which nft 1.0.6 does not know all.
    pub fn listed(&self, table: &str) -> Vec<String> {
        let text = self.sh(&format!("nft -s list table {table}"));
        let line = |line: &str| line.split(" # ").next().unwrap_or_default().to_owned();
        text.lines().map(line).filter(|l| !l.is_empty() && !l.starts_with("\tflags ")).collect()
    }

    /// Packets that the rule with this comment has counted.
    pub fn counted(&self, table: &str, comment: &str) -> u64 {
        let text = self.sh(&format!("nft -j list table {table}"));
        let all: Value = serde_json::from_str(&text).expect("JSON of nft");
        let rules = all["nftables"].as_array().expect("objects").iter().map(|o| &o["rule"]);
        let rules: Vec<_> = rules.filter(|r| r["comment"] == comment).collect();
        assert_eq!(rules.len(), 1, "one rule {comment} in {text}");
        let counters = rules[0]["expr"].as_array().expect("statements").iter();
        counters.filter_map(|s| s["counter"]["packets"].as_u64()).sum()
    }

    /// Serves every port with an echo, TCP and UDP, IPv4 and IPv6.
    pub fn echo(&self, ports: &[u16]) {
        for &port in ports {
            let listener = self.run(|| TcpListener::bind(("::", port)).expect("a port"));
            thread::spawn(move || listener.incoming().flatten().for_each(serve));
            let socket = self.run(|| UdpSocket::bind(("::", port)).expect("a port"));
            thread::spawn(move || serve_udp(&socket));
        }
    }

    /// Connects; an echo has come back.
    pub fn connect(&self, to: SocketAddr) -> Option<TcpStream> {
        self.run(|| {
            let stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
            alive(&stream).then_some(stream)
        })
    }

    /// Whether there is an answer to an attempt to connect.
    pub fn reaches(&self, to: SocketAddr) -> bool {
        self.connect(to).is_some()
    }

    /// Whether there is none.
    pub fn shut_out(&self, to: SocketAddr) -> bool {
        self.run(|| TcpStream::connect_timeout(&to, SOON).is_err())
    }

    /// Connects from a port of one's own choice.
    pub fn connect_from(&self, port: u16, to: SocketAddr) -> Option<TcpStream> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        self.connect_as(SocketAddr::new(any, port), to)
    }

    /// Connects from an address and port of one's own choice; an echo has come back.
    pub fn connect_as(&self, from: SocketAddr, to: SocketAddr) -> Option<TcpStream> {
        self.run(|| dial(from, to, PATIENCE).filter(alive))
    }

    /// Whether there is no answer to an attempt to connect from there.
    pub fn shut_out_from(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.run(|| dial(from, to, SOON).is_none())
    }

    /// Whether an echo comes back from a UDP port within this time.
    pub fn udp_echo(&self, from_port: u16, to: SocketAddr, within: Duration) -> bool {
        self.run(|| {
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = bound((any, from_port));
            socket.set_read_timeout(Some(within)).expect("a timeout");
            let sent = socket.send_to(b"hello", to);
            sent.is_ok() && socket.recv_from(&mut [0; 16]).is_ok()
        })
    }
}

/// A socket at a port that another has just left: a child that another thread is starting
/// has that one too, until it is the program that it is to be.
fn bound(at: (&str, u16)) -> UdpSocket {
    let tries = std::iter::repeat_with(|| UdpSocket::bind(at).inspect_err(|_| pause()));
    tries.take(100).find_map(Result::ok).expect("a port")
}

fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Joins two hosts by a cable; each end has the name and the addresses given.
pub fn cable(a: (&Host, &str, &str), b: (&Host, &str, &str)) {
    let there = format!("/proc/{}/fd/{}", std::process::id(), b.0.0.as_raw_fd());
    a.0.sh(&format!("ip link add {} type veth peer name {} netns {there}", a.1, b.1));
    for (host, device, addresses) in [a, b] {
        host.sh(&format!("ip link set {device} up"));
        for address in addresses.split(' ') {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            host.sh(&format!("ip addr add {address} dev {device} {nodad}"));
        }
    }
}

/// A server with echoes on some ports, a client and a stranger, all on one
/// cable each: 10.0.N.1 and 2001:db8:N::1 is the server, .2 and ::2 the other.
pub struct Net {
    pub server: Host,
    pub client: Host,
    pub stranger: Host,
}

impl Net {
    pub fn new() -> Self {
        let net = Self { server: Host::new(), client: Host::new(), stranger: Host::new() };
        for (n, host) in [(1, &net.client), (2, &net.stranger)] {
            let ours =
                (&net.server, &*format!("s{n}"), &*format!("10.0.{n}.1/24 2001:db8:{n}::1/64"));
            cable(ours, (host, "c0", &format!("10.0.{n}.2/24 2001:db8:{n}::2/64")));
            host.sh(&format!(
                "ip route add default via 10.0.{n}.1; ip -6 route add default via 2001:db8:{n}::1"
            ));
        }
        net.server.echo(&[22, 80, 2222]);
        net
    }

    /// Sends packets from one of the other hosts to the server, and waits until
    /// the server has seen the last.
    pub fn send(&self, probe: &Probe<'_>, from: &Host, packets: &[Vec<u8>]) {
        let near = if std::ptr::eq(from, &self.client) { [10, 0, 1, 1] } else { [10, 0, 2, 1] };
        let seen = || probe.count("ping");
        let before = seen();
        let ping = raw::ip([0; 4].into(), near.into(), raw::ICMP, &raw::icmp_echo());
        raw::send(from, &[packets, &[ping]].concat());
        let began = Instant::now();
        while seen() == before {
            assert!(began.elapsed() < PATIENCE, "no ping has come");
        }
    }
}

/// How many packets for these ports reach the server's sockets, whatever comes
/// before. Counts behind everybody else's input chains.
pub struct Probe<'a>(&'a Host);

impl<'a> Probe<'a> {
    pub fn on(host: &'a Host) -> Self {
        host.nft(
            "table inet probe { chain input { type filter hook input priority 300; \n\
             iif lo accept\n\
             tcp dport 22 counter comment \"tcp\"\n\
             udp dport { 22, 500, 62201 } counter comment \"udp\"\n\
             icmp type echo-request counter comment \"ping\"\n\
             icmp type destination-unreachable counter comment \"icmp\"\n }\n\
             chain output { type filter hook output priority 300; \n\
             icmp type destination-unreachable counter comment \"unreachable4\"\n\
             icmpv6 type destination-unreachable counter comment \"unreachable6\"\n }\n }\n",
        );
        Self(host)
    }

    pub fn count(&self, what: &str) -> u64 {
        self.0.counted("inet probe", what)
    }
}

/// Guard mode with ssh, and grants for whatever address of this host.
pub fn plan() -> Plan {
    Plan {
        mode: Mode::Guard,
        knock_port: KNOCK_PORT,
        services: vec![service("ssh", Protocol::Tcp, &[(22, 22)])],
        trusted: Vec::new(),
        labels: LABELS,
        mark_bit: 30,
        set_size: 65536,
        destination: false,
        widths4: vec![24],
        widths6: vec![64],
        absolute_bans: false,
        managed: Managed::default(),
    }
}

pub fn ssh_only() -> Ruleset {
    rules::ruleset(&plan())
}

pub fn service(name: &str, protocol: Protocol, ports: &[(u16, u16)]) -> Service {
    let range = |(a, b): &(u16, u16)| PortRange::new(*a, *b).expect("a range");
    Service {
        name: name.parse().expect("a name"),
        ports: ports.iter().map(|p| Ports { protocol, range: range(p) }).collect(),
        access: Access::Knock,
        target: None,
    }
}

pub fn network(address: &str, len: u8) -> Prefix {
    Prefix::of(address.parse().expect("an address"), len)
}

/// A grant for ssh, or for the service of this name.
pub fn element(source: &str) -> Element {
    element_of("ssh", source)
}

pub fn element_of(service: &str, source: &str) -> Element {
    Element {
        service: service.parse().expect("a name"),
        source: Prefix::of(source.parse().expect("an address"), 128),
        destination: None,
        terms: Terms::Window,
    }
}

pub fn unowned() -> Options {
    Options { own: false, ..Options::default() }
}

pub fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address and port")
}

/// Connects, after waiting for the socket that had this port before: as long as
/// another test is about to run a program, that has it too.
pub fn dial(from: SocketAddr, to: SocketAddr, within: Duration) -> Option<TcpStream> {
    let began = Instant::now();
    loop {
        match dial_once(from, to, within) {
            Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) if began.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result.ok(),
        }
    }
}

fn dial_once(from: SocketAddr, to: SocketAddr, within: Duration) -> nix::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::milliseconds(within.as_millis().try_into().expect("a time"));
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::SendTimeout, &limit)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}

/// The next connection to a port.
pub fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let waiting = poll(&mut fds, PollTimeout::from(10_000_u16)).expect("poll");
    (waiting > 0).then(|| listener.accept().expect("a connection").0)
}

/// Whether what is sent comes back.
pub fn alive(stream: &TcpStream) -> bool {
    let mut stream = stream;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut [0; 5]).is_ok()
}

fn serve(mut stream: TcpStream) {
    thread::spawn(move || {
        let mut reading = stream.try_clone().expect("a second handle");
        std::io::copy(&mut reading, &mut stream)
    });
}

fn serve_udp(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..len], from);
    }
}

fn sh(commands: &str) -> String {
    try_sh(commands, "").unwrap_or_else(|e| panic!("{e}"))
}

fn try_sh(commands: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new("sh")
        .args(["-ec", commands])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("writing");
    let output = child.wait_with_output().expect("its end");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() {
        return Ok(text(output.stdout));
    }
    Err(format!("{commands}: {}", text(output.stderr)))
}
