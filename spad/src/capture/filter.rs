//! The kernel filter, as a classic BPF program (pure; `socket` attaches it).
//!
//! It runs on packets that begin with their IP header: the sockets are of the
//! kind without link header, so that tun interfaces are no special case.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH,
    BPF_RET, BPF_W, SKF_AD_IFINDEX, SKF_AD_OFF, SKF_AD_PKTTYPE,
};
use spa_proto::PACKET_LEN;

use super::Family;

/// One instruction: code, jump if true, jump if false, operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip if the comparison holds.
    pub yes: u8,
    /// How many to skip if not.
    pub no: u8,
    /// Operand.
    pub k: u32,
}

/// How many interfaces can be listened on by name.
pub const MAX_INTERFACES: usize = 64;

/// Length of a knock's UDP datagram, header included.
const UDP_LEN: u32 = 344;
const _: () = assert!(UDP_LEN as usize == 8 + PACKET_LEN);
const UDP: u32 = 17;
/// More-fragments flag and fragment offset of the IPv4 header.
const FRAGMENT: u32 = 0x3fff;
const WHOLE: u32 = u32::MAX;

/// The filter for `family`: UDP to `port`, of a knock's length, addressed to
/// this host, on one of the interfaces with these indices (`None`: on any).
///
/// With no index at all it lets nothing through. Every packet that this host
/// receives passes here, so what tells most of them apart comes first.
#[must_use]
pub fn program(family: Family, port: u16, interfaces: Option<&[u32]>) -> Vec<Instruction> {
    let mut program = match family {
        Family::V4 => vec![
            Step::Load((BPF_B, BPF_ABS, 9)),
            Step::Need(UDP),
            Step::HeaderLength,
            Step::Load((BPF_H, BPF_IND, 2)),
            Step::Need(u32::from(port)),
            Step::Load((BPF_H, BPF_IND, 4)),
            Step::Need(UDP_LEN),
            Step::Load((BPF_H, BPF_ABS, 6)),
            Step::NeedNone(FRAGMENT),
        ],
        Family::V6 => vec![
            Step::Load((BPF_B, BPF_ABS, 6)),
            Step::Need(UDP),
            Step::Load((BPF_H, BPF_ABS, 42)),
            Step::Need(u32::from(port)),
            Step::Load((BPF_H, BPF_ABS, 44)),
            Step::Need(UDP_LEN),
        ],
    };
    program.extend([Step::Load(auxiliary(SKF_AD_PKTTYPE)), Step::Need(0)]);
    if let Some(indices) = interfaces {
        program.push(Step::Load(auxiliary(SKF_AD_IFINDEX)));
        program.push(Step::NeedOne(indices.iter().copied().take(MAX_INTERFACES).collect()));
    }
    assemble(&program)
}

/// Size, addressing and offset of a load.
type Place = (u32, u32, u32);

fn auxiliary(what: i32) -> Place {
    (BPF_W, BPF_ABS, (SKF_AD_OFF + what).cast_unsigned())
}

/// A filter is a list of these; whatever fails one is not for us.
enum Step {
    Load(Place),
    /// Four times the low nibble of the first byte, into the index register.
    HeaderLength,
    Need(u32),
    NeedOne(Vec<u32>),
    NeedNone(u32),
}

impl Step {
    fn len(&self) -> usize {
        if let Self::NeedOne(values) = self { values.len().max(1) } else { 1 }
    }

    /// `rest` is how many instructions follow this step before `ret accept`.
    fn emit(&self, rest: u8, out: &mut Vec<Instruction>) {
        let reject = rest + 1;
        match self {
            Self::Load((size, mode, k)) => out.push(op(BPF_LD | size | mode, 0, 0, *k)),
            Self::HeaderLength => out.push(op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0)),
            Self::Need(value) => out.push(op(BPF_JMP | BPF_JEQ | BPF_K, 0, reject, *value)),
            Self::NeedNone(bits) => out.push(op(BPF_JMP | BPF_JSET | BPF_K, reject, 0, *bits)),
            Self::NeedOne(values) => {
                // No interface has the index 0.
                let values = if values.is_empty() { &[0][..] } else { values };
                for (left, value) in (0..u8::try_from(values.len()).unwrap_or(0)).rev().zip(values)
                {
                    let miss = if left == 0 { reject } else { 0 };
                    out.push(op(BPF_JMP | BPF_JEQ | BPF_K, left, miss, *value));
                }
            }
        }
    }
}

fn assemble(steps: &[Step]) -> Vec<Instruction> {
    let mut rest: usize = steps.iter().map(Step::len).sum();
    let mut out = Vec::with_capacity(rest + 2);
    for step in steps {
        rest -= step.len();
        // At most 64 interfaces and 13 more: far from 255.
        step.emit(u8::try_from(rest).unwrap_or(u8::MAX), &mut out);
    }
    out.push(op(BPF_RET | BPF_K, 0, 0, WHOLE));
    out.push(op(BPF_RET | BPF_K, 0, 0, 0));
    out
}

fn op(code: u32, yes: u8, no: u8, k: u32) -> Instruction {
    // Codes are sums of constants below 256.
    Instruction { code: u16::try_from(code).unwrap_or_default(), yes, no, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does, on a packet with link metadata.
    fn run(program: &[Instruction], packet: &[u8], kind: u32, index: u32) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_usize, 0);
        let read = |at: usize, len: usize| -> Option<u32> {
            let bytes = packet.get(at..at + len)?;
            Some(bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
        };
        loop {
            let Instruction { code, yes, no, k } = program[at];
            let code = u32::from(code);
            at += 1;
            let jump = |holds: bool| usize::from(if holds { yes } else { no });
            if code == BPF_RET | BPF_K {
                return k;
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += jump(a == k);
            } else if code == BPF_JMP | BPF_JSET | BPF_K {
                at += jump(a & k != 0);
            } else if code == BPF_LDX | BPF_B | BPF_MSH {
                x = usize::from(packet[0] & 15) * 4;
            } else if k == auxiliary(SKF_AD_PKTTYPE).2 {
                a = kind;
            } else if k == auxiliary(SKF_AD_IFINDEX).2 {
                a = index;
            } else {
                let len = match code & 0x18 {
                    BPF_H => 2,
                    BPF_B => 1,
                    _ => 4,
                };
                let base = if code & 0xe0 == BPF_IND { x } else { 0 };
                let Some(value) = read(base + k as usize, len) else { return 0 };
                a = value;
            }
        }
    }

    fn v4(options: usize, port: u16, len: u16, fragment: u16) -> Vec<u8> {
        let header = 20 + options;
        let mut packet = vec![0; header + 8];
        packet[0] = 0x40 | u8::try_from(header / 4).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = 17;
        packet[header + 2..header + 4].copy_from_slice(&port.to_be_bytes());
        packet[header + 4..header + 6].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn v6(port: u16, len: u16, next: u8) -> Vec<u8> {
        let mut packet = vec![0; 48];
        packet[0] = 0x60;
        packet[6] = next;
        packet[42..44].copy_from_slice(&port.to_be_bytes());
        packet[44..46].copy_from_slice(&len.to_be_bytes());
        packet
    }

    #[test]
    fn lets_knocks_through_and_nothing_else() {
        let any4 = program(Family::V4, 62201, None);
        let any6 = program(Family::V6, 62201, None);
        let cases = [
            (&any4, v4(0, 62201, 344, 0), 0, true),
            (&any4, v4(40, 62201, 344, 0), 0, true),
            (&any4, v4(0, 62201, 344, 0x4000), 0, true),
            (&any4, v4(0, 62202, 344, 0), 0, false),
            (&any4, v4(0, 62201, 343, 0), 0, false),
            (&any4, v4(0, 62201, 345, 0), 0, false),
            (&any4, v4(0, 62201, 344, 0x2000), 0, false),
            (&any4, v4(0, 62201, 344, 1), 0, false),
            (&any4, v4(0, 62201, 344, 0), 3, false),
            (&any4, v4(0, 62201, 344, 0), 4, false),
            (&any4, vec![0x45; 12], 0, false),
            (&any6, v6(62201, 344, 17), 0, true),
            (&any6, v6(62201, 344, 0), 0, false),
            (&any6, v6(62200, 344, 17), 0, false),
            (&any6, v6(62201, 336, 17), 0, false),
            (&any6, v6(62201, 344, 17), 1, false),
        ];
        for (at, (program, packet, kind, passes)) in cases.into_iter().enumerate() {
            assert_eq!(run(program, &packet, kind, 5) != 0, passes, "case {at}");
        }
        let mut tcp = v4(0, 62201, 344, 0);
        tcp[9] = 6;
        assert_eq!(run(&any4, &tcp, 0, 5), 0);
    }

    #[test]
    fn listens_on_the_named_interfaces_only() {
        let all: Vec<u32> = (1..=64).collect();
        for indices in [&[7][..], &[3, 7], &[7, 3, 9], &all] {
            let program = program(Family::V4, 62201, Some(indices));
            for index in 0..70 {
                let passes = run(&program, &v4(0, 62201, 344, 0), 0, index) != 0;
                assert_eq!(passes, indices.contains(&index), "{index} of {indices:?}");
            }
        }
        let nothing = program(Family::V6, 62201, Some(&[]));
        assert_eq!(run(&nothing, &v6(62201, 344, 17), 0, 5), 0);
    }
}
