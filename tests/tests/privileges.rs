//! Two processes of one program, and only one of them may do anything: what the kernel says of
//! each, not what they say of themselves.

use std::collections::HashMap;

use spa_tests::lab::{Privilege, Result, fail};
use spa_tests::product::{Server, Site};

type Facts = HashMap<String, String>;

/// `/proc/PID/status` of the process with this role.
fn facts(site: &Site, server: &Server, role: &str) -> Result<Facts> {
    let status = server.status()?;
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let Some(process) = processes.iter().find(|process| process["role"] == role) else {
        return fail(format!("no {role} among {processes:?}"));
    };
    let text = site.server.sh(&format!("cat /proc/{}/status", process["pid"]))?.ok()?;
    let pairs = text.text().lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

#[test]
fn the_gatekeeper_has_no_privileges() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let gatekeeper = facts(&site, &server, "gatekeeper")?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(gatekeeper[set], "0000000000000000", "{set}");
    }
    assert_eq!(gatekeeper["NoNewPrivs"], "1");
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
fn the_gatekeeper_holds_the_sockets_and_the_warden_does_not() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let status = server.status()?;
    let sockets = |role: &str| -> Result<usize> {
        let processes = status["processes"].as_array().cloned().unwrap_or_default();
        let pid =
            processes.iter().find(|process| process["role"] == role).map(|it| it["pid"].clone());
        let Some(pid) = pid else { return fail(format!("no {role}")) };
        // The kernel lists packet sockets with their inodes in the ninth column.
        let count = format!(
            "for i in $(awk 'NR > 1 {{ print $9 }}' /proc/net/packet); do \
             ls -l /proc/{pid}/fd | grep -c \"socket:.$i.\" || :; done | awk '{{ n += $1 }} END {{ print n + 0 }}'"
        );
        Ok(site.server.sh(&count)?.ok()?.text().trim().parse().unwrap_or(usize::MAX))
    };
    assert_eq!(sockets("gatekeeper")?, 2, "one for each family");
    assert_eq!(sockets("warden")?, 0);
    Ok(())
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

#[test]
fn a_dead_gatekeeper_is_replaced_and_knocks_are_heard_again() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let used = site.fresh_knock(&alice, &[])?;
    site.stranger.send_udp(std::slice::from_ref(&used))?;
    server.wait_for_counter("granted", 2)?;
    let before = facts(&site, &server, "gatekeeper")?;
    site.server.sh(&format!("kill -9 {}", before["Pid"]))?.ok()?;
    spa_tests::wait::until("another gatekeeper", std::time::Duration::from_secs(5), || {
        let status = server.status()?;
        Ok(status["capture"]["in_force"] == true
            && facts(&site, &server, "gatekeeper")?["Pid"] != before["Pid"])
    })?;
    // What was used before is known to the new one: a copy does not even reach the warden.
    site.stranger.send_udp(std::slice::from_ref(&used))?;
    server.wait_for_counter("duplicate", 1)?;
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
