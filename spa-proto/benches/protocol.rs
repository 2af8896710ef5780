//! What each step of a knock costs, from sealing to the verified request:
//! `cargo bench -p spa-proto`.

#![expect(clippy::unwrap_used, reason = "as in a test")]

use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use sha2::{Digest, Sha256};
use spa_proto::{
    Address, Arrival, ClientKeys, Cloak, Credentials, Datagram, Entropy, Gate, GateSettings,
    Generation, Kid, Kind, Mode, Monotonic, PreparedKeys, Psk, Rate, Reason, Request, ServerKeys,
    ServerSecret, Services, SigningKey, Timestamp, Tolerance, Verifier, seal,
};

fn main() {
    divan::main();
}

/// The server's time, and that of all knocks.
const NOW: Timestamp = Timestamp::from_millis(1_803_567_600_000);
const CLOCK: Monotonic = Monotonic::new(Duration::from_secs(1000));
/// Clients of the gates, the smallest and the largest that are meant.
const CLIENTS: [u32; 2] = [1, 100_000];

fn secret() -> ServerSecret {
    ServerSecret::from_bytes([3; 32])
}

/// Key-ids look as random as real ones do: tables rely on it.
fn credentials(number: u32) -> Credentials {
    let hash = |what: &str| <[u8; 32]>::from(Sha256::digest(format!("{what} {number}")));
    let (seed, kid) = (hash("seed"), *hash("kid").first_chunk().unwrap());
    let (server, kid) = (secret().public(), Kid::from_bytes(kid));
    let keys = ClientKeys::derive(&Psk::from_bytes(seed), &server, &kid);
    let signing = SigningKey::from_seed(&seed);
    Credentials { server, kid, cloak: Cloak::from_bytes([4; 16]), keys, signing }
}

fn request() -> Request {
    Request {
        kind: Kind::Knock,
        mode: Mode::Default,
        address: Address::Explicit([192, 0, 2, 7].into()),
        width: None,
        seconds: None,
        services: Services::new(["ssh".parse().unwrap()]).unwrap(),
    }
}

fn knock(client: &Credentials, number: u32) -> Datagram {
    let mut entropy = [9; 32];
    entropy[..4].copy_from_slice(&number.to_be_bytes());
    seal(client, &request(), NOW, &Entropy::from_bytes(entropy)).unwrap()
}

/// A gate that puts up with any number of knocks.
fn gate(clients: u32) -> Gate {
    let plenty = Rate { burst: u32::MAX, per_second: u32::MAX };
    let settings =
        GateSettings { client_rate: plenty, global_rate: plenty, ..GateSettings::default() };
    // The list of a client's attempts is as long as its budget allows: short, as it would be.
    let settings = GateSettings { tolerance: Tolerance::new(Duration::from_secs(30)), ..settings };
    let mut gate = Gate::new(secret(), Cloak::from_bytes([4; 16]), settings, CLOCK);
    for number in 0..clients {
        let client = credentials(number);
        gate.insert(client.kid, client.keys);
    }
    gate
}

/// One whose server has other keys by now, and lets clients in by the former ones as well.
fn overlapping(clients: u32) -> Gate {
    let keys = |number: u8, secret| {
        let cloak = Cloak::from_bytes([number; 16]);
        ServerKeys { generation: Generation::new(number.into()), secret, cloak }
    };
    let (new, former) = (keys(5, ServerSecret::from_bytes([5; 32])), keys(4, secret()));
    let public = new.secret.public();
    let mut gate = Gate::of(new, Some(former), GateSettings::default(), CLOCK);
    for number in 0..clients {
        let client = credentials(number);
        let psk = Psk::from_bytes(*client.signing.expose());
        gate.insert(client.kid, ClientKeys::derive(&psk, &public, &client.kid));
        gate.insert_former(client.kid, client.keys);
    }
    gate
}

fn arrival() -> Arrival {
    Arrival { source: [198, 51, 100, 7].into(), destination: [203, 0, 113, 1].into() }
}

/// The client's part.
#[divan::bench]
fn seal_a_knock(bencher: Bencher) {
    let client = credentials(0);
    let mut numbers = 0..;
    bencher.bench_local(|| knock(&client, numbers.next().unwrap_or(0)));
}

fn refuse(bencher: Bencher, clients: u32, why: Reason, make: impl Fn(&mut Gate) -> Datagram) {
    refuse_at(gate(clients), bencher, why, make);
}

fn refuse_at(mut gate: Gate, bencher: Bencher, why: Reason, make: impl Fn(&mut Gate) -> Datagram) {
    let mut datagram = make(&mut gate);
    let mut number = 0_u64;
    bencher.bench_local(|| {
        if why == Reason::UnknownClient {
            number += 1;
            datagram[..8].copy_from_slice(&number.to_be_bytes());
        }
        let verdict = gate.admit(black_box(&datagram), arrival(), NOW, CLOCK);
        assert!(verdict.is_err_and(|reason| reason == why));
    });
}

/// Junk of the right length.
#[divan::bench(args = CLIENTS)]
fn refuse_unknown_pseudonym(bencher: Bencher, clients: u32) {
    refuse(bencher, clients, Reason::UnknownClient, |_| [0x5a; 336]);
}

/// A captured knock with another tag.
#[divan::bench(args = CLIENTS)]
fn refuse_wrong_tag(bencher: Bencher, clients: u32) {
    refuse(bencher, clients, Reason::BadTag, |_| {
        let mut datagram = knock(&credentials(0), 0);
        datagram[335] ^= 1;
        datagram
    });
}

/// A captured knock.
#[divan::bench(args = CLIENTS)]
fn refuse_copy(bencher: Bencher, clients: u32) {
    refuse(bencher, clients, Reason::Duplicate, |gate| {
        let datagram = knock(&credentials(0), 0);
        gate.admit(&datagram, arrival(), NOW, CLOCK).map(|_| ()).unwrap();
        datagram
    });
}

/// As [`refuse_unknown_pseudonym`], while the server's keys are being replaced.
#[divan::bench(args = CLIENTS)]
fn refuse_unknown_pseudonym_in_an_overlap(bencher: Bencher, clients: u32) {
    refuse_at(overlapping(clients), bencher, Reason::UnknownClient, |_| [0x5a; 336]);
}

/// As [`refuse_copy`], of a knock for the former keys.
#[divan::bench(args = CLIENTS)]
fn refuse_copy_in_an_overlap(bencher: Bencher, clients: u32) {
    refuse_at(overlapping(clients), bencher, Reason::Duplicate, |gate| {
        let datagram = knock(&credentials(0), 0);
        gate.admit(&datagram, arrival(), NOW, CLOCK).map(|_| ()).unwrap();
        datagram
    });
}

/// X25519 and decryption included.
#[divan::bench(args = CLIENTS)]
fn admit_a_knock(bencher: Bencher, clients: u32) {
    let mut gate = gate(clients);
    // Each of many knocks once or twice, as it is in life; the list of attempts stays short.
    let some: Vec<_> = (0..clients.min(500)).map(credentials).collect();
    let mut numbers = 0..u32::MAX;
    bencher
        .with_inputs(|| {
            let number = numbers.next().unwrap_or(0);
            knock(&some[number as usize % some.len()], number)
        })
        .bench_local_values(|datagram| {
            gate.admit(&datagram, arrival(), NOW, CLOCK).map(|_| ()).unwrap();
        });
}

/// The warden's part: the signature.
#[divan::bench]
fn verify_a_request(bencher: Bencher) {
    verify(bencher, PreparedKeys::none);
}

/// As [`verify_a_request`], of a client that knocked lately.
#[divan::bench]
fn verify_a_request_with_a_prepared_key(bencher: Bencher) {
    verify(bencher, PreparedKeys::new);
}

fn verify(bencher: Bencher, prepared: fn() -> PreparedKeys) {
    let mut prepared = prepared();
    let client = credentials(0);
    let verifier = Verifier::Bound(client.signing.verifying_key());
    let signed = gate(1).admit(&knock(&client, 0), arrival(), NOW, CLOCK);
    let signed = signed.unwrap_or_else(|reason| unreachable!("{reason:?}"));
    let public = secret().public();
    bencher.bench_local(|| {
        let tolerance = Tolerance::DEFAULT;
        let verified = signed.verify_with(&mut prepared, &public, &verifier, NOW, tolerance);
        assert!(verified.is_ok());
    });
}

/// What the agreement would take by the library's own way, bit after bit.
#[divan::bench]
fn x25519_by_the_ladder(bencher: Bencher) {
    let secret = x25519_dalek::StaticSecret::from([3; 32]);
    let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from([4; 32]));
    bencher.bench_local(|| secret.diffie_hellman(black_box(&public)));
}

/// When the daemon starts, and every six hours: each client's keys and pseudonyms.
#[divan::bench]
fn derive_keys_of_a_client(bencher: Bencher) {
    let public = secret().public();
    let (psk, kid) = (Psk::from_bytes([1; 32]), Kid::from_bytes([2; 16]));
    bencher.bench_local(|| ClientKeys::derive(black_box(&psk), &public, &kid));
}
