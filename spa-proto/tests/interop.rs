//! Two implementations of one document: this crate, and Python written from
//! `docs/protocol.md` alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use spa_proto::{EnrolHash, Kind, Reason, Request, Timestamp, Verifier};
use support::case::{Case, hex, unhex};
use support::craft::tag_again;
use support::parties::{Client, Clock, NOW, Server, admit, pair, refusal, ssh};
use support::strategies::samples;

const PYTHON: &str = "/usr/bin/python3";

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// Runs the program; what it writes to standard output.
fn python(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(PYTHON)
        .arg(path("../tests/interop/spa_interop.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{PYTHON}: {error}: apt-get install python3-argon2 python3-cryptography")
        });
    // A child that ends early is told below by what it wrote.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("No module named"),
        "this test needs other cryptographic libraries: apt-get install python3-argon2 python3-cryptography"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{said}");
    printed
}

/// Runs a command on several cases; as many answers.
fn answers(command: &str, cases: &[Case]) -> Vec<Case> {
    let cases: Vec<_> = cases.iter().map(Case::to_string).collect();
    let printed = python(&[command], &cases.join("---\n"));
    let answers: Vec<_> = printed.split("---\n").map(Case::parse).collect();
    assert_eq!(answers.len(), cases.len());
    answers
}

fn requests() -> Vec<Request> {
    let mut requests = samples(60);
    requests.push(ssh());
    requests
}

/// What a client has, and what it asks for.
fn to_seal(client: &Client, request: &Request, ts: u64) -> Case {
    Case::default()
        .with("server", client.server)
        .with_bytes("cloak", &client.cloak)
        .with_bytes("kid", &client.kid)
        .with_bytes("psk", &client.psk)
        .with_bytes("seed", &client.seed)
        .with("ts", ts)
        .with_request(request)
}

/// What a server has, and what it got.
fn to_open(server: &Server, client: &Client, record: &str, datagram: &[u8]) -> Case {
    Case::default()
        .with_bytes("s", &server.secret)
        .with_bytes("cloak", &server.cloak)
        .with("client", format!("{} {}", hex(&client.kid), hex(&client.psk)))
        .with("record", record)
        .with("now", NOW)
        .with("source", "198.51.100.7")
        .with("destination", "203.0.113.1")
        .with_bytes("datagram", datagram)
}

/// Bound, except where the request enrols.
fn record(client: &Client, request: &Request) -> String {
    match &request.kind {
        Kind::Knock => format!("key {}", hex(&client.signing().verifying_key().to_bytes())),
        Kind::Enrol(enrolment) => {
            format!("token {} {NOW}", hex(EnrolHash::of(&enrolment.secret).as_bytes()))
        }
    }
}

/// The same as the warden has it.
fn verifier(client: &Client, request: &Request) -> Verifier {
    match &request.kind {
        Kind::Knock => client.verifier(),
        Kind::Enrol(enrolment) => Verifier::Pending {
            secret: EnrolHash::of(&enrolment.secret),
            expires: Timestamp::from_millis(NOW),
        },
    }
}

/// An enrolment is signed with the key it brings, which in a sample is any key.
fn bring_own_key(client: &Client, request: &mut Request) {
    if let Kind::Enrol(enrolment) = &mut request.kind {
        enrolment.verifying_key = client.signing().verifying_key();
    }
}

#[test]
fn python_agrees_with_every_vector() {
    let printed = python(&["vectors", path("tests/vectors").to_str().unwrap()], "");
    assert!(printed.contains(" cases, 0 failed"), "{printed}");
}

#[test]
fn what_python_seals_is_admitted_and_verified() {
    let (server, client) = pair();
    let clock = Clock::at(NOW);
    let mut requests = requests();
    requests.iter_mut().for_each(|request| bring_own_key(&client, request));
    let cases: Vec<_> = requests.iter().map(|request| to_seal(&client, request, NOW)).collect();
    for (request, answer) in requests.iter().zip(answers("seal", &cases)) {
        let datagram = unhex(answer.one("datagram"));
        let mut gate = server.gate(&[&client], clock);
        let signed =
            admit(&mut gate, &datagram, clock).unwrap_or_else(|reason| panic!("{reason:?}"));
        let knock = server
            .verify(&signed, &verifier(&client, request), clock)
            .unwrap_or_else(|reason| panic!("{reason:?}"));
        assert_eq!(knock.request().encode(), request.encode());
        assert_eq!(knock.time(), clock.now());
        let brought = matches!(request.kind, Kind::Enrol(_));
        assert_eq!(knock.binds(), brought.then(|| client.signing().verifying_key()));
    }
    let enrolments = requests.iter().filter(|request| matches!(request.kind, Kind::Enrol(_)));
    assert!((1..requests.len()).contains(&enrolments.count()), "some of each kind");
}

#[test]
fn python_draws_randomness_of_its_own() {
    let (_, client) = pair();
    let sealed = answers("seal", &vec![to_seal(&client, &ssh(), NOW); 2]);
    assert_ne!(sealed[0].one("datagram"), sealed[1].one("datagram"));
}

#[test]
fn python_opens_what_is_sealed_here() {
    let (server, client) = pair();
    let mut requests = requests();
    requests.iter_mut().for_each(|request| bring_own_key(&client, request));
    let case = |(number, request): (u64, &Request)| {
        let datagram = client.knock(request, Clock::at(NOW), number);
        to_open(&server, &client, &record(&client, request), &datagram)
    };
    let cases: Vec<_> = (0..).zip(&requests).map(case).collect();
    for (request, answer) in requests.iter().zip(answers("open", &cases)) {
        assert_eq!(answer.one("expect"), "signed");
        assert_eq!(answer.bytes("body"), request.encode().unwrap());
        assert_eq!(answer.number("ts"), NOW);
        let binds = matches!(request.kind, Kind::Enrol(_));
        assert_eq!(answer.get("binds").is_some(), binds);
    }
}

/// Bits flipped at random, half of the time under a right tag: one reason.
#[test]
fn both_refuse_for_the_same_reason() {
    let (server, client) = pair();
    let mut runner = TestRunner::deterministic();
    let altered: Vec<_> = (0..120)
        .map(|number| {
            let mut datagram = client.knock(&ssh(), Clock::at(NOW), number);
            let bit = (0..8 * 336usize).new_tree(&mut runner).unwrap().current();
            datagram[bit / 8] ^= 1 << (bit % 8);
            if any::<bool>().new_tree(&mut runner).unwrap().current() {
                tag_again(&client.sender(), &mut datagram);
            }
            datagram
        })
        .collect();
    let record = record(&client, &ssh());
    let cases: Vec<_> =
        altered.iter().map(|datagram| to_open(&server, &client, &record, datagram)).collect();
    for (datagram, answer) in altered.iter().zip(answers("open", &cases)) {
        let reason =
            refusal(&mut server.gate(&[&client], Clock::at(NOW)), datagram, Clock::at(NOW));
        // A flip in the tag itself is made good by a right tag.
        assert_eq!(answer.one("expect"), reason.map_or("signed", Reason::name));
    }
}
