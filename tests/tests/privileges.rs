//! Two processes of one program, and only one of them may do anything: what the kernel says of
//! each, not what they say of themselves.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use spa_tests::lab::{Privilege, Result, fail, not_shown};
use spa_tests::product::{Knocker, SERVER_NAME, Server, Settings, Site};
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

/// The sockets of the kernel's list of local ones that carry whole messages over a connection, as
/// descriptors show them: `SOCK_SEQPACKET` is 5.
const CHANNELS: &str = "awk '$5 == \"0005\" { print \"socket:[\" $7 \"]\" }' /proc/net/unix";

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
        // Real, effective, saved and of the file system.
        for ids in ["Uid", "Gid"].map(|kind| gatekeeper[kind].split_whitespace()) {
            let ids: Vec<_> = ids.collect();
            assert!(ids.len() == 4 && ids.iter().all(|id| *id == ids[0] && *id != "0"), "{ids:?}");
        }
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

/// Who owns `/proc/PID/environ`: of a process that may not be dumped or looked at, root; else whom
/// it runs as (proc(5)).
fn owner(site: &Site, pid: &str) -> Result<String> {
    Ok(site.server.sh(&format!("stat -c %u /proc/{pid}/environ"))?.ok()?.text().to_owned())
}

#[test]
fn neither_leaves_a_core_file_or_lets_itself_be_looked_at() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    for role in ["warden", "gatekeeper"] {
        let pid = pid(&server, role)?.to_string();
        let limit = site.server.sh(&format!("grep 'Max core file size' /proc/{pid}/limits"))?;
        let limit: Vec<_> = limit.ok()?.stdout.split_whitespace().map(str::to_owned).collect();
        assert_eq!(limit[4..6], ["0", "0"], "{role}: {limit:?}");
        // Whoever has the same user and no fewer capabilities may look at what can be dumped.
        let look = format!("setpriv --bounding-set {SAME} cat /proc/{pid}/environ");
        assert!(!site.server.sh(&look)?.success(), "{role} can be looked at");
        if site.lab.privilege() == Privilege::Root {
            assert_eq!(owner(&site, &pid)?, "0", "{role} can be dumped");
        }
    }
    let control = format!("setpriv --bounding-set {SAME} sh -c 'sleep 9 & cat /proc/$!/environ'");
    site.server.sh(&control)?.ok()?;
    if site.lab.privilege() == Privilege::Root {
        let gatekeeper = facts(&site, &server, "gatekeeper")?;
        let uid = gatekeeper["Uid"].split_whitespace().next().unwrap_or_default();
        let as_it = format!("setpriv --reuid {uid} --clear-groups sleep 9 & echo $!; sleep 0.3");
        let sleeps = site.server.sh(&format!("{{ {as_it}; }} 2>&1 | head -1"))?.ok()?;
        assert_eq!(owner(&site, sleeps.text())?, uid, "control: of whom nothing is hidden");
    }
    Ok(())
}

/// Memory that is this process's alone and can be written, but is not locked: what a key could be
/// written to swap space from. Some pages of the kernel's own are never swapped, and never locked.
fn unlocked(site: &Site, pid: u64) -> Result<Vec<String>> {
    let smaps = site.server.sh(&format!("cat /proc/{pid}/smaps"))?.ok()?.stdout;
    let mut mapping = "";
    let mut found = Vec::new();
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let locked = flags.split_whitespace().any(|flag| flag == "lo");
            let access = mapping.split_whitespace().nth(1).unwrap_or_default();
            let is_own = access.contains('w') && access.ends_with('p');
            if is_own && !locked && !["[vvar", "[vdso"].iter().any(|own| mapping.contains(own)) {
                found.push(mapping.to_owned());
            }
        } else if line.split_whitespace().next().is_some_and(|word| !word.ends_with(':')) {
            mapping = line;
        }
    }
    Ok(found)
}

#[test]
fn memory_is_locked_or_the_log_says_why_not() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    // Only who may lift the limit, or is not under one, can lock.
    let unlimited = site.server.sh("ulimit -l unlimited")?.success();
    // What comes into use only now: keys of more clients, and a thread for the lease.
    for number in 0..64 {
        Knocker::new(&server, number)?;
    }
    until("they are known", SOON, || Ok(server.status()?["clients"] == 64))?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    for role in ["warden", "gatekeeper"] {
        let locked = facts(&site, &server, role)?["VmLck"] != "0 kB";
        assert_eq!(locked, unlimited, "{role}");
        let unlocked = unlocked(&site, pid(&server, role)?)?;
        assert_eq!(unlocked.is_empty(), unlimited, "{role}: {unlocked:?}");
    }
    println!("memory locked: {unlimited}");
    assert_eq!(server.log().contains("LimitMEMLOCK=infinity"), !unlimited, "{}", server.log());
    Ok(())
}

/// That a look at all mappings tells a process that has locked what it had from one that has locked
/// what comes, too, which the figure for all of its memory does not.
#[test]
fn what_is_locked_too_late_is_seen() -> Result {
    /// Numbers of `mlockall(2)`: what there is, what comes, as it comes into use.
    const CURRENT: u32 = 1;
    const ALL: u32 = 1 | 2 | 4;
    let site = Site::new()?;
    for (kinds, complete) in [(CURRENT, false), (ALL, true)] {
        let locks = format!(
            "import ctypes, os, sys; failed = ctypes.CDLL(None).mlockall({kinds}); \
             more = bytearray(1 << 25); print(0 if failed else os.getpid(), flush=True); \
             sys.stdin.read()"
        );
        let limit = "ulimit -l unlimited 2>/dev/null; exec \"$@\"";
        let mut python = site.server.spawn(["sh", "-c", limit, "sh", "python3", "-c", &locks])?;
        python.wait_for("\n", SOON)?;
        let pid = python.stdout().trim().parse()?;
        if pid == 0 {
            eprintln!("not shown: this user can lock no memory");
            return Ok(());
        }
        let unlocked = unlocked(&site, pid)?;
        assert_eq!(unlocked.is_empty(), complete, "{kinds}: {unlocked:?}");
    }
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
    let channels = site.server.sh(CHANNELS)?.ok()?.stdout;
    let is_channel = |what: &&String| channels.lines().any(|channel| channel == what.as_str());
    let channel: Vec<_> = held.range(3..).map(|(_, what)| what).filter(is_channel).collect();
    assert_eq!(channel.len(), 1, "and one to the warden: {held:?}, {channels}");
    Ok(())
}

/// Asserts that the warden has none of the sockets that it has opened for the gatekeeper, which has
/// all of them.
fn assert_passed_on(site: &Site, server: &Server, when: &str) -> Result {
    for (role, expected) in [("warden", 0), ("gatekeeper", 2)] {
        let held = descriptors(site, pid(server, role)?)?;
        assert_eq!(packet_sockets(site, &held)?, expected, "{role} {when}: {held:?}");
    }
    Ok(())
}

#[test]
fn the_warden_keeps_no_packet_socket() -> Result {
    let site = Site::new()?;
    // By name, so that new ones are needed when the link is another.
    let settings = Settings { interfaces: vec!["eth0"], ..Settings::default() };
    let server = site.spad_with(&settings)?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    server.spad(&["reload"])?.ok()?;
    server.status()?;
    assert_passed_on(&site, &server, "after a reload")?;
    let before = pid(&server, "gatekeeper")?;
    site.server.sh(&format!("kill -9 {before}"))?.ok()?;
    wait_for_another(&server, before)?;
    assert_passed_on(&site, &server, "after the end of a gatekeeper")?;
    site.server.ip("link set eth0 down\nlink set eth0 up\n")?;
    alice.knock_until_heard(&server)?;
    assert_passed_on(&site, &server, "after a link was down")?;
    site.server.ip("link set eth0 down\nlink set eth0 name eth9\n")?;
    until("it is missed", SOON, || Ok(server.log().contains("not there yet")))?;
    assert_passed_on(&site, &server, "while a link is gone")?;
    site.server.ip("link set eth9 name eth0\nlink set eth0 up\n")?;
    alice.knock_until_heard(&server)?;
    assert_passed_on(&site, &server, "after a link was gone")
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
