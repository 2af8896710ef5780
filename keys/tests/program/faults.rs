use std::collections::HashSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use spa_keys::Token;

use crate::keys::{Keys, Run};

/// As after a power cut in the middle of an `add`.
#[test]
fn half_written_files_are_no_clients_and_are_cleared_up() {
    let keys = Keys::new();
    keys.add("alice");
    for half in [".bob.toml.0123456789abcdef.tmp", ".alice.toml.fedcba9876543210.tmp"] {
        fs::write(keys.path("clients").join(half), "name = \"bo").unwrap();
    }
    assert!(fs::read(keys.path("lock")).unwrap().is_empty(), "nobody writes");
    fs::write(keys.path("lock"), [0]).unwrap();
    assert_eq!(keys.run(&["list", "--json"]).done().json().as_array().unwrap().len(), 1);
    keys.add("bob");
    assert_eq!(keys.names("clients"), ["alice.toml", "bob.toml"]);
}

#[test]
fn many_can_add_at_once() {
    let keys = Keys::new();
    let children: Vec<_> = (0..12)
        .map(|n| {
            let mut command = keys.command(&["add", &format!("client-{n}"), "--service", "ssh"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let kids: HashSet<_> = children
        .into_iter()
        .map(|child| Run::from(child.wait_with_output().unwrap()).done().token().kid)
        .collect();
    assert_eq!(kids.len(), 12);
    assert_eq!(keys.names("clients").len(), 12);
    keys.run(&["list"]).done();
}

#[test]
fn one_of_many_gets_the_name() {
    let keys = Keys::new();
    let children: Vec<_> = (0..8)
        .map(|_| {
            let mut command = keys.command(&["add", "alice", "--service", "ssh"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let runs: Vec<Run> =
        children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
    let (done, failed): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.code == Some(0));
    assert_eq!((done.len(), failed.len()), (1, 7));
    assert_eq!(done[0].token().kid, keys.record("alice").kid, "the token is of the record");
    assert!(failed.iter().all(|run| run.code == Some(1) && run.stdout.is_empty()));
}

#[test]
fn one_of_many_makes_the_server() {
    let keys = Keys::none();
    let children: Vec<_> = (0..8)
        .map(|n| {
            let mut command = keys.command(&["init", "--host", &format!("host-{n}.example.com")]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let done: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .filter(|output| output.status.success())
        .collect();
    assert_eq!(done.len(), 1);
    let host = keys.add("alice").host;
    assert!(String::from_utf8_lossy(&done[0].stdout).contains(&host));
}

#[test]
fn killed_at_any_moment_it_leaves_whole_records_or_none() {
    let keys = Keys::new();
    for round in 0..60 {
        let name = format!("client-{round}");
        let mut command = keys.command(&["add", &name, "--service", "ssh"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 100));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let listed = keys.run(&["list", "--json"]).done().json().as_array().unwrap().len();
    keys.add("alice");
    let records = keys.names("clients");
    assert!(records.iter().all(|name| name.ends_with(".toml")), "swept: {records:?}");
    assert_eq!(records.len(), listed + 1);
}

/// A writer that cannot write: files may not grow beyond nothing.
#[test]
fn a_write_that_fails_leaves_no_trace() {
    let keys = Keys::new();
    keys.add("alice");
    let before = keys.modes();
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    keys.run_in(script, &["add", "bob", "--service", "ssh"]).failed(1, "cannot write");
    assert_eq!(keys.modes(), before);
    keys.run_in(script, &["revoke", "alice"]).failed(1, "cannot write");
    assert_eq!(keys.modes(), before, "what could not be kept is not taken away");
    keys.add("bob");
}

/// A real full file system, where user namespaces let us mount one.
#[test]
fn a_full_file_system_leaves_no_trace() {
    let keys = Keys::none();
    let script = format!(
        "mkdir {dir} && mount -t tmpfs -o size=64k,mode=0700 none {dir} || exit 77
         \"$@\" init --host fw.example.com || exit 1
         \"$@\" add alice --service ssh >&2 || exit 1
         head -c 1000000 /dev/zero >{dir}/filler 2>/dev/null
         \"$@\" add bob --service ssh && exit 1
         rm {dir}/filler
         ls -A {dir}/clients
         \"$@\" add bob --service ssh",
        dir = keys.dir().display()
    );
    let unshare = format!("exec unshare -rm sh -c '{script}' sh \"$@\"");
    let run = keys.run_in(&unshare, &[]);
    if run.code == Some(77) || run.stderr.starts_with("unshare:") {
        eprintln!("skipped: cannot mount here: {}", run.stderr);
        return;
    }
    let run = run.done();
    let lines: Vec<_> = run.stdout.lines().collect();
    assert!(run.stderr.contains("No space left on device"), "{run:?}");
    assert_eq!(lines[lines.len() - 2], "alice.toml", "nothing else was there");
    assert!(Token::decode(lines[lines.len() - 1]).is_ok(), "and with room it works");
}
