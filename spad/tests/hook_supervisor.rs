//! `spad hook`: the process that a hook runs in. Only root can become its user.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::process::{Command, Output, Stdio};

const NOBODY: &str = "65534";
const TIMED_OUT: i32 = 124;
const NOT_RUN: i32 = 125;
const MISSING: i32 = 127;

/// Runs words as nobody.
fn hook(seconds: u32, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spad"));
    command.args([
        "hook",
        "--uid",
        NOBODY,
        "--gid",
        NOBODY,
        "--seconds",
        &seconds.to_string(),
        "--",
    ]);
    command.args(words).env_clear().env("SPAD_EVENT", "grant").stdin(Stdio::null());
    command.output().unwrap()
}

/// Exit code, and what was said.
fn sh(seconds: u32, script: &str) -> (i32, String) {
    let Output { status, stderr, stdout } = hook(seconds, &["/bin/sh", "-c", script]);
    assert!(stdout.is_empty());
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// Whether this process may become another; the rest is refused.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let (code, said) = sh(60, "exit 0");
        assert!(code == NOT_RUN && said.contains("privileges stay"), "{code}: {said}");
    }
    root
}

#[test]
fn status_and_words_come_back() {
    if !is_root() {
        return;
    }
    assert_eq!(sh(60, "exit 0"), (0, String::new()));
    let (code, said) = sh(60, "echo one; printf 'two\\033[2J' >&2; exit 3");
    assert_eq!((code, said.as_str()), (3, "spad: hook /bin/sh says: one two\\u{1b}[2J\n"));
    assert_eq!(sh(60, "kill -9 $$").0, 128 + 9);
    assert_eq!(sh(60, "yes | head -c 10000000").1.len(), "spad: hook /bin/sh says: \n".len() + 399);
    assert_eq!(hook(60, &["/nowhere/hook"]).status.code(), Some(MISSING));
}

#[test]
fn it_may_nothing_beyond_its_user() {
    if !is_root() {
        return;
    }
    let told =
        |name: &str| sh(60, &format!("sed -n 's/^{name}:[[:space:]]*//p' /proc/self/status")).1;
    for (name, expected) in [
        ("Uid", "65534\t65534\t65534\t65534"),
        ("Gid", "65534\t65534\t65534\t65534"),
        ("Groups", ""),
        ("NoNewPrivs", "1"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Umask", "0077"),
    ] {
        let expected = match expected {
            "" => String::new(),
            text => format!("spad: hook /bin/sh says: {}\n", text.replace('\t', " ")),
        };
        assert_eq!(told(name), expected, "{name}");
    }
    let open = "for n in 0 1 2 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$n && echo $n; done";
    let said = sh(
        60,
        &format!(
            "{open}; readlink /proc/$$/fd/0; pwd; grep -c 'processes *256 *256 ' /proc/$$/limits"
        ),
    )
    .1;
    assert_eq!(said, "spad: hook /bin/sh says: 0 1 2 /dev/null / 1\n");
}

/// Also who has left its group and its session, and whose parent is gone.
#[test]
fn nobody_stays() {
    if !is_root() {
        return;
    }
    // Asked of the kernel by an argument that nobody else has.
    let left = |mark: &str| {
        let found = Command::new("pgrep").args(["-f", mark]).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    for (seconds, mark, end, expected) in
        [(600, "98761.01", "exit 5", 5), (1, "98762.02", "sleep 98762.02", TIMED_OUT)]
    {
        let script =
            format!("(setsid sh -c 'sleep {mark} & sleep {mark}' &); sleep {mark} & {end}");
        assert_eq!(sh(seconds, &script).0, expected);
        assert_eq!(left(&format!("sleep {mark}")), "", "{mark}");
    }
}
