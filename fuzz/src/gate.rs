//! A server and two clients on a virtual clock. The input says what happens:
//! knocks are made, delivered, delivered again, altered; clocks go and jump;
//! clients come and go. Beside the gate runs a model that knows of each datagram
//! what it is, and says what the gate has to say (protocol §6).

mod model;
mod world;

use spa_proto::{PACKET_LEN, Reason, SignedRequest};

use crate::script::Script;
use world::{Sent, World};

/// What the gate said of one datagram: what it passes on, or why it does not.
pub type Verdict = Result<Vec<u8>, Reason>;

/// Reads the input as instructions. Through: a knock was let through, and
/// verified.
pub fn run(input: &[u8]) -> bool {
    verdicts(input).iter().any(Result::is_ok)
}

/// The same, and what the gate said of every datagram, in order.
pub fn verdicts(input: &[u8]) -> Vec<Verdict> {
    let mut script = Script(input);
    let mut world = World::new();
    // Each knock costs public-key work: enough to fill a client's budget twice.
    for _ in 0..64 {
        if script.is_done() {
            break;
        }
        step(&mut world, &mut script);
    }
    world.verdicts
}

fn step(world: &mut World, script: &mut Script<'_>) {
    match script.byte() % 8 {
        0 => world.pass(u64::from(script.number())),
        1 => world.set_clock(script),
        2 => world.seal(script),
        3 | 4 => {
            if let Some(sent) = script.choose(&world.sent).cloned() {
                genuine(world, &sent, script);
            }
        }
        5 => {
            if let Some(sent) = script.choose(&world.sent).cloned() {
                altered(world, &sent, script);
            }
        }
        6 => foreign(world, script),
        _ => world.change_clients(script),
    }
}

/// A datagram as it was made: the gate says what the model says, and what it
/// lets through is what was asked for.
fn genuine(world: &mut World, sent: &Sent, script: &mut Script<'_>) {
    let expected = world.expected(sent);
    let verdict = world.admit(&sent.datagram);
    match (verdict, expected) {
        (Ok(signed), Ok(())) => {
            world.attempted(sent);
            verified(world, sent, &signed, script);
        }
        (Err(Reason::OverBudget | Reason::OverCap), Ok(())) => {
            assert!(world.may_be_short(sent), "a budget was spent by nobody");
        }
        (Err(reason), Err(expected)) => assert_eq!(reason, expected),
        (Ok(_), Err(expected)) => panic!("let through, where {expected:?} was expected"),
        (Err(reason), Ok(())) => panic!("refused as {reason:?}"),
    }
}

/// What the gate has let through verifies for its sender, on this server, as
/// it is, and in no other way.
fn verified(world: &mut World, sent: &Sent, signed: &SignedRequest, script: &mut Script<'_>) {
    let Ok(knock) = world.verify(signed, sent) else { panic!("let through, and not verified") };
    assert_eq!(knock.kid(), sent.kid());
    assert_eq!(knock.time(), sent.time);
    assert!(knock.request().encode().unwrap() == sent.body, "another request");
    assert_eq!(knock.binds(), world.binds(sent));
    world.elsewhere(signed, sent);
    world.use_once(&knock);
    let mut bytes = signed.to_bytes();
    // Addresses and the keys' number, at the end, are what the gate says, and nobody has signed.
    let at = usize::from(script.number()) % (bytes.len() - 37);
    bytes[at] ^= script.byte().max(1);
    if let Some(other) = SignedRequest::from_bytes(&bytes) {
        assert!(world.verify(&other, sent).is_err(), "altered at {at}, and verified");
    }
}

/// A datagram that was altered on the way is refused before its time is read.
fn altered(world: &mut World, sent: &Sent, script: &mut Script<'_>) {
    let mut datagram = sent.datagram.to_vec();
    match script.byte() % 4 {
        0 => datagram.truncate(usize::from(script.number()) % PACKET_LEN),
        1 => datagram.push(script.byte()),
        _ => datagram[usize::from(script.number()) % PACKET_LEN] ^= script.byte().max(1),
    }
    outsider(world, &datagram);
}

/// Bytes that nobody of ours has made.
fn foreign(world: &mut World, script: &mut Script<'_>) {
    let mut datagram = script.bytes(PACKET_LEN).to_vec();
    datagram.resize(PACKET_LEN, 0);
    outsider(world, &datagram);
}

fn outsider(world: &mut World, datagram: &[u8]) {
    let Err(reason) = world.admit(datagram) else { panic!("forged") };
    let early = [Reason::Length, Reason::UnknownClient, Reason::BadTag];
    assert!(early.contains(&reason), "{reason:?} is said before the tag");
}
