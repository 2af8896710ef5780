//! A packet's way through somebody else's chains. Not all of the packet is
//! known, nor all that chains can ask: what is unclear never counts as an
//! accept, so that whoever asks hears of a drop rather too often than too late.

use super::packet::{Packet, Value};
use super::rule::{Expression, ForeignRule, Verdict};
use super::xtables;
use std::collections::{BTreeMap, HashMap};

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
/// Chains cannot jump deeper than that.
const DEPTH: usize = 16;
/// The name of the loopback interface, and its number.
const LOOPBACK_NAME: &[u8] = b"lo\0";
const LOOPBACK_NUMBER: [u8; 4] = 1_u32.to_ne_bytes();

/// The chains of a table, and what can be asked about its sets.
pub(super) struct Table<'a> {
    pub(super) chains: HashMap<String, Vec<ForeignRule>>,
    pub(super) sets: &'a dyn Sets,
}

/// Looks into the sets of a table.
pub(super) trait Sets {
    /// What a set has for a key.
    fn find(&self, set: &str, key: &[u8]) -> Found;
}

/// Without a look at any.
impl Sets for () {
    fn find(&self, _: &str, _: &[u8]) -> Found {
        Found::Unclear
    }
}

/// What was found in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// An element, and the verdict beside it in a map of verdicts.
    Element(Option<Verdict>),
    Unclear,
}

/// Where a packet comes out of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Accepted,
    Dropped,
    /// Undecided, at the end.
    Through,
}

/// Whether a rule matches, from never to always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Matches {
    No,
    /// That depends on what is not known.
    Perhaps,
    /// If the packet comes in by the right interface, and it may.
    OnInterface,
    Yes,
}

impl Table<'_> {
    /// The way through a chain from its first rule to its end.
    pub(super) fn walk(&self, chain: &str, packet: &Packet) -> Way {
        self.chain(chain, packet, DEPTH)
    }

    fn chain(&self, chain: &str, packet: &Packet, depth: usize) -> Way {
        let rules = self.chains.get(chain).map_or(&[][..], Vec::as_slice);
        self.follow(rules, packet, depth)
    }

    /// The way through some rules, one after the other.
    pub(super) fn rules(&self, rules: &[ForeignRule], packet: &Packet) -> Way {
        self.follow(rules, packet, DEPTH)
    }

    fn follow(&self, rules: &[ForeignRule], packet: &Packet, depth: usize) -> Way {
        // Once it may have left the chain, an accept is no longer for certain.
        let mut is_here = true;
        for rule in rules {
            let (matches, verdict) = self.rule(rule, packet);
            match (matches, self.outcome(matches, verdict, packet, depth)) {
                (_, Outcome::Dropped) => return Way::Dropped,
                (Matches::Yes, Outcome::Accepted) if is_here => return Way::Accepted,
                (Matches::Yes, Outcome::Left) => return Way::Through,
                (_, Outcome::Left) => is_here = false,
                _ => {}
            }
        }
        Way::Through
    }

    fn outcome(
        &self,
        matches: Matches,
        verdict: Option<Verdict>,
        packet: &Packet,
        depth: usize,
    ) -> Outcome {
        match verdict {
            Some(Verdict::Accept) => Outcome::Accepted,
            Some(Verdict::Drop) if matches >= Matches::OnInterface => Outcome::Dropped,
            Some(Verdict::Return) if matches > Matches::No => Outcome::Left,
            Some(Verdict::Jump(chain)) => match self.into(matches, &chain, packet, depth) {
                Outcome::Left => Outcome::Nothing,
                outcome => outcome,
            },
            Some(Verdict::Goto(chain)) => self.into(matches, &chain, packet, depth),
            _ => Outcome::Nothing,
        }
    }

    fn into(&self, matches: Matches, chain: &str, packet: &Packet, depth: usize) -> Outcome {
        match (matches, depth) {
            (Matches::No, _) => Outcome::Nothing,
            (Matches::Perhaps, _) | (_, 0) => Outcome::Left,
            _ => match self.chain(chain, packet, depth - 1) {
                Way::Accepted => Outcome::Accepted,
                Way::Dropped => Outcome::Dropped,
                Way::Through => Outcome::Left,
            },
        }
    }

    fn rule(&self, rule: &ForeignRule, packet: &Packet) -> (Matches, Option<Verdict>) {
        let mut reading = Reading { table: self, packet, registers: BTreeMap::new() };
        let (mut matches, mut verdict) = (Matches::Yes, None);
        for expression in &rule.expressions {
            match reading.step(expression) {
                Step::Match(asked) => matches = matches.min(asked),
                Step::Decide(decided) => verdict = Some(decided),
                Step::Both(asked, decided) => {
                    (matches, verdict) = (matches.min(asked), Some(decided));
                }
            }
            if matches == Matches::No {
                return (Matches::No, None);
            }
        }
        (matches, verdict)
    }
}

/// What becomes of a packet at a rule.
enum Outcome {
    Nothing,
    Accepted,
    Dropped,
    /// It leaves the chain undecided.
    Left,
}

/// What an expression does.
enum Step {
    Match(Matches),
    Decide(Verdict),
    Both(Matches, Verdict),
}

const GO_ON: Step = Step::Match(Matches::Yes);

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
            "cmp" => Step::Match(self.compare(expression)),
            "range" => Step::Match(self.range(expression)),
            "lookup" => self.look_up(expression),
            "match" => Step::Match(perhaps(xtables::matches(expression, self.packet))),
            "reject" => Step::Decide(Verdict::Drop),
            "target" => target(&expression.text(NFTA_TARGET_NAME)),
            "queue" => Step::Decide(Verdict::Other),
            _ => {
                // It may have loaded something.
                self.registers.clear();
                Step::Match(Matches::Perhaps)
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
            return Step::Decide(verdict);
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
            Value::Interface => return Step::Match(Matches::OnInterface),
            Value::Unknown => Found::Unclear,
        };
        if expression.attribute(NFTA_LOOKUP_DREG).is_some() {
            return self.take_from_map(expression.number(NFTA_LOOKUP_DREG), found);
        }
        let inverted = expression.number(NFTA_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV != 0;
        Step::Match(match found {
            Found::Unclear => Matches::Perhaps,
            found => perhaps(Some((found != Found::Nothing) != inverted)),
        })
    }

    /// Of a map: a rule ends where the map has nothing.
    fn take_from_map(&mut self, register: u32, found: Found) -> Step {
        match found {
            Found::Nothing => Step::Match(Matches::No),
            Found::Element(Some(verdict)) if register == VERDICT_REGISTER => {
                Step::Both(Matches::Yes, verdict)
            }
            Found::Element(_) | Found::Unclear => {
                self.set(register, Value::Unknown);
                Step::Match(Matches::Perhaps)
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
        "REJECT" => Step::Decide(Verdict::Drop),
        "NFQUEUE" => Step::Decide(Verdict::Other),
        _ => GO_ON,
    }
}
