//! What the gate lets through and the warden refuses.

use std::ops::{Add, Mul};

use ed25519_dalek::{SigningKey, Verifier as _, VerifyingKey};
use sha2::{Digest, Sha512};

use super::super::case::Case;
use super::super::craft::Steps;
use super::super::parties::{Client, Server};
use super::{Scene, key_record, token_record};

pub(super) fn cases() -> Vec<(&'static str, Case)> {
    [records(), signatures()].concat()
}

fn records() -> Vec<(&'static str, Case)> {
    let refused =
        |scene: Scene, reason, change: fn(&mut Scene)| scene.with(change).refused("warden", reason);
    let late = Scene::new("In time at the gate, too late at the warden.");
    let plain = Scene::new("A client that has only its token.");
    let taken = Scene::enrolling("The token was used, with another key.");
    let secret = Scene::enrolling("Not the token's secret.");
    let expired = Scene::enrolling("A millisecond after the token's time.");
    vec![
        (
            "stale-at-warden",
            refused(late, "stale", |scene| {
                scene.server_knows.push(("warden-now", (scene.ts + 30_001).to_string()));
            }),
        ),
        (
            "not-enrolled",
            refused(plain, "not-enrolled", |scene| {
                scene.record = token_record(scene.now + 1);
            }),
        ),
        (
            "enrol-taken",
            refused(taken, "enrol-taken", |scene| {
                scene.record = key_record(&Client::new(2, &scene.server));
            }),
        ),
        (
            "bad-enrol-secret",
            refused(secret, "bad-enrol-secret", |scene| {
                scene.record = format!("token {} {}", "00".repeat(32), scene.now + 1);
            }),
        ),
        (
            "enrol-expired",
            refused(expired, "enrol-expired", |scene| {
                scene.record = token_record(scene.now - 1);
            }),
        ),
    ]
}

fn signatures() -> Vec<(&'static str, Case)> {
    let signed_by = |about, sign: fn(&[u8; 32], &Steps, &[u8]) -> [u8; 64]| {
        Scene::new(about).deviating("warden", "bad-signature", |plan, sender, honest| {
            let message = [b"spa1 knock\0", &honest.transcript[..], &plan.body].concat();
            plan.sig = Some(sign(&sender.seed, honest, &message));
        })
    };
    vec![
        ("other-key", other_key()),
        ("enrol-other-key", enrol_other_key()),
        ("signature-other-server", other_server()),
        ("signature-malleable", signed_by("s + L in place of s.", malleable)),
        ("signature-small-r", signed_by("R is the neutral element.", small_r)),
    ]
}

fn other_key() -> Case {
    Scene::new("Signed with another key than the one bound.")
        .with(|scene| scene.client.seed = [7; 32])
        .refused("warden", "bad-signature")
}

fn enrol_other_key() -> Case {
    Scene::enrolling("An enrolment that is not signed with the key it brings.")
        .with(|scene| scene.client.seed = [7; 32])
        .refused("warden", "bad-signature")
}

/// What a hostile server could send on, had it not to sign for this one.
fn other_server() -> Case {
    let scene = Scene::new("The signature is for another server, all else for this one.");
    scene.deviating("warden", "bad-signature", |plan, sender, honest| {
        let mut other = *sender;
        other.server = *Server::new(2).public().as_bytes();
        let transcript = other.transcript(honest.nonce, plan.ts, honest.ephemeral);
        plan.sig = Some(sender.sign(&transcript, &plan.body));
    })
}

/// The order of the group, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn malleable(_: &[u8; 32], honest: &Steps, _: &[u8]) -> [u8; 64] {
    let mut sig = honest.sig;
    let mut carry = 0;
    for (byte, more) in sig[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    sig
}

/// With r = 0, s = k·a satisfies the equation; only the point gives it away.
fn small_r(seed: &[u8; 32], _: &Steps, message: &[u8]) -> [u8; 64] {
    let key = SigningKey::from_bytes(seed);
    let mut sig = [0; 64];
    sig[0] = 1;
    let hash = Sha512::new()
        .chain_update(&sig[..32])
        .chain_update(key.verifying_key().as_bytes())
        .chain_update(message)
        .finalize();
    let s = times(key.to_scalar(), &hash);
    sig[32..].copy_from_slice(s.as_bytes());
    let lenient = VerifyingKey::from(&key).verify(message, &(&sig).into());
    assert!(lenient.is_ok(), "only strict verification refuses it");
    sig
}

/// The product of a scalar and a little-endian number.
fn times<S>(scalar: S, number: &[u8]) -> S
where
    S: Copy + From<u64> + Add<Output = S> + Mul<Output = S>,
{
    let digits = number.iter().rev().map(|byte| S::from((*byte).into()));
    scalar * digits.fold(0.into(), |sum, digit| sum * 256.into() + digit)
}
