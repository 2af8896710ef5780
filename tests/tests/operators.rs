//! Who may ask the daemon what, with real users; and who is written down for it.

use spa_tests::Result;
use spa_tests::lab::{Output, Privilege, not_shown, program};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

const GROUP: u32 = 950;
/// Words for `setpriv`: each is the user 1000, whose name is `tester`.
const BY_PRIMARY: &str = "--reuid 1000 --regid 950 --clear-groups";
const BY_SUPPLEMENTARY: &str = "--reuid 1000 --regid 1000 --groups 950";
const STRANGER: &str = "--reuid 1000 --regid 1000 --clear-groups";

/// Runs `spad` as somebody. The program is where everybody can run it, and nobody but root can
/// read the configuration.
fn ask(site: &Site, who: &str, words: &str) -> Result<Output> {
    site.server
        .sh(&format!("setpriv {who} --no-new-privs --bounding-set -all /run/spad-program --config /run/roots.toml {words}"))
}

fn site() -> Result<Option<Site>> {
    let site = Site::new()?;
    if site.lab.privilege() != Privilege::Root {
        not_shown("a second user, for want of root")?;
        return Ok(None);
    }
    site.server.add_user("operators", GROUP)?;
    site.server
        .sh(&format!(
            "install -m 755 {} /run/spad-program && install -m 600 /dev/null /run/roots.toml",
            program("spad")?.display()
        ))?
        .ok()?;
    Ok(Some(site))
}

fn with(top: &str) -> Settings {
    Settings { top: top.to_owned(), ..Settings::default() }
}

#[test]
fn without_a_group_root_alone_may_ask() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    let server = site.spad()?;
    for who in [BY_PRIMARY, BY_SUPPLEMENTARY, STRANGER] {
        let said = ask(&site, who, "status")?;
        assert!(said.code() == Some(3) && said.stderr.contains("permission denied"), "{said}");
    }
    server.status()?;
    let modes = site.server.sh("stat -c '%a %g' /run/spad /run/spad/control.sock")?.ok()?;
    assert_eq!(modes.text(), "700 0\n600 0");
    Ok(())
}

#[test]
fn members_of_the_group_may_look_and_change_nothing() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    let server = site.spad_with(&with("control-group = \"operators\"\n"))?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    for who in [BY_PRIMARY, BY_SUPPLEMENTARY] {
        for words in ["status --json", "grants", "rules", "sessions", "bans"] {
            ask(&site, who, words)?.ok()?;
        }
        for words in [
            "revoke alice",
            "ban 203.0.113.1",
            "unban 203.0.113.1",
            "rates --clear",
            "reload",
            "stop",
        ] {
            let said = ask(&site, who, words)?;
            assert!(said.code() == Some(1) && said.stderr.contains("control-group-may"), "{said}");
        }
        // Nothing else in the directory can be reached.
        let look = format!("setpriv {who} sh -c 'ls /run/spad || cat /run/spad/in-force'");
        assert!(!site.server.sh(&look)?.success(), "the rest of the directory");
    }
    let said = ask(&site, STRANGER, "status")?;
    assert!(said.code() == Some(3) && said.stderr.contains("permission denied"), "{said}");
    assert_eq!(server.grants()?.len(), 1, "nothing was changed");
    until("who tried is written down", SOON, || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("command=\"revoke alice\""));
        Ok(line.is_some_and(|line| line.contains("by=1000") && line.contains("login=\"tester\"")))
    })?;
    let log = server.log();
    let told = log.lines().filter(|line| line.contains("audit: command")).count();
    assert!(told < 3, "at most once a minute, however often: {log}");
    Ok(())
}

#[test]
fn one_member_cannot_keep_others_out() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    let _server = site.spad_with(&with("control-group = \"operators\"\n"))?;
    let crowd = "\
import os, socket, time
os.setgroups([])
os.setresgid(950, 950, 950)
os.setresuid(1000, 1000, 1000)
held = []
for _ in range(40):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect('/run/spad/control.sock')
    try:
        held[-1].sendall(b'{\"command\":\"watch\"}\\n')
    except OSError:
        pass
print([len(one.recv(4096)) > 1 for one in held].count(True), flush=True)
time.sleep(600)
";
    let crowd = site.server.spawn(["python3", "-c", crowd])?;
    until("all but four are turned away", SOON, || Ok(crowd.stdout().trim() == "36"))?;
    let said = ask(&site, BY_PRIMARY, "grants")?;
    assert!(said.code() == Some(1) && said.stderr.contains("too many callers"), "{said}");
    let said = ask(&site, BY_PRIMARY, "watch --json")?;
    assert!(said.code() == Some(1) && said.stderr.contains("too many callers"), "{said}");
    ask(&site, "--reuid 1001 --regid 950 --clear-groups", "grants")?.ok()?;
    Ok(())
}

#[test]
fn the_kernel_says_who_calls_whatever_the_mode_of_the_socket() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    let _server = site.spad_with(&with("control-group = \"operators\"\n"))?;
    site.server.sh("chmod 711 /run/spad && chmod 666 /run/spad/control.sock")?.ok()?;
    let said = ask(&site, STRANGER, "status")?;
    assert!(said.code() == Some(1) && said.stderr.contains("you may not ask"), "{said}");
    ask(&site, BY_SUPPLEMENTARY, "grants")?.ok()?;
    Ok(())
}

#[test]
fn who_changes_something_is_written_down_with_what_came_of_it() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    let top = "control-group = \"operators\"\ncontrol-group-may = \"change\"\n";
    let mut server = site.spad_with(&with(top))?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    ask(&site, BY_PRIMARY, "revoke alice")?.ok()?;
    assert_eq!(server.grants()?, []);
    server.spad(&["revoke", "nobody"])?;
    let log = server.log();
    for (command, by, login, outcome) in [
        ("revoke alice", 1000, "tester", "1 grants ended, "),
        ("revoke nobody", 0, "root", "there is no client nobody"),
    ] {
        let line = log.lines().find(|line| line.contains(&format!("command={command:?}")));
        let line = line.unwrap_or_default();
        assert!(
            line.contains(&format!("by={by} login={login:?}")) && line.contains(outcome),
            "{log}"
        );
    }
    let asked = log.lines().filter(|line| line.contains("audit: command")).count();
    assert_eq!(asked, 2, "who only looks is not written down: {log}");

    // Without the group again, nobody of it is left in.
    server.stop()?;
    server.configure(&Settings::default())?;
    server.start()?;
    assert_eq!(ask(&site, BY_PRIMARY, "status")?.code(), Some(3));
    Ok(())
}

#[test]
fn members_of_the_group_read_the_audit_file() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    site.server.sh("install -d -m 750 /run/logs")?.ok()?;
    let top = "control-group = \"operators\"\naudit-file = \"/run/logs/audit.jsonl\"\n";
    let mut server = Server::new(&site.server, SERVER_NAME, &with(top))?;
    // As systemd starts it.
    server.start_as(&["env", "LOGS_DIRECTORY=/run/logs"])?;
    server.spad(&["ban", "203.0.113.1"])?.ok()?;
    until("it is written", SOON, || {
        let said = ask(&site, BY_SUPPLEMENTARY, "log --file /run/logs/audit.jsonl")?;
        Ok(said.success() && said.stdout.contains("ban 203.0.113.1"))
    })?;
    assert!(!ask(&site, STRANGER, "log --file /run/logs/audit.jsonl")?.success());
    // The configuration is not for them.
    let said = ask(&site, BY_SUPPLEMENTARY, "log")?;
    assert!(said.code() == Some(1) && said.stderr.contains("--file"), "{said}");
    Ok(())
}
