//! The test vectors of protocol §14: every file says what comes out of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use spa_proto::Reason;
use support::case::Case;
use support::craft::{Plan, Sender};
use support::{cases, run};

/// All that steps 1 to 9 can say.
const GATE_AND_VERIFY: [Reason; 17] = [
    Reason::Length,
    Reason::Addressing,
    Reason::UnknownClient,
    Reason::BadTag,
    Reason::EpochMismatch,
    Reason::Stale,
    Reason::Duplicate,
    Reason::OverBudget,
    Reason::OverCap,
    Reason::BadEphemeral,
    Reason::BadSeal,
    Reason::NotCanonical,
    Reason::NotEnrolled,
    Reason::BadSignature,
    Reason::BadEnrolSecret,
    Reason::EnrolExpired,
    Reason::EnrolTaken,
];

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "vectors"].iter().collect()
}

fn files() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|end| end == "txt"));
    texts
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn parsed() -> Vec<(String, Case)> {
    let files = files();
    assert!(!files.is_empty(), "no vectors in {}", directory().display());
    files.into_iter().map(|(name, text)| (name, Case::parse(&text))).collect()
}

#[test]
fn every_case_comes_out_as_its_file_says() {
    for (name, case) in parsed() {
        let at = |half: &str| case.get("at") == Some(half);
        match run::open(&case) {
            Ok(binds) => {
                let binds = binds.map(|key| support::case::hex(&key.to_bytes()));
                assert_eq!(case.one("expect"), "signed", "{name}");
                assert_eq!(case.get("binds"), binds.as_deref(), "{name}");
            }
            Err((half, reason)) => {
                assert_eq!(case.one("expect"), reason.name(), "{name}");
                assert!(at(half), "{name}: refused by the {half}");
            }
        }
    }
}

#[test]
fn sealing_gives_the_same_bytes_and_values() {
    let sealed: Vec<_> =
        parsed().into_iter().filter(|(_, case)| case.get("seed").is_some()).collect();
    assert!(sealed.len() > 20);
    for (name, case) in sealed {
        let datagram = support::case::hex(&run::seal_again(&case));
        assert_eq!(datagram, case.one("datagram"), "{name}");
        let plan = Plan::new(case.bytes("body"), case.number("ts"), case.bytes("randomness"));
        for (key, value) in cases::values(&sender(&case).knock(&plan)) {
            assert_eq!(case.one(key), value, "{name}: {key}");
        }
    }
}

fn sender(case: &Case) -> Sender {
    Sender {
        server: case.bytes("server"),
        cloak: case.bytes("cloak"),
        kid: case.bytes("kid"),
        psk: case.bytes("psk"),
        seed: case.bytes("seed"),
    }
}

#[test]
fn every_reason_has_a_case() {
    let said: Vec<_> = parsed().iter().map(|(_, case)| case.one("expect").to_owned()).collect();
    for reason in GATE_AND_VERIFY {
        assert!(said.iter().any(|said| said == reason.name()), "{}", reason.name());
    }
    assert!(said.iter().filter(|said| *said == "signed").count() >= 15);
}

#[test]
fn the_files_are_those_that_the_generator_makes() {
    let files = files();
    let made = cases::all();
    assert_eq!(made.len(), files.len(), "a file too many, or one name twice");
    for (name, case) in made {
        assert_eq!(files.get(name).map(String::as_str), Some(&*case.to_string()), "{name}");
    }
}

/// Not a test: `tests/vectors/README.md` says when this may be run.
#[test]
#[ignore = "writes into the source tree, and only with SPA_PROTO_WRITE_VECTORS=yes"]
fn write_vectors() {
    if std::env::var("SPA_PROTO_WRITE_VECTORS").as_deref() != Ok("yes") {
        return;
    }
    for (name, case) in cases::all() {
        let path = directory().join(name).with_extension("txt");
        std::fs::write(path, case.to_string()).unwrap();
    }
}
