//! A server's keys are replaced (protocol §3.4): for a while two sets of them
//! work, and everything that counts a client's knocks counts both.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use proptest::prelude::*;
use spa_proto::{
    Cloak, Datagram, Gate, GateSettings, Generation, Rate, Reason, ServerKeys, ServerSecret,
    SignedRequest, Timestamp,
};
use support::craft::{Plan, tag_again};
use support::parties::{Client, Clock, NOW, Server, admit, bytes, refusal, ssh};

const OLD: Generation = Generation::new(3);
const NEW: Generation = Generation::new(4);

/// A server in its overlap, and the same client before and after it took the update.
struct Overlap {
    former: Server,
    current: Server,
    old: Client,
    new: Client,
    other: Client,
}

/// What is replaced.
#[derive(Clone, Copy, Debug)]
enum What {
    Key,
    Cloak,
    Both,
}

const ALL: [What; 3] = [What::Key, What::Cloak, What::Both];

impl Overlap {
    fn of(what: What) -> Self {
        let (former, mut current) = (Server::new(1), Server::new(2));
        match what {
            What::Key => current.cloak = former.cloak,
            What::Cloak => current.secret = former.secret,
            What::Both => {}
        }
        let [old, new] = [&former, &current].map(|server| Client::new(1, server));
        let other = Client::new(2, &former);
        Self { former, current, old, new, other }
    }

    fn gate(&self, settings: GateSettings) -> Gate {
        let keys = |server: &Server, generation| ServerKeys {
            generation,
            secret: ServerSecret::from_bytes(server.secret),
            cloak: Cloak::from_bytes(server.cloak),
        };
        let (current, former) = (keys(&self.current, NEW), keys(&self.former, OLD));
        let mut gate = Gate::of(current, Some(former), settings, clock().monotonic());
        for (number, client) in [(1, &self.old), (2, &self.other)] {
            gate.insert(client.kid(), Client::new(number, &self.current).keys());
            gate.insert_former(client.kid(), client.keys());
        }
        gate
    }

    /// The warden's part: the keys that the gate names.
    fn verifies(&self, signed: &SignedRequest, clock: Clock) -> bool {
        let server = if signed.generation() == NEW { &self.current } else { &self.former };
        server.verify(signed, &self.old.verifier(), clock).is_ok()
    }
}

fn clock() -> Clock {
    Clock::at(NOW)
}

#[test]
fn either_set_of_keys_admits_and_is_named() {
    for what in ALL {
        let overlap = Overlap::of(what);
        let mut gate = overlap.gate(GateSettings::default());
        for (client, generation, number) in [(&overlap.old, OLD, 1), (&overlap.new, NEW, 2)] {
            let signed =
                admit(&mut gate, &client.knock(&ssh(), clock(), number), clock()).ok().unwrap();
            assert_eq!(signed.generation(), generation, "{what:?}");
            assert!(overlap.verifies(&signed, clock()), "{what:?}");
        }
    }
}

/// P4, between the keys of one server as between two.
#[test]
fn what_is_signed_for_one_does_not_verify_for_the_other() {
    let overlap = Overlap::of(What::Key);
    let mut gate = overlap.gate(GateSettings::default());
    for (client, other) in [(&overlap.old, &overlap.current), (&overlap.new, &overlap.former)] {
        let signed = admit(&mut gate, &client.knock(&ssh(), clock(), 1), clock()).ok().unwrap();
        let verdict = other.verify(&signed, &client.verifier(), clock());
        assert_eq!(verdict.err(), Some(Reason::BadSignature));
        gate = overlap.gate(GateSettings::default());
    }
}

/// Someone who has the psk, and so all symmetric keys, wraps an old knock anew:
/// without the signing key the new transcript is not signed.
#[test]
fn a_knock_wrapped_again_for_the_new_keys_is_refused() {
    let overlap = Overlap::of(What::Both);
    let plan = Plan::new(ssh().encode().unwrap(), NOW, [3; 32]);
    let first = overlap.old.sender().knock(&plan);
    let wrapped = Plan { nonce: Some(first.nonce), sig: Some(first.sig), ..plan };
    let wrapped = overlap.new.sender().knock(&wrapped).datagram;
    let mut gate = overlap.gate(GateSettings::default());
    let signed = admit(&mut gate, &wrapped, clock()).ok().unwrap();
    assert_eq!(signed.generation(), NEW);
    assert!(!overlap.verifies(&signed, clock()));
    let reason = refusal(&mut gate, &first.datagram, clock());
    assert_eq!(reason, Some(Reason::Duplicate), "one nonce, attempted already");
}

#[test]
fn copies_are_copies_under_either() {
    for what in ALL {
        let overlap = Overlap::of(what);
        let mut gate = overlap.gate(GateSettings::default());
        for (client, number) in [(&overlap.old, 1), (&overlap.new, 2)] {
            let knock = client.knock(&ssh(), clock(), number);
            assert_eq!(refusal(&mut gate, &knock, clock()), None, "{what:?}");
            assert_eq!(refusal(&mut gate, &knock, clock()), Some(Reason::Duplicate), "{what:?}");
        }
    }
}

/// With the cloak and the psk an old knock gets the new mask: it is the same knock.
#[test]
fn another_mask_makes_no_other_knock() {
    let overlap = Overlap::of(What::Cloak);
    let mut gate = overlap.gate(GateSettings::default());
    let knock = overlap.old.knock(&ssh(), clock(), 1);
    let signed = admit(&mut gate, &knock, clock()).ok().unwrap();
    let plan = Plan::new(ssh().encode().unwrap(), NOW, [0; 32]);
    let nonce: [u8; 16] = knock[..16].try_into().unwrap();
    let masked = overlap.new.sender().knock(&Plan { nonce: Some(nonce), ..plan }).datagram;
    let mut again = knock;
    again[16..24].copy_from_slice(&masked[16..24]);
    assert_ne!(again, knock);
    assert_eq!(refusal(&mut gate, &again, clock()), Some(Reason::BadTag));
    tag_again(&overlap.new.sender(), &mut again);
    assert_eq!(refusal(&mut gate, &again, clock()), Some(Reason::Duplicate));
    // A gate that has forgotten lets it through; for the warden it is the same identity.
    let other = admit(&mut overlap.gate(GateSettings::default()), &again, clock()).ok().unwrap();
    let identity = |signed: &SignedRequest| {
        let knock = overlap.current.verify(signed, &overlap.old.verifier(), clock()).ok().unwrap();
        (knock.kid(), knock.nonce(), knock.time())
    };
    assert_eq!(identity(&signed), identity(&other));
    assert_eq!((signed.generation(), other.generation()), (OLD, NEW));
}

#[test]
fn a_client_has_one_budget_for_both() {
    let overlap = Overlap::of(What::Both);
    let client_rate = Rate { burst: 3, per_second: 1 };
    let mut gate = overlap.gate(GateSettings { client_rate, ..GateSettings::default() });
    let knocks: Vec<Datagram> = (0..8)
        .map(|number| {
            let client = if number % 2 == 0 { &overlap.old } else { &overlap.new };
            client.knock(&ssh(), clock(), number)
        })
        .collect();
    let admitted = knocks.iter().filter(|knock| refusal(&mut gate, *knock, clock()).is_none());
    assert_eq!(admitted.count(), 3);
    assert_eq!(refusal(&mut gate, &knocks[7], clock()), Some(Reason::OverBudget));
    let other = overlap.other.knock(&ssh(), clock(), 9);
    assert_eq!(refusal(&mut gate, &other, clock()), None, "nobody else's");
}

/// Into the overlap and out of it, attempts and budgets go along.
#[test]
fn gates_succeed_each_other_into_an_overlap_and_out_of_it() {
    let overlap = Overlap::of(What::Both);
    let client_rate = Rate { burst: 3, per_second: 0 };
    let settings = GateSettings { client_rate, ..GateSettings::default() };
    let mut before = Server { settings, ..Server::new(1) }.gate(&[&overlap.old], clock());
    let old = overlap.old.knock(&ssh(), clock(), 1);
    assert_eq!(refusal(&mut before, &old, clock()), None);

    let mut during = overlap.gate(settings);
    during.succeed(before);
    assert_eq!(refusal(&mut during, &old, clock()), Some(Reason::Duplicate));
    let new = overlap.new.knock(&ssh(), clock(), 2);
    assert_eq!(refusal(&mut during, &new, clock()), None);

    let mut after = Server { settings, ..Server::new(2) }.gate(&[&overlap.new], clock());
    after.succeed(during);
    assert_eq!(refusal(&mut after, &new, clock()), Some(Reason::Duplicate));
    assert_eq!(refusal(&mut after, &old, clock()), Some(Reason::UnknownClient), "old keys");
    assert_eq!(refusal(&mut after, &overlap.new.knock(&ssh(), clock(), 3), clock()), None);
    let fourth = overlap.new.knock(&ssh(), clock(), 4);
    assert_eq!(refusal(&mut after, &fourth, clock()), Some(Reason::OverBudget));
}

#[test]
fn a_client_that_is_removed_or_recalled_is_so_under_both() {
    let overlap = Overlap::of(What::Both);
    let mut gate = overlap.gate(GateSettings::default());
    gate.recall(&overlap.old.kid(), Timestamp::from_millis(NOW), []);
    for (client, number) in [(&overlap.old, 1), (&overlap.new, 2)] {
        let knock = client.knock(&ssh(), clock(), number);
        assert_eq!(refusal(&mut gate, &knock, clock()), Some(Reason::Duplicate));
    }
    gate.remove(&overlap.old.kid());
    for (client, number) in [(&overlap.old, 3), (&overlap.new, 4)] {
        let knock = client.knock(&ssh(), clock(), number);
        assert_eq!(refusal(&mut gate, &knock, clock()), Some(Reason::UnknownClient));
    }
    assert_eq!(refusal(&mut gate, &overlap.other.knock(&ssh(), clock(), 5), clock()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is sent in whatever order, under whichever keys: each nonce passes once,
    /// each client's burst is not exceeded, and what passes verifies for the keys named.
    #[test]
    fn both_sets_together_are_as_strict_as_one(
        what in prop::sample::select(ALL.to_vec()),
        sent in prop::collection::vec((any::<bool>(), 0u64..12), 1..60),
    ) {
        let overlap = Overlap::of(what);
        let client_rate = Rate { burst: 8, per_second: 0 };
        let mut gate = overlap.gate(GateSettings { client_rate, ..GateSettings::default() });
        let mut passed = std::collections::HashSet::new();
        for (new, number) in sent {
            let client = if new { &overlap.new } else { &overlap.old };
            let plan = Plan::new(ssh().encode().unwrap(), NOW, bytes("entropy", number));
            let knock = client.sender().knock(&plan);
            match admit(&mut gate, &knock.datagram, clock()) {
                Ok(signed) => {
                    prop_assert!(passed.insert(knock.nonce), "a nonce twice");
                    prop_assert_eq!(signed.generation(), if new { NEW } else { OLD });
                    prop_assert!(overlap.verifies(&signed, clock()));
                }
                Err(Reason::Duplicate) => prop_assert!(passed.contains(&knock.nonce)),
                Err(reason) => prop_assert_eq!(reason, Reason::OverBudget),
            }
        }
        prop_assert!(passed.len() <= 8);
    }
}
