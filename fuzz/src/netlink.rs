//! Messages of netlink, from the kernel or from the file that keeps the last
//! ruleset.

use sha2::{Digest, Sha256};
use spad::firewall::{Saved, Snapshot, wire};

/// First byte: odd, the rest is what a kept ruleset says, with the checksum
/// still to be put behind; even, it is a datagram of the kernel. Through: it is
/// kept, or there is a message in it about our table.
pub fn run(input: &[u8]) -> bool {
    let Some((kind, rest)) = input.split_first() else { return false };
    if kind & 1 == 1 { kept(rest) } else { datagram(rest) }
}

/// What is accepted is the same after another writing and reading.
fn kept(content: &[u8]) -> bool {
    assert_eq!(Saved::from_bytes(content), None, "without its checksum");
    let bytes = [content, &Sha256::digest(content)].concat();
    let Some(saved) = Saved::from_bytes(&bytes) else { return false };
    assert_eq!(Saved::from_bytes(&saved.to_bytes()), Some(saved));
    true
}

fn datagram(bytes: &[u8]) -> bool {
    let mut about_us = false;
    let mut len = 0;
    let mut all_tidied = Vec::new();
    for message in wire::messages(bytes) {
        len += message.length() as usize;
        assert!(len <= bytes.len(), "read beyond the datagram");
        let _ = wire::answer(&message);
        let ours = wire::is_about_us(&message);
        walk(wire::attributes(&message), 8);
        let tidied = wire::tidied(message);
        assert_eq!(tidied.len() % 4, 0);
        let Some(again) = wire::messages(&tidied).next() else { panic!("tidied away") };
        assert_eq!(wire::is_about_us(&again), ours);
        assert_eq!(wire::tidied(again), tidied, "tidied twice");
        about_us |= ours;
        all_tidied.extend(tidied);
    }
    assert_eq!(
        Snapshot::told(&all_tidied),
        Snapshot::told(bytes),
        "what is between attributes says nothing"
    );
    wire::messages(bytes).for_each(|message| drop(wire::parse(message)));
    about_us
}

fn walk<'a>(attributes: impl Iterator<Item = (u16, &'a [u8])>, depth: u8) {
    for (_, value) in attributes {
        if depth > 0 {
            walk(Box::new(wire::nested(value)) as Box<dyn Iterator<Item = _>>, depth - 1);
        }
    }
}
