//! One rule, read from left to right as nftables' virtual machine would: what
//! it asks of a packet, and what it decides.

use super::packet::{Packet, Value};
use super::rule::{Expression, ForeignRule, Verdict};
use super::walk::{Found, Table};
use super::xtables;
use std::collections::BTreeMap;

// linux/netfilter/nf_tables.h; of most expressions that load something the
// first attribute is the register, of lookups the third
const NFTA_DREG: u16 = 1;
const NFTA_SREG: u16 = 1;
const NFTA_OPERATION: u16 = 2;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_RANGE_FROM: u16 = 3;
const NFTA_RANGE_TO: u16 = 4;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_BITWISE_OP: u16 = 6;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_TARGET_NAME: u16 = 1;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFT_CMP_NEQ: u32 = 1;
/// Where verdicts are put.
const VERDICT_REGISTER: u32 = 0;
/// The name of the loopback interface, and its number.
const LOOPBACK_NAME: &[u8] = b"lo\0";
const LOOPBACK_NUMBER: [u8; 4] = 1_u32.to_ne_bytes();

/// Whether a rule matches, from never to always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Matches {
    No,
    /// That depends on what is not known.
    Perhaps,
    /// If the packet comes in by the right interface, and it may.
    OnInterface,
    Yes,
}

/// Whether the rule matches the packet, and what it decides then.
pub(super) fn read(
    table: &Table<'_>,
    rule: &ForeignRule,
    packet: &Packet,
) -> (Matches, Option<Verdict>) {
    let mut reading = Reading { table, packet, registers: BTreeMap::new() };
    let (mut matches, mut verdict) = (Matches::Yes, None);
    for expression in &rule.expressions {
        let Step { asked, decided } = reading.step(expression);
        matches = matches.min(asked);
        if matches == Matches::No {
            return (Matches::No, None);
        }
        verdict = decided.or(verdict);
    }
    (matches, verdict)
}

/// What an expression does.
struct Step {
    asked: Matches,
    decided: Option<Verdict>,
}

const GO_ON: Step = ask(Matches::Yes);

const fn ask(asked: Matches) -> Step {
    Step { asked, decided: None }
}

const fn decide(verdict: Verdict) -> Step {
    Step { asked: Matches::Yes, decided: Some(verdict) }
}

/// A rule while it is read from left to right.
struct Reading<'a> {
    table: &'a Table<'a>,
    packet: &'a Packet,
    registers: BTreeMap<u32, Value>,
}

impl Reading<'_> {
    fn step(&mut self, expression: &Expression) -> Step {
        match expression.name.as_str() {
            "counter" | "log" | "notrack" | "objref" => GO_ON,
            "meta" | "ct" | "payload" | "fib" => self.load(expression),
            "immediate" => self.immediate(expression),
            "bitwise" => self.bitwise(expression),
            "cmp" => ask(self.compare(expression)),
            "range" => ask(self.range(expression)),
            "lookup" => self.look_up(expression),
            "match" => ask(perhaps(xtables::matches(expression, self.packet))),
            "reject" => decide(Verdict::Drop),
            "target" => target(&expression.text(NFTA_TARGET_NAME)),
            "queue" => decide(Verdict::Other),
            _ => {
                // It may have loaded something.
                self.registers.clear();
                ask(Matches::Perhaps)
            }
        }
    }

    /// Those without a destination register change the packet instead.
    fn load(&mut self, expression: &Expression) -> Step {
        if expression.attribute(NFTA_DREG).is_some() {
            let value = self.packet.load(expression);
            self.set(expression.number(NFTA_DREG), value);
        }
        GO_ON
    }

    fn immediate(&mut self, expression: &Expression) -> Step {
        if let Some(verdict) = expression.verdict(NFTA_IMMEDIATE_DATA) {
            return decide(verdict);
        }
        let value = expression.value(NFTA_IMMEDIATE_DATA).map(<[u8]>::to_vec);
        self.set(expression.number(NFTA_DREG), value.map_or(Value::Unknown, Value::Known));
        GO_ON
    }

    fn bitwise(&mut self, expression: &Expression) -> Step {
        let value = match (
            self.get(expression.number(NFTA_SREG)),
            expression.value(NFTA_BITWISE_MASK),
            expression.value(NFTA_BITWISE_XOR),
        ) {
            (Value::Known(value), Some(mask), Some(xor))
                if expression.number(NFTA_BITWISE_OP) == 0 =>
            {
                let bits = value.iter().zip(mask).zip(xor);
                Value::Known(bits.map(|((value, mask), xor)| value & mask ^ xor).collect())
            }
            _ => Value::Unknown,
        };
        self.set(expression.number(NFTA_BITWISE_DREG), value);
        GO_ON
    }

    fn compare(&self, expression: &Expression) -> Matches {
        let operation = expression.number(NFTA_OPERATION);
        let Some(with) = expression.value(NFTA_CMP_DATA) else { return Matches::Perhaps };
        match self.get(expression.number(NFTA_SREG)) {
            Value::Known(value) => {
                let order = value.get(..with.len()).map(|value| value.cmp(with));
                perhaps(order.and_then(|order| holds(operation, order)))
            }
            Value::Interface if is_loopback(with) => {
                if operation == NFT_CMP_NEQ {
                    Matches::Yes
                } else {
                    Matches::No
                }
            }
            Value::Interface => Matches::OnInterface,
            Value::Unknown => Matches::Perhaps,
        }
    }

    fn range(&self, expression: &Expression) -> Matches {
        let ends = (expression.value(NFTA_RANGE_FROM), expression.value(NFTA_RANGE_TO));
        let (Value::Known(value), (Some(from), Some(to))) =
            (self.get(expression.number(NFTA_SREG)), ends)
        else {
            return Matches::Perhaps;
        };
        let inside = (from..=to).contains(&value.as_slice());
        perhaps(Some(inside != (expression.number(NFTA_OPERATION) == NFT_CMP_NEQ)))
    }

    fn look_up(&mut self, expression: &Expression) -> Step {
        let found = match self.get(expression.number(NFTA_LOOKUP_SREG)) {
            Value::Known(key) => self.table.sets.find(&expression.text(NFTA_LOOKUP_SET), &key),
            Value::Interface => return ask(Matches::OnInterface),
            Value::Unknown => Found::Unclear,
        };
        if expression.attribute(NFTA_LOOKUP_DREG).is_some() {
            return self.take_from_map(expression.number(NFTA_LOOKUP_DREG), found);
        }
        let inverted = expression.number(NFTA_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV != 0;
        ask(match found {
            Found::Unclear => Matches::Perhaps,
            found => perhaps(Some((found != Found::Nothing) != inverted)),
        })
    }

    /// Of a map: a rule ends where the map has nothing.
    fn take_from_map(&mut self, register: u32, found: Found) -> Step {
        match found {
            Found::Nothing => ask(Matches::No),
            Found::Element(Some(verdict)) if register == VERDICT_REGISTER => decide(verdict),
            Found::Element(_) | Found::Unclear => {
                self.set(register, Value::Unknown);
                ask(Matches::Perhaps)
            }
        }
    }

    fn get(&self, register: u32) -> Value {
        self.registers.get(&word(register)).cloned().unwrap_or(Value::Unknown)
    }

    /// What was in the registers that it covers is gone.
    fn set(&mut self, register: u32, value: Value) {
        let words = match &value {
            Value::Known(bytes) => u32::try_from(bytes.len().div_ceil(4)).unwrap_or(u32::MAX),
            Value::Interface | Value::Unknown => 4,
        };
        let first = word(register);
        self.registers.retain(|at, _| !(first..first.saturating_add(words)).contains(at));
        self.registers.insert(first, value);
    }
}

/// Registers have two names: four of 16 bytes, or sixteen of 4.
fn word(register: u32) -> u32 {
    match register {
        0..=4 => register.saturating_sub(1) * 4,
        _ => register.saturating_sub(8),
    }
}

fn perhaps(matches: Option<bool>) -> Matches {
    match matches {
        Some(true) => Matches::Yes,
        Some(false) => Matches::No,
        None => Matches::Perhaps,
    }
}

/// `NFT_CMP_*`.
fn holds(operation: u32, order: std::cmp::Ordering) -> Option<bool> {
    match operation {
        0 => Some(order.is_eq()),
        NFT_CMP_NEQ => Some(order.is_ne()),
        2 => Some(order.is_lt()),
        3 => Some(order.is_le()),
        4 => Some(order.is_gt()),
        5 => Some(order.is_ge()),
        _ => None,
    }
}

fn is_loopback(value: &[u8]) -> bool {
    value == LOOPBACK_NUMBER || value.starts_with(LOOPBACK_NAME)
}

/// Targets of iptables: those that end a packet; the rest marks, logs, counts.
fn target(name: &str) -> Step {
    match name {
        "REJECT" => decide(Verdict::Drop),
        "NFQUEUE" => decide(Verdict::Other),
        _ => GO_ON,
    }
}
