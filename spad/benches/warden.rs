//! What the warden's steps cost: journal, firewall, channel. `cargo bench -p spad`, as root: the
//! firewall is that of a network namespace of its own.

#![expect(clippy::unwrap_used, reason = "as in a test")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Duration;

use divan::Bencher;
use nix::sched::{CloneFlags, unshare};
use spa_proto::{Kid, Nonce, Prefix, Replay, ServerSecret, Timestamp};
use spad::config::Config;
use spad::firewall::{Element, Firewall, Terms};
use spad::ipc::{Channel, ToGate};
use spad::journal::{BootId, Journal, Record, Snapshot};

/// Whether this runs in a network namespace of its own, whose firewall is nobody else's.
static OWN_NETWORK: OnceLock<bool> = OnceLock::new();

fn main() {
    let own = unshare(CloneFlags::CLONE_NEWNET);
    if let Err(error) = own {
        eprintln!("the firewall is not measured, for want of a network namespace: {error}");
    }
    OWN_NETWORK.get_or_init(|| own.is_ok());
    divan::main();
}

/// One entry, into a file in memory.
#[divan::bench]
fn write_to_the_journal(bencher: Bencher) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let server = ServerSecret::from_bytes([3; 32]).public();
    let boot = BootId::current().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), server, boot).unwrap();
    let replay = Replay::new(spa_proto::Floor::at_start(
        Timestamp::ZERO,
        Timestamp::ZERO,
        spad::clock::monotonic(),
        spa_proto::Tolerance::DEFAULT,
    ));
    let begin = |journal: &mut Journal| {
        journal.begin(&Snapshot { replay: &replay, grants: Vec::new() }).unwrap();
    };
    begin(&mut journal);
    let mut number = 0_u64;
    bencher.bench_local(|| {
        if journal.left() == 0 {
            begin(&mut journal);
        }
        number += 1;
        let nonce = Nonce::from_bytes(u128::from(number).to_be_bytes());
        let time = Timestamp::from_millis(number);
        let used = Record::Used { kid: Kid::from_bytes([1; 16]), time, nonce };
        journal.append(&[used]).unwrap();
    });
}

/// A firewall that guards ssh; `None` where it would be that of the machine.
fn firewall() -> Option<Firewall> {
    if OWN_NETWORK.get() != Some(&true) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spad.toml");
    let text = "interfaces = [\"any\"]\nlisten-port = 62201\nkeys-dir = \"/keys\"\n\
                state-dir = \"/state\"\nrun-dir = \"/run/spad\"\n[service.ssh]\nport = 22\n\
                [firewall]\nmax-grants = 1000000\n";
    std::fs::write(&path, text).unwrap();
    let mut firewall = Firewall::open().unwrap();
    firewall.install(&Config::load(&path).unwrap().ruleset()).unwrap();
    Some(firewall)
}

fn element(number: u32) -> Element {
    let source = IpAddr::from(Ipv4Addr::from(0x0b00_0001 + number));
    let source = Prefix::of(source, 32);
    let destination = Some([203, 0, 113, 1].into());
    Element { service: "ssh".parse().unwrap(), source, destination, terms: Terms::Window }
}

/// Each for another address, of a minute.
#[divan::bench]
fn grant_a_new_element(bencher: Bencher) {
    let Some(mut firewall) = firewall() else { return };
    let mut numbers = 0..;
    bencher.bench_local(|| {
        let element = element(numbers.next().unwrap_or(0));
        firewall.grant(&element, Duration::from_secs(60)).unwrap();
    });
}

/// Again for an address that has one.
#[divan::bench]
fn grant_the_same_element_again(bencher: Bencher) {
    let Some(mut firewall) = firewall() else { return };
    bencher.bench_local(|| firewall.grant(&element(0), Duration::from_secs(60)).unwrap());
}

/// The table read back and compared, as every 20 s and for `spad status`; no knock is served meanwhile.
#[divan::bench]
fn verify_the_ruleset(bencher: Bencher) {
    let Some(firewall) = firewall() else { return };
    bencher.bench_local(|| firewall.verify().unwrap());
}

/// A frame of the channel between the two processes, written and read by the same.
#[divan::bench]
fn pass_a_frame(bencher: Bencher) {
    let (one, other) = Channel::pair().unwrap();
    let frame = ToGate::Report.encode();
    bencher.bench_local(|| {
        one.send(&frame, &[]).unwrap();
        other.receive().unwrap()
    });
}
