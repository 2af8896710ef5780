//! Two processes of one program, and only one of them may do anything: what the kernel says of
//! each, not what they say of themselves.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use spa_tests::lab::{Privilege, Result, fail, not_shown};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

type Facts = HashMap<String, String>;

/// CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_ADMIN, CAP_NET_RAW, as `linux/capability.h`
/// numbers them.
const FIVE: u64 = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13;
const NONE: u64 = 0;
/// The same five, as `setpriv` names them.
const SAME: &str = "-all,+setgid,+setuid,+setpcap,+net_admin,+net_raw";

/// The process with this role, as the server's own host numbers it.
fn pid(server: &Server, role: &str) -> Result<u64> {
    let status = server.status()?;
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let process = processes.iter().find(|process| process["role"] == role);
    match process.and_then(|process| process["pid"].as_u64()) {
        Some(pid) => Ok(pid),
        None => fail(format!("no {role} among {processes:?}")),
    }
}

/// `/proc/PID/status` of the process with this role.
fn facts(site: &Site, server: &Server, role: &str) -> Result<Facts> {
    parse(&site.server.sh(&format!("cat /proc/{}/status", pid(server, role)?))?.ok()?.stdout)
}

fn parse(status: &str) -> Result<Facts> {
    let pairs = status.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// Asserts what the kernel says of one task: its sets of capabilities, and that it gets no more.
fn assert_bounded(facts: &Facts, kept: u64) {
    for (set, expected) in
        [("CapInh", 0), ("CapAmb", 0), ("CapPrm", kept), ("CapEff", kept), ("CapBnd", kept)]
    {
        assert_eq!(facts[set], format!("{expected:016x}"), "{set} of {}", facts["Name"]);
    }
    assert_eq!(facts["NoNewPrivs"], "1");
    assert_eq!(facts["Umask"], "0077");
}

/// Every descriptor of a process, with what it is open on.
fn descriptors(site: &Site, pid: u64) -> Result<BTreeMap<u64, String>> {
    let list = format!("cd /proc/{pid}/fd && for n in *; do echo $n $(readlink $n); done");
    let list = site.server.sh(&list)?.ok()?;
    let pairs = list.stdout.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(number, what)| Ok((number.parse()?, what.to_owned()))).collect()
}

/// How many of these are packet sockets. The kernel lists those with their inodes in the ninth
/// column.
fn packet_sockets(site: &Site, descriptors: &BTreeMap<u64, String>) -> Result<usize> {
    let list =
        site.server.sh("awk 'NR > 1 { print \"socket:[\" $9 \"]\" }' /proc/net/packet")?.ok()?;
    let all: Vec<_> = list.stdout.lines().collect();
    Ok(descriptors.values().filter(|what| all.contains(&what.as_str())).count())
}

#[test]
fn the_gatekeeper_has_no_privileges() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let gatekeeper = facts(&site, &server, "gatekeeper")?;
    assert_bounded(&gatekeeper, NONE);
    assert_eq!(gatekeeper["Seccomp"], "2", "a filter is in force");
    assert_eq!(gatekeeper["Threads"], "1");
    if site.lab.privilege() == Privilege::Root {
        assert_eq!(gatekeeper["Groups"], "");
        let uids: Vec<_> = gatekeeper["Uid"].split_whitespace().collect();
        assert!(uids.iter().all(|uid| *uid == uids[0] && *uid != "0"), "{uids:?}");
    }
    Ok(())
}

#[test]
fn the_warden_has_five_capabilities_in_every_thread() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    // The lease is written by a second thread, at the first renewal.
    let tasks = format!("/proc/{}/task", pid(&server, "warden")?);
    until("there is a second thread", Duration::from_secs(30), || {
        Ok(site.server.sh(&format!("ls {tasks} | wc -l"))?.ok()?.text() != "1")
    })?;
    for task in site.server.sh(&format!("ls {tasks}"))?.ok()?.text().lines() {
        let status = site.server.sh(&format!("cat {tasks}/{task}/status"))?.ok()?;
        assert_bounded(&parse(&status.stdout)?, FIVE);
    }
    Ok(())
}

#[test]
fn neither_leaves_a_core_file_or_lets_itself_be_looked_at() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    for role in ["warden", "gatekeeper"] {
        let proc = format!("/proc/{}", pid(&server, role)?);
        let limit = site.server.sh(&format!("grep 'Max core file size' {proc}/limits"))?.ok()?;
        let limit: Vec<_> = limit.stdout.split_whitespace().collect();
        assert_eq!(limit[4..6], ["0", "0"], "{role}: {limit:?}");
        // Whoever has the same user and no fewer capabilities may look at what can be dumped.
        let look = format!("setpriv --bounding-set {SAME} cat {proc}/environ");
        assert!(!site.server.sh(&look)?.success(), "{role} can be looked at");
    }
    let control = format!("setpriv --bounding-set {SAME} sh -c 'sleep 9 & cat /proc/$!/environ'");
    site.server.sh(&control)?.ok()?;
    Ok(())
}

#[test]
fn memory_is_locked_or_the_log_says_why_not() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    // Only who may lift the limit, or is not under one, can lock.
    let unlimited = site.server.sh("ulimit -l unlimited")?.success();
    for role in ["warden", "gatekeeper"] {
        let locked = facts(&site, &server, role)?["VmLck"] != "0 kB";
        assert_eq!(locked, unlimited, "{role}");
    }
    println!("memory locked: {unlimited}");
    assert_eq!(server.log().contains("LimitMEMLOCK=infinity"), !unlimited, "{}", server.log());
    Ok(())
}

#[test]
fn the_gatekeeper_holds_its_sockets_and_the_channel_alone() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    // What a careless parent leaves open is not passed on.
    server.start_as(&["sh", "-c", "exec 7</etc/passwd; exec \"$@\"", "sh"])?;
    let held = descriptors(&site, pid(&server, "gatekeeper")?)?;
    assert_eq!((held[&0].as_str(), held[&1].as_str()), ("/dev/null", "/dev/null"), "{held:?}");
    assert!(held[&2].starts_with("pipe:"), "standard error is the log: {held:?}");
    assert_eq!(held.range(3..).count(), 3, "{held:?}");
    assert_eq!(packet_sockets(&site, &held)?, 2, "one for each family: {held:?}");
    assert!(held.range(3..).all(|(_, what)| what.starts_with("socket:")), "{held:?}");
    Ok(())
}

#[test]
fn the_warden_keeps_no_packet_socket() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    server.spad(&["reload"])?.ok()?;
    server.status()?;
    let held = descriptors(&site, pid(&server, "warden")?)?;
    assert_eq!(packet_sockets(&site, &held)?, 0, "{held:?}");
    Ok(())
}

#[test]
fn the_gatekeeper_is_in_a_directory_that_is_empty_for_good() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let cwd = format!("/proc/{}/cwd", pid(&server, "gatekeeper")?);
    let place = site.server.sh(&format!("readlink {cwd}"))?.ok()?;
    assert_eq!(place.text(), "/run/spad/gatekeeper (deleted)");
    assert_eq!(site.server.sh(&format!("ls -A {cwd}/"))?.ok()?.text(), "");
    assert!(!site.server.sh(&format!("touch {cwd}/file"))?.success(), "not even root can write");
    Ok(())
}

#[test]
fn a_missing_capability_is_named_and_everything_is_shut() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    for (capability, purpose) in [
        ("net_raw", "packet sockets"),
        ("setuid", "another user"),
        ("setgid", "groups"),
        ("setpcap", "take capabilities away"),
        ("net_admin", "firewall"),
    ] {
        server.launch_as(&["setpriv", "--bounding-set", &format!("-{capability}")])?;
        assert!(!server.wait()?.success(), "{capability}");
        let log = server.log();
        let name = format!("CAP_{} is missing", capability.to_uppercase());
        assert!(log.contains(&name) && log.contains(purpose), "{capability}: {log}");
        if capability == "net_raw" {
            assert!(!site.reaches(&site.client, 22)?, "shut all the same");
        }
    }
    Ok(())
}

#[test]
fn a_file_of_somebody_else_is_named_with_what_to_do() -> Result {
    let site = Site::new()?;
    if site.lab.privilege() != Privilege::Root {
        return not_shown("a second user, for want of root");
    }
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    for (path, mode) in [
        ("keys/server.toml", "600"),
        ("keys", "700"),
        ("spad.toml", "600"),
        ("keys/clients", "700"),
        ("state", "700"),
    ] {
        let path = server.dir().join(path).display().to_string();
        site.server
            .sh(&format!("[ -e {path} ] || mkdir {path}; chown 4711 {path}; chmod {mode} {path}"))?
            .ok()?;
        server.launch()?;
        assert!(!server.wait()?.success());
        let log = server.log();
        assert!(log.contains(&format!("run: chown 0 {path}")), "{path}: {log}");
        site.server.sh(&format!("chown 0 {path}"))?.ok()?;
    }
    server.start()
}

#[test]
fn both_run_the_same_program_and_the_gatekeeper_is_a_child() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let (warden, gatekeeper) =
        (facts(&site, &server, "warden")?, facts(&site, &server, "gatekeeper")?);
    assert_eq!(gatekeeper["PPid"], warden["Pid"]);
    let program =
        |facts: &Facts| site.server.sh(&format!("stat -L -c %d:%i /proc/{}/exe", facts["Pid"]));
    assert_eq!(program(&warden)?.ok()?.text(), program(&gatekeeper)?.ok()?.text());
    Ok(())
}

/// Waits until another gatekeeper than this one listens.
fn wait_for_another(server: &Server, before: u64) -> Result {
    until("another gatekeeper", Duration::from_secs(30), || {
        let listens = server.status()?["capture"]["in_force"] == true;
        Ok(listens && pid(server, "gatekeeper")? != before)
    })?;
    Ok(())
}

#[test]
fn a_gatekeeper_that_has_stopped_is_ended_and_replaced() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let before = pid(&server, "gatekeeper")?;
    site.server.sh(&format!("kill -STOP {before}"))?.ok()?;
    wait_for_another(&server, before)?;
    assert!(!site.server.sh(&format!("kill -0 {before}"))?.success(), "it is gone");
    assert!(server.log().contains("it does not answer"), "{}", server.log());
    site.open(&server, &alice, &[])?;
    // As itself again: whoever may signal the gatekeeper's user must not reach the warden.
    if site.lab.privilege() == Privilege::Root {
        assert_eq!(facts(&site, &server, "warden")?["Uid"], "0\t0\t0\t0");
    }
    Ok(())
}

#[test]
fn the_gatekeeper_goes_with_the_warden() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    for signal in ["TERM", "KILL"] {
        for frozen in [false, true] {
            server.start()?;
            let (warden, gatekeeper) = (pid(&server, "warden")?, pid(&server, "gatekeeper")?);
            let stop = if frozen { format!("kill -STOP {gatekeeper};") } else { String::new() };
            site.server.sh(&format!("{stop} kill -{signal} {warden}"))?.ok()?;
            server.wait()?;
            if frozen && signal == "KILL" {
                // Nobody may have been left to end it; as soon as it runs, it ends itself.
                site.server.sh(&format!("kill -CONT {gatekeeper}"))?;
            }
            until(
                &format!("the gatekeeper is gone after SIG{signal}, frozen: {frozen}"),
                SOON,
                || Ok(!site.server.sh(&format!("kill -0 {gatekeeper}"))?.success()),
            )?;
        }
    }
    Ok(())
}

#[test]
fn a_dead_gatekeeper_is_replaced_and_knocks_are_heard_again() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let used = site.fresh_knock(&alice, &[])?;
    site.stranger.send_udp(std::slice::from_ref(&used))?;
    server.wait_for_counter("granted", 2)?;
    let before = pid(&server, "gatekeeper")?;
    site.server.sh(&format!("kill -9 {before}"))?.ok()?;
    wait_for_another(&server, before)?;
    // What was used before is known to the new one: a copy does not even reach the warden.
    site.stranger.send_udp(std::slice::from_ref(&used))?;
    server.wait_for_counter("duplicate", 1)?;
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
