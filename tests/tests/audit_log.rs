//! The audit in a file and in the journal, and what `spad log` finds there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;
use spa_tests::Result;
use spa_tests::lab::{Doing, Host, LabError, Privilege, Running, not_shown, program};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until, until_some};

/// A site whose audit goes to a file, and that file.
fn with_file(site: &Site) -> Result<(Settings, PathBuf)> {
    let file = site.server.dir().join("logs/audit.jsonl");
    fs::create_dir_all(file.parent().unwrap_or(&file))?;
    let top = format!("audit-file = \"{}\"\n", file.display());
    Ok((Settings { top, ..Settings::default() }, file))
}

/// What `spad log --json` prints with these options.
fn log(server: &Server, options: &[&str]) -> Result<Vec<Value>> {
    let said = server.spad(&[&["log", "--json"], options].concat())?.ok()?;
    let line = |line: &str| serde_json::from_str(line).doing("a line of spad log");
    said.stdout.lines().map(line).collect()
}

/// Waits until so many events are there, or more.
fn wait_for(server: &Server, options: &[&str], count: usize) -> Result<Vec<Value>> {
    until_some(&format!("{count} events with {options:?}"), SOON, || {
        Ok(Some(log(server, options)?).filter(|events| events.len() >= count))
    })
}

#[test]
fn the_audit_in_a_file_is_found_by_who_where_what_and_when() -> Result {
    let site = Site::new()?;
    let (settings, file) = with_file(&site)?;
    let server = site.spad_with(&settings)?;
    let (alice, bob) = (site.client(&server, "alice")?, site.client(&server, "bob")?);
    site.open(&server, &alice, &[])?;
    site.open(&server, &bob, &[])?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    server.spad(&["ban", "203.0.113.0/24", "--why", "guesses names"])?.ok()?;
    server.spad(&["revoke", "bob"])?.ok()?;

    let source = site.client.v4()?.to_string();
    let accepted =
        wait_for(&server, &["--client", "alice", "--service", "ssh", "--source", &source], 2)?;
    assert_eq!(accepted[0]["event"], "knock-accepted");
    assert_eq!(accepted[0]["source"], source.as_str());
    assert_eq!(
        (&accepted[0]["ports"], &accepted[1]["event"]),
        (&"tcp/22".into(), &"session-began".into())
    );
    let refused = wait_for(&server, &["--reason", "any"], 1)?;
    assert_eq!(
        (&refused[0]["client"], &refused[0]["reason"]),
        (&"alice".into(), &"unknown-service".into())
    );
    assert_eq!(wait_for(&server, &["--source", "203.0.113.9"], 1)?[0]["event"], "banned");
    let bobs = until_some("bob's session has ended", SOON, || {
        let events = log(&server, &["--client", "bob"])?;
        Ok(events.iter().any(|event| event["event"] == "session-ended").then_some(events))
    })?;
    assert!(bobs.iter().all(|event| event["client"] == "bob"), "{bobs:?}");
    assert!(bobs.iter().any(|event| event["why"] == "revoked by the administrator"), "{bobs:?}");

    for (options, some) in [
        (["--since", "1h", "--until", "0s"], true),
        (["--since", "2020-01-01", "--until", "2020-12-31"], false),
        (["--since", "0s", "--until", "1h"], false),
    ] {
        assert_eq!(log(&server, &options)?.is_empty(), !some, "{options:?}");
    }
    assert_eq!(log(&server, &["-n", "1", "--client", "alice"])?, refused);
    let text = server.spad(&["log"])?.ok()?.stdout;
    assert!(text.contains("knock refused  alice        unknown-service"), "{text}");
    assert!(text.contains("guesses names"), "{text}");

    let (mode, whole) = (fs::metadata(&file)?.mode() & 0o777, fs::read_to_string(&file)?);
    assert_eq!(mode, 0o640);
    let piped = site
        .server
        .run_with_input(["sh", "-c", &format!("{} log --file - --client bob", spad()?)], &whole)?;
    assert!(piped.stdout.contains("bob") && !piped.stdout.contains("alice"), "{piped}");
    Ok(())
}

fn spad() -> Result<String> {
    Ok(program("spad")?.display().to_string())
}

#[test]
fn a_file_that_is_rotated_is_followed_and_a_reload_changes_it() -> Result {
    let site = Site::new()?;
    let (settings, file) = with_file(&site)?;
    let server = site.spad_with(&settings)?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    wait_for(&server, &[], 2)?;
    let config = server.config_path().display().to_string();
    let program = spad()?;
    let words = [&*program, "log", "--follow", "--json", "--config", &config];
    let follower = site.server.spawn(words)?;
    let sees = |what: &str| {
        until(what, SOON, || Ok(follower.stdout().lines().any(|line| line.contains(what))))
    };
    sees("session-began")?;
    // As logrotate does it: nobody is told.
    fs::rename(&file, file.with_extension("1"))?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    sees("knock-refused")?;
    assert_eq!(log(&server, &[])?.len(), 1, "the new file has what came since");
    // A disk that does not take it holds nobody up, and is told.
    let logs = file.parent().unwrap_or(&file);
    fs::rename(logs, logs.with_extension("away"))?;
    site.open(&server, &alice, &[])?;
    until("the log says so", SOON, || Ok(server.log().contains("the audit cannot be written")))?;
    let elsewhere = site.server.dir().join("elsewhere.jsonl");
    let top = format!("audit-file = \"{}\"\n", elsewhere.display());
    server.configure(&Settings { top, ..settings })?;
    server.spad(&["reload"])?.ok()?;
    site.open(&server, &alice, &[])?;
    until("there now", SOON, || Ok(!log(&server, &["--client", "alice"])?.is_empty()))?;
    Ok(())
}

/// The journal of a host, as long as this is held.
fn journal(host: &Host) -> Result<Running> {
    // Not the machine's kernel messages too.
    host.sh(
        "mkdir -p /run/log/journal /run/systemd/journal /run/systemd/journald.conf.d && \
         printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=\\n' > /run/systemd/journald.conf.d/lab.conf && \
         mount -t cgroup2 none /sys/fs/cgroup",
    )?
    .ok()?;
    let running = host.spawn(["/lib/systemd/systemd-journald"])?;
    until("the journal listens", SOON, || Ok(host.sh("systemd-cat true")?.success()))?;
    Ok(running)
}

#[test]
fn under_systemd_the_audit_is_in_the_journal_with_its_fields() -> Result {
    let site = Site::new()?;
    if site.lab.privilege() != Privilege::Root {
        return not_shown("the journal trusts root alone");
    }
    let _journal = journal(&site.server)?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    // As systemd starts it.
    let begin = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2); exec \"$@\"";
    server.start_as(&["systemd-cat", "--identifier=spad", "sh", "-c", begin, "sh"]).map_err(
        |error| {
            let said = site.server.sh("journalctl -q -o cat").map(|said| said.stdout);
            LabError::new(format!("{error}: {}", said.unwrap_or_default()))
        },
    )?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    let events = wait_for(&server, &["--client", "alice"], 4)?;
    assert_eq!(events[0]["event"], "enrolled");
    assert_eq!(events[1]["event"], "knock-accepted");
    assert_eq!((&events[1]["seconds"], &events[1]["service"]), (&30.into(), &"ssh".into()));
    assert!(events.iter().any(|event| event["event"] == "session-began"), "{events:?}");
    assert_eq!(wait_for(&server, &["--reason", "unknown-service"], 1)?.len(), 1);
    assert_eq!(log(&server, &["--client", "bob"])?, [Value::Null; 0]);

    let fields = "journalctl -q -o json SPAD_CLIENT=alice SPAD_REASON=unknown-service";
    let entry: Value = serde_json::from_str(&site.server.sh(fields)?.ok()?.stdout)?;
    assert_eq!((&entry["PRIORITY"], &entry["_COMM"]), (&"4".into(), &"spad".into()));
    let lines = site.server.sh("journalctl -q -o cat SYSLOG_IDENTIFIER=spad")?.ok()?.stdout;
    assert!(lines.contains("ready port=62201"), "the other lines are there as well: {lines}");
    assert_eq!(lines.matches("knock accepted").count(), 1, "and the audit once: {lines}");
    // What somebody else writes in its name is not shown.
    let forged = "printf 'MESSAGE=knock accepted\\nTARGET=audit\\nSYSLOG_IDENTIFIER=spad\\nSPAD_CLIENT=mallory\\n' \
        | setpriv --reuid 4711 --clear-groups logger --journald";
    site.server.sh(forged)?.ok()?;
    until("it is in the journal", SOON, || {
        Ok(site.server.sh("journalctl -q -o cat SPAD_CLIENT=mallory")?.stdout.contains("accepted"))
    })?;
    assert_eq!(log(&server, &["--client", "mallory"])?, [Value::Null; 0]);
    Ok(())
}
