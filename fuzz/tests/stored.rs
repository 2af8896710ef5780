//! The stored inputs through what the fuzzer runs: those in `corpus/`, which
//! between them get everywhere, and those in `regressions/`, each of which once
//! found a fault.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::{Path, PathBuf};

use spa_fuzz::{Run, TARGETS, gate};

const KINDS: [&str; 2] = ["corpus", "regressions"];

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dir).into_iter().flatten();
    found.map(|entry| entry.unwrap().path()).collect()
}

/// Whether it got through. The file is named before the panic that it causes.
fn replay(run: Run, path: &Path) -> bool {
    let input = std::fs::read(path).unwrap();
    let outcome = std::panic::catch_unwind(|| run(&input));
    outcome.unwrap_or_else(|_| panic!("found by {}", path.display()))
}

/// Some of the corpus must get through, and some must not: otherwise it would
/// go on finding nothing after a format has changed.
#[test]
fn stored_inputs_find_nothing() {
    for (name, run) in TARGETS {
        let corpus = entries(&folder("corpus").join(name));
        let through = corpus.iter().filter(|path| replay(run, path)).count();
        assert!(0 < through && through < corpus.len(), "{name}: {through} of {}", corpus.len());
        for path in entries(&folder("regressions").join(name)) {
            replay(run, &path);
        }
    }
}

/// Otherwise a finding might not come again.
#[test]
fn the_gate_says_the_same_each_time() {
    let (mut passed, mut refused) = (0, 0);
    for path in KINDS.iter().flat_map(|kind| entries(&folder(kind).join("gate"))) {
        let input = std::fs::read(&path).unwrap();
        let (first, second) = (gate::verdicts(&input), gate::verdicts(&input));
        assert!(first == second, "{}: {first:x?}\n{second:x?}", path.display());
        passed += first.iter().filter(|verdict| verdict.is_ok()).count();
        refused += first.iter().filter(|verdict| verdict.is_err()).count();
    }
    assert!(passed > 0 && refused > 0, "{passed} passed, {refused} refused");
}

#[test]
fn every_folder_is_a_target() {
    for folder in KINDS.iter().flat_map(|kind| entries(&folder(kind))) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{}", folder.display());
    }
}

/// What the fuzzer can be asked for is what is replayed.
#[test]
fn every_target_is_replayed() {
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).unwrap();
    let built: Vec<_> =
        manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")).collect();
    let replayed: Vec<_> = TARGETS.iter().map(|(name, _)| format!("{name}.rs\"")).collect();
    assert_eq!(built, replayed);
}
