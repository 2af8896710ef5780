//! Hooks: a program is told of grants and of their ends, may nothing, and holds up nobody.

use std::collections::BTreeMap;

use spa_tests::Result;
use spa_tests::lab::{Host, Privilege, fail, not_shown};
use spa_tests::product::{Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// Who hooks run as.
const USER: (&str, u32) = ("hooks", 4711);
/// Where the hook is, and what it writes: seen on the server's host only.
const PLACE: &str = "/srv";

/// Writes down what it is told and what it is, under a name of its own.
const REPORT: &str = r#"#!/bin/sh
file=/srv/out/$(date +%s%N)-$SPAD_EVENT-$SPAD_GRANT
ls -l /proc/$$/fd > $file-descriptors.new
{
    tr '\0' '\n' < /proc/$$/environ
    printf 'argument=%s\n' "$@"
    sed -n 's/:[[:space:]]*/=/p' /proc/$$/status
    # From 10 on they are the shell's own.
    echo descriptors=$(sed -n 's/.* \([0-9]\) -> .*/\1/p' $file-descriptors.new)
} > "$file.new" && mv "$file.new" "$file"
"#;

type Report = BTreeMap<String, String>;

/// Puts a program where root alone can write, and a directory for everybody beside it.
fn prepare(host: &Host, script: &str) -> Result {
    host.add_user(USER.0, USER.1)?;
    host.sh(&format!("mount -t tmpfs -o mode=755 tmpfs {PLACE} && mkdir -m 1777 {PLACE}/out"))?
        .ok()?;
    host.run_with_input(["sh", "-c", "cat > /srv/hook && chmod 755 /srv/hook"], script)?.ok()?;
    Ok(())
}

fn settings(timeout: &str) -> Settings {
    let more = format!(
        "[hooks]\non-grant = [\"{PLACE}/hook\", \"a $(touch {PLACE}/out/shell) b\"]\n\
         on-end = [\"{PLACE}/hook\"]\nuser = \"{}\"\ntimeout = \"{timeout}\"\n",
        USER.0
    );
    Settings { more, ..Settings::default() }
}

/// What hooks have written until now, in order.
fn reports(host: &Host) -> Result<Vec<Report>> {
    let all =
        host.sh(&format!("cd {PLACE}/out && for f in $(ls | grep -v new); do cat $f; echo; done"))?;
    let report = |text: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    Ok(all.ok()?.stdout.split("\n\n").filter(|text| !text.trim().is_empty()).map(report).collect())
}

/// Event and grant of each, once there are so many.
fn events(host: &Host, count: usize) -> Result<Vec<(String, String, String)>> {
    until("hooks have run", SOON * 3, || Ok(reports(host)?.len() >= count))?;
    let of = |report: &Report, name: &str| report.get(name).cloned().unwrap_or_default();
    let event = |report: &Report| {
        (of(report, "SPAD_EVENT"), of(report, "SPAD_GRANT"), of(report, "SPAD_WHY"))
    };
    Ok(reports(host)?.iter().map(event).collect())
}

fn event(name: &str, grant: &str, why: &str) -> (String, String, String) {
    (name.to_owned(), grant.to_string(), why.to_owned())
}

/// A site whose server can make processes other users.
fn site() -> Result<Option<Site>> {
    let site = Site::new()?;
    if site.lab.privilege() != Privilege::Root {
        not_shown("a second user, for want of root")?;
        return Ok(None);
    }
    Ok(Some(site))
}

#[test]
fn a_hook_is_told_all_and_may_nothing() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    prepare(&site.server, REPORT)?;
    let server = site.spad_with(&settings("10s"))?;
    let alice = site.client(&server, "alice")?;
    let grant = site.open(&server, &alice, &["--ttl", "40s"])?;
    assert_eq!(events(&site.server, 1)?, [event("grant", &grant.id, "")]);
    let report = reports(&site.server)?.remove(0);
    let source = site.client.v4()?.to_string();
    for (name, value) in [
        ("SPAD_CLIENT", "alice"),
        ("SPAD_SERVICE", "ssh"),
        ("SPAD_PORTS", "tcp/22"),
        ("SPAD_SOURCE", source.as_str()),
        ("SPAD_SEEN", source.as_str()),
        ("SPAD_MODE", "window"),
        ("argument", "a $(touch /srv/out/shell) b"),
        ("Uid", "4711\t4711\t4711\t4711"),
        ("Gid", "4711\t4711\t4711\t4711"),
        ("Groups", ""),
        ("NoNewPrivs", "1"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("descriptors", "0 1 2"),
    ] {
        assert_eq!(report.get(name).map(|value| value.trim()), Some(value), "{name}");
    }
    let kid = report.get("SPAD_KID").map(String::as_str).unwrap_or("none");
    assert!(server.keys(&["show", "alice"])?.ok()?.stdout.contains(kid), "{kid}");
    let known = |name: &String| name.starts_with("SPAD_") || name == "PATH";
    let environment: Vec<_> = report
        .keys()
        .filter(|name| name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'))
        .collect();
    assert!(environment.iter().all(|name| known(name)), "no other variable: {environment:?}");
    site.server.sh("test ! -e /srv/out/shell")?.ok()?;
    Ok(())
}

#[test]
fn ends_are_told_in_order_whatever_ends_them() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    prepare(&site.server, REPORT)?;
    let mut server = site.spad_with(&settings("10s"))?;
    let alice = site.client(&server, "alice")?;
    let bob = site.client(&server, "bob")?;

    let first = site.open(&server, &alice, &["--ttl", "3s"])?.id;
    let mut expected = vec![event("grant", &first, ""), event("end", &first, "expired")];
    assert_eq!(events(&site.server, 2)?, expected);

    let second = site.open(&server, &alice, &[])?.id;
    expected.push(event("grant", &second, ""));
    assert_eq!(events(&site.server, 3)?, expected);
    alice.knock(&[])?.ok()?;
    expected.push(event("extend", &second, ""));
    assert_eq!(events(&site.server, 4)?, expected);
    server.keys(&["revoke", "alice"])?.ok()?;
    expected.push(event("end", &second, "revoked"));
    assert_eq!(events(&site.server, 5)?, expected);

    // One ends while nobody is there; the other is taken over.
    let third = site.open(&server, &bob, &["--ttl", "3s"])?.id;
    expected.push(event("grant", &third, ""));
    assert_eq!(events(&site.server, 6)?, expected);
    server.stop()?;
    until("the port is shut", SOON, || Ok(!site.reaches(&site.client, 22)?))?;
    server.start()?;
    expected.push(event("end", &third, "while spad did not run"));
    assert_eq!(events(&site.server, 7)?, expected);
    let fourth = site.open(&server, &bob, &["--ttl", "20s"])?.id;
    expected.push(event("grant", &fourth, ""));
    assert_eq!(events(&site.server, 8)?, expected);
    server.restart()?;
    server.spad(&["revoke", "bob"])?.ok()?;
    until("the end is told", SOON, || Ok(reports(&site.server)?.len() == 9))?;
    assert_eq!(events(&site.server, 9)?[8].0, "end", "and nothing a second time");
    Ok(())
}

/// What ended, or began, while nobody was to be told of ends.
#[test]
fn of_a_grant_whose_beginning_was_not_told_no_end_is() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    prepare(&site.server, REPORT)?;
    let mut server = site.spad_with(&Settings::default())?;
    let alice = site.client(&server, "alice")?;
    let bob = site.client(&server, "bob")?;
    site.open(&server, &alice, &["--ttl", "2s"])?;
    until("the port is shut", SOON, || Ok(!site.reaches(&site.client, 22)?))?;
    let second = site.open(&server, &bob, &[])?.id;
    server.configure(&settings("10s"))?;
    server.restart()?;
    assert_eq!(server.grants()?.len(), 1, "bob's is taken over");
    server.spad(&["revoke", "bob"])?.ok()?;
    let third = site.open(&server, &alice, &["--ttl", "2s"])?.id;
    let mut expected = vec![event("grant", &third, ""), event("end", &third, "expired")];
    assert_eq!(events(&site.server, 2)?, expected, "and nothing of {second}");

    // Somebody wants to know no more while one is in force, and does again later.
    let fourth = site.open(&server, &bob, &["--ttl", "3s"])?.id;
    expected.push(event("grant", &fourth, ""));
    assert_eq!(events(&site.server, 3)?, expected);
    server.configure(&Settings::default())?;
    server.spad(&["reload"])?.ok()?;
    until("the port is shut", SOON, || Ok(!site.reaches(&site.client, 22)?))?;
    server.configure(&settings("10s"))?;
    server.restart()?;
    let fifth = site.open(&server, &bob, &[])?.id;
    expected.push(event("grant", &fifth, ""));
    assert_eq!(events(&site.server, 4)?, expected, "and nothing of {fourth}");

    // The name of one that was revoked meanwhile is known all the same.
    server.stop()?;
    server.keys(&["revoke", "bob"])?.ok()?;
    server.start()?;
    expected.push(event("end", &fifth, "while spad did not run"));
    assert_eq!(events(&site.server, 5)?, expected);
    let told = reports(&site.server)?.remove(4);
    assert_eq!(told.get("SPAD_CLIENT").map(String::as_str), Some("bob"));
    Ok(())
}

/// What is told of a grant first holds up what is told of it next.
#[test]
fn what_had_to_wait_is_told_what_is_left() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    prepare(&site.server, &format!("{REPORT}sleep 4\n"))?;
    let server = site.spad_with(&settings("20s"))?;
    let alice = site.client(&server, "alice")?;
    let grant = site.open(&server, &alice, &["--ttl", "40s"])?.id;
    alice.knock(&["--ttl", "40s"])?.ok()?;
    let both = [event("grant", &grant, ""), event("extend", &grant, "")];
    assert_eq!(events(&site.server, 2)?, both);
    let seconds = reports(&site.server)?.remove(1).remove("SPAD_SECONDS").unwrap_or_default();
    assert!(seconds.parse::<u32>()? <= 37, "of 40, after 4 of waiting: {seconds}");
    Ok(())
}

/// More of them than run at once, each with a child that has left its group.
#[test]
fn hooks_that_hang_hold_up_nobody_and_end() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    prepare(&site.server, "#!/bin/sh\n(setsid sleep 54321 &)\nsleep 54321\n")?;
    let server = site.spad_with(&settings("2s"))?;
    let clients: Vec<_> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .map(|name| site.client(&server, name))
        .collect::<Result<_>>()?;
    for (number, client) in (1..).zip(&clients) {
        client.knock(&[])?.ok()?;
        server.wait_for_counter("granted", number)?;
    }
    assert_eq!(server.grants()?.len(), clients.len());
    let failed = || server.log().matches("its time was over").count();
    until("all were ended", SOON * 2, || Ok(failed() == clients.len()))?;
    let left = site.server.sh("pgrep -u 4711 || true")?.ok()?;
    assert_eq!(left.text(), "", "nothing of them is left");
    let zombies = site.server.sh("ps -eo stat=,comm= | grep '^Z.*spad' || true")?.ok()?;
    assert_eq!(zombies.text(), "", "all were let go of");
    Ok(())
}

#[test]
fn what_others_could_change_is_not_run_and_keeps_nobody_out() -> Result {
    let Some(site) = site()? else { return Ok(()) };
    prepare(&site.server, REPORT)?;
    site.server.sh("chmod 757 /srv")?.ok()?;
    let server = site.spad_with(&settings("10s"))?;
    let said = |server: &Server, words: &[&str]| -> Result<String> {
        let output = server.spad(words)?;
        if output.success() { fail(format!("{words:?} accepts it")) } else { Ok(output.all()) }
    };
    assert!(said(&server, &["check"])?.contains("others than root can write to /srv"));
    assert!(said(&server, &["reload"])?.contains("others than root can write to /srv"));
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    assert!(server.log().contains("no hooks are run until this is mended"));

    site.server.sh("chmod 755 /srv")?.ok()?;
    server.spad(&["check"])?.ok()?;
    server.spad(&["reload"])?.ok()?;
    alice.knock(&[])?.ok()?;
    assert_eq!(events(&site.server, 1)?[0].0, "extend", "nothing was run before");
    site.server.sh("rm /srv/hook")?.ok()?;
    alice.knock(&[])?.ok()?;
    until("it is said", SOON, || Ok(server.log().contains("there is no such program")))?;
    Ok(())
}
