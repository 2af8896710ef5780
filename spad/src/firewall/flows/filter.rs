//! The kernel's filter in front of the watch, as a classic BPF program (pure).
//!
//! A busy gateway opens, changes and ends thousands of connections a second
//! that are none of ours. A notification passes that names labels, or that
//! tells the end of a connection to one of our ports.

use super::entry::{CTA_LABELS, CTA_PROTO_DST_PORT, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO};
use crate::capture::filter::Instruction;
use crate::firewall::ruleset::PortRange;
use libc::{
    BPF_ABS, BPF_H, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LDX,
    BPF_MISC, BPF_RET, BPF_TAX, BPF_W, SKF_AD_NLATTR, SKF_AD_NLATTR_NEST, SKF_AD_OFF,
};
use std::collections::BTreeSet;

/// Behind the headers of netlink and netfilter.
const ATTRIBUTES: u32 = 20;
/// Behind the header of an attribute.
const VALUE: u32 = 4;
/// A jump reaches 255 instructions, and each range takes two.
const MAX_RANGES: usize = 100;
const WHOLE: u32 = u32::MAX;

/// The filter for these ports; with too many ranges it passes everything.
pub(super) fn program(ports: &BTreeSet<PortRange>) -> Vec<Instruction> {
    if ports.len() > MAX_RANGES {
        return vec![accept()];
    }
    [labelled(), addressed_to(ports)].concat()
}

/// Accepts where there are labels; goes on where there are none.
fn labelled() -> Vec<Instruction> {
    let mut program = vec![op(BPF_LD | BPF_IMM, 0, 0, ATTRIBUTES)];
    program.extend(find(SKF_AD_NLATTR, CTA_LABELS));
    program.extend([if_none(1, 0), accept()]);
    program
}

/// Whether the first packet was for one of these ports.
fn addressed_to(ports: &BTreeSet<PortRange>) -> Vec<Instruction> {
    let steps = [
        (SKF_AD_NLATTR, CTA_TUPLE_ORIG),
        (SKF_AD_NLATTR_NEST, CTA_TUPLE_PROTO),
        (SKF_AD_NLATTR_NEST, CTA_PROTO_DST_PORT),
    ];
    let mut program = vec![op(BPF_LD | BPF_IMM, 0, 0, ATTRIBUTES)];
    for (how, kind) in steps {
        program.extend(find(how, kind));
        program.extend([if_none(0, 1), reject()]);
    }
    program.push(op(BPF_MISC | BPF_TAX, 0, 0, 0));
    program.push(op(BPF_LD | BPF_H | BPF_IND, 0, 0, VALUE));
    program.extend(one_of(ports));
    program
}

fn one_of(ports: &BTreeSet<PortRange>) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (left, range) in (0..ports.len()).rev().zip(ports) {
        // Over the ranges that are left, and the refusal behind them.
        let yes = u8::try_from(2 * left + 1).unwrap_or(u8::MAX);
        program.push(op(BPF_JMP | BPF_JGE | BPF_K, 0, 1, range.first().into()));
        program.push(op(BPF_JMP | BPF_JGT | BPF_K, 0, yes, range.last().into()));
    }
    program.extend([reject(), accept()]);
    program
}

/// The place of an attribute, from the place in the accumulator on; 0 for none.
fn find(how: i32, kind: u16) -> [Instruction; 2] {
    [
        op(BPF_LDX | BPF_IMM, 0, 0, kind.into()),
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0, (SKF_AD_OFF + how).cast_unsigned()),
    ]
}

fn if_none(yes: u8, no: u8) -> Instruction {
    op(BPF_JMP | BPF_JEQ | BPF_K, yes, no, 0)
}

fn accept() -> Instruction {
    op(BPF_RET | BPF_K, 0, 0, WHOLE)
}

fn reject() -> Instruction {
    op(BPF_RET | BPF_K, 0, 0, 0)
}

fn op(code: u32, yes: u8, no: u8, k: u32) -> Instruction {
    // Codes are sums of constants below 256.
    Instruction { code: u16::try_from(code).unwrap_or_default(), yes, no, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::packet::attach_filter;
    use std::os::unix::net::UnixDatagram;

    const NEW: u16 = 0;
    const DELETE: u16 = 2;

    fn ranges(ports: &[(u16, u16)]) -> BTreeSet<PortRange> {
        ports.iter().map(|(first, last)| PortRange::new(*first, *last).unwrap()).collect()
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(port: Option<u16>) -> Vec<u8> {
        let mut transport = attribute(1, &[6]);
        transport.extend(port.map(|_| attribute(2, &[0x99, 0x99])).unwrap_or_default());
        transport.extend(port.map(|p| attribute(3, &p.to_be_bytes())).unwrap_or_default());
        let addresses = [attribute(1, &[10, 0, 0, 1]), attribute(2, &[10, 0, 0, 2])].concat();
        let nested = |kind: u16| kind | 0x8000;
        let parts = [attribute(nested(1), &addresses), attribute(nested(2), &transport)].concat();
        attribute(nested(1), &parts)
    }

    fn message(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![0; 20];
        message[4..6].copy_from_slice(&(0x100 | kind).to_ne_bytes());
        message.extend(attributes.concat());
        message
    }

    /// What passes a socket with the filter, which any socket's kernel runs.
    fn passes(ports: &[(u16, u16)], message: &[u8]) -> bool {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        attach_filter(&ours, &program(&ranges(ports))).unwrap();
        kernel.send(message).unwrap();
        ours.set_nonblocking(true).unwrap();
        ours.recv(&mut [0; 512]).is_ok_and(|len| len == message.len())
    }

    #[test]
    fn ends_pass_by_their_first_destination_port() {
        let ports = [(22, 22), (8000, 8010), (60000, 65535)];
        let end = |port| message(DELETE, &[tuple(Some(port))]);
        for port in [22, 8000, 8005, 8010, 60000, 65535] {
            assert!(passes(&ports, &end(port)), "{port}");
            assert!(!passes(&[], &end(port)), "{port}");
        }
        for port in [0, 21, 23, 443, 7999, 8011, 59999] {
            assert!(!passes(&ports, &end(port)), "{port}");
        }
    }

    #[test]
    fn beginnings_and_changes_pass_by_labels_or_port() {
        let labels = attribute(CTA_LABELS, &[1; 16]);
        let ports = [(22, 22)];
        let seen = |attributes: &[Vec<u8>]| message(NEW, attributes);
        assert!(passes(&ports, &seen(&[tuple(Some(22)), labels.clone()])));
        assert!(passes(&ports, &seen(&[tuple(Some(443)), labels])), "published elsewhere");
        assert!(passes(&ports, &seen(&[tuple(Some(22))])), "as it is closed");
        assert!(!passes(&ports, &seen(&[tuple(Some(443))])));
    }

    #[test]
    fn nonsense_does_not_pass() {
        let whole = message(DELETE, &[tuple(Some(22))]);
        for len in 0..whole.len() - 4 {
            assert!(!passes(&[(22, 22)], &whole[..len]), "cut at {len}");
        }
        assert!(!passes(&[(0, 65535)], &message(DELETE, &[tuple(None)])));
        assert!(!passes(&[(0, 65535)], &message(DELETE, &[])));
    }

    #[test]
    fn as_many_ranges_as_a_jump_can_pass() {
        let many = |n: u16| (1..=n).map(|i| (10 * i, 10 * i + 1)).collect::<Vec<_>>();
        let end = |port| message(DELETE, &[tuple(Some(port))]);
        for port in [10, 500, 1000, 1001] {
            assert!(passes(&many(100), &end(port)), "{port}");
        }
        assert!(!passes(&many(100), &end(1002)));
        assert!(passes(&many(101), &end(2000)), "no filter for more");
    }
}
