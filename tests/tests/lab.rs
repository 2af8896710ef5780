//! The lab itself: what the other scenarios stand on works as they take it to.

use std::net::SocketAddr;
use std::time::Duration;

use spa_tests::lab::{
    Addressing, Datagram, Direction, Lab, Reach, Result, SshLogin, fail, not_shown,
};
use spa_tests::wait::{SOON, until, until_some};

#[test]
fn hosts_of_a_lan_reach_each_other_over_both_families() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    lab.lan(&[&a, &b])?;
    let _echo = b.echo_tcp(22)?;
    let _echo_udp = b.echo_udp(53)?;
    for address in [b.v4()?, b.v6()?] {
        assert_eq!(a.reach((address, 22))?, Reach::Open);
        assert_eq!(a.reach((address, 23))?, Reach::Refused);
        assert_eq!(a.reach_udp((address, 53))?, Reach::Open);
        assert_eq!(a.reach_udp((address, 54))?, Reach::Refused);
    }
    Ok(())
}

#[test]
fn a_network_of_one_family_has_only_that() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    lab.lan_with(Addressing::V6_ONLY, &[&a, &b])?;
    assert!(b.v4().is_err(), "no IPv4 address");
    let _echo = b.echo_tcp(22)?;
    assert!(a.connects((b.v6()?, 22))?);
    let link_local = b.interfaces()[0].link_local(&b)?;
    let reply = a.run(["ping", "-6", "-c1", "-W2", &format!("{link_local}%eth0")])?;
    assert!(reply.success(), "{reply}");
    Ok(())
}

#[test]
fn global_addresses_are_those_of_documentation() -> Result {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    lab.lan_with(Addressing::GLOBAL, &[&a])?;
    assert_eq!(a.addresses(), ["203.0.113.1".parse::<std::net::IpAddr>()?, "2001:db8::1".parse()?]);
    Ok(())
}

#[test]
fn ssh_logs_in_runs_a_command_and_keeps_a_session() -> Result {
    let lab = Lab::new()?;
    let (client, server) = (lab.host("client")?, lab.host("server")?);
    lab.lan(&[&client, &server])?;
    let login = SshLogin::new(&client)?;
    let sshd = server.sshd(&login)?;
    for address in [server.v4()?, server.v6()?] {
        let said = client.ssh(&login, &address.to_string(), &["echo", "from", "inside"])?.ok()?;
        assert_eq!(said.text(), "from inside");
    }
    let mut session = client.ssh_session(&login, &server.v4()?.to_string())?;
    drop(sshd);
    assert!(session.is_alive("still"), "a session outlives the listening sshd");
    assert!(!client.connects((server.v4()?, 22))?);
    Ok(())
}

#[test]
fn a_router_hides_its_clients() -> Result {
    let lab = Lab::new()?;
    let (client, router, server) = (lab.host("client")?, lab.host("router")?, lab.host("server")?);
    lab.lan(&[&router, &client])?;
    lab.lan_with(Addressing::GLOBAL, &[&server, &router])?;
    router.masquerade("eth1")?;
    client.route_via(&router.v4()?)?;
    let (_echo, capture) = (server.echo_udp(53)?, server.capture()?);
    assert_eq!(client.reach_udp((server.v4()?, 53))?, Reach::Open);
    let seen = capture.wait_for_udp(53, 1)?;
    let Some(outside) = router.interfaces()[1].v4 else { return fail("router has no address") };
    assert_eq!(seen[0].from.ip(), std::net::IpAddr::from(outside));
    Ok(())
}

#[test]
fn a_name_has_the_addresses_it_is_given() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    a.set_name("fw.example", &["192.0.2.7".parse()?, "2001:db8::7".parse()?])?;
    let found = a.run(["getent", "ahosts", "fw.example"])?.ok()?;
    assert!(found.stdout.contains("192.0.2.7") && found.stdout.contains("2001:db8::7"), "{found}");
    assert!(!b.run(["getent", "ahosts", "fw.example"])?.success(), "only on that host");
    a.set_name("fw.example", &["192.0.2.8".parse()?])?;
    let found = a.run(["getent", "ahosts", "fw.example"])?.ok()?;
    assert!(!found.stdout.contains("192.0.2.7"), "{found}");
    Ok(())
}

#[test]
fn forged_datagrams_carry_the_source_they_name() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    lab.lan(&[&a, &b])?;
    let capture = b.capture()?;
    let sent: Vec<Datagram> = [("203.0.113.9:4000", b.v4()?), ("[2001:db8::9]:4000", b.v6()?)]
        .into_iter()
        .map(|(from, to)| {
            let to = SocketAddr::new(to, 62201);
            Ok(Datagram { from: from.parse()?, to, payload: b"not from here".to_vec() })
        })
        .collect::<Result<_>>()?;
    a.send_forged(&sent)?;
    assert_eq!(capture.wait_for_udp(62201, 2)?, sent);
    Ok(())
}

#[test]
fn a_capture_sees_what_a_firewall_drops_and_the_icmp_that_comes_of_a_closed_port() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    lab.lan(&[&a, &b])?;
    let (at_a, at_b) = (a.capture()?, b.capture()?);
    let knock =
        Datagram { from: (b.v4()?, 0).into(), to: (b.v4()?, 62201).into(), payload: vec![] };
    a.send_udp(std::slice::from_ref(&knock))?;
    at_b.wait_for_udp(62201, 1)?;
    let is_refused = || Ok(at_a.incoming()?.iter().any(|seen| seen.protocol == 1));
    until("ICMP unreachable comes back", SOON, is_refused)?;
    let answers = at_a.incoming()?;
    b.nft("add table inet t\nadd chain inet t c { type filter hook input priority 0; }")?.ok()?;
    b.nft("add rule inet t c udp dport 62201 drop")?.ok()?;
    a.send_udp(&[knock])?;
    let seen = at_b.wait_for_udp(62201, 2)?;
    assert_eq!(seen.len(), 2);
    assert!(at_a.all()?.iter().any(|seen| seen.direction == Direction::Out));
    assert_eq!(at_a.incoming()?, answers, "nothing comes back from a drop");
    Ok(())
}

#[test]
fn a_prober_sees_a_port_open_for_a_moment() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    lab.lan(&[&a, &b])?;
    let prober = a.prober((b.v4()?, 22))?;
    let echo = b.echo_tcp(22)?;
    let mut held = a.hold((b.v4()?, 22))?;
    assert!(held.is_alive("hello"));
    drop(echo);
    assert!(!held.is_alive("hello again"), "the server is gone");
    let (tries, open) = prober.finish()?;
    assert!(tries > 5 && !open.is_empty(), "{tries} tries, {open:?}");
    Ok(())
}

#[test]
fn a_tunnel_has_no_ethernet_header() -> Result {
    let lab = Lab::new()?;
    if !lab.has_tun() {
        return not_shown("/dev/net/tun cannot be opened by this user");
    }
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let _tunnel = lab.tunnel([&a, &b])?;
    let _echo = b.echo_tcp(22)?;
    assert!(a.connects((b.v4()?, 22))? && a.connects((b.v6()?, 22))?);
    let link = b.run(["ip", "link", "show", "tun0"])?.ok()?;
    assert!(link.stdout.contains("link/none"), "{link}");
    Ok(())
}

#[test]
fn a_small_file_system_fills_up_and_turns_read_only_on_its_host_alone() -> Result {
    let lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let place = lab.dir().join("small");
    std::fs::create_dir(&place)?;
    a.mount_tmpfs(&place, "16k")?;
    let fill = format!("head -c 65536 /dev/zero > {}/fill", place.display());
    assert!(!a.sh(&fill)?.success(), "full");
    assert!(b.sh(&fill)?.success(), "the other host does not see that mount");
    a.remount(&place, true)?;
    let touch = format!("touch {}/new", place.display());
    assert!(!a.sh(&touch)?.success(), "read-only");
    a.remount(&place, false)?;
    assert!(a.sh(&touch)?.success());
    Ok(())
}

#[test]
fn last_words_are_waited_for_when_the_program_has_ended_already() -> Result {
    let lab = Lab::new()?;
    let host = lab.host("a")?;
    // The output stays open in a process that outlives the program by a moment.
    let mut running = host.spawn(["sh", "-c", "(sleep 0.3; echo late) &"])?;
    running.wait_for("late", SOON)?;
    let mut silent = host.spawn(["sh", "-c", "echo why >&2"])?;
    let Err(error) = silent.wait_for("never", SOON) else { return fail("never was printed") };
    assert!(error.to_string().contains("ended: why"), "{error}");
    Ok(())
}

#[test]
fn all_of_a_lab_ends_with_it() -> Result {
    let lab = Lab::new()?;
    let host = lab.host("a")?;
    let orphan = "(setsid sleep 3600 >/dev/null 2>&1 & echo $!)";
    host.sh(orphan)?.ok()?;
    let running = host.spawn(["sleep", "3600"])?;
    let pid = running.pid();
    let dir = lab.dir().to_owned();
    drop(lab);
    assert!(nix::sys::signal::kill(pid, None).is_err(), "the program is gone");
    assert!(!dir.exists(), "the files are gone");
    Ok(())
}

/// Where a test that is about to be killed says what it made.
const ABANDONED: &str = "SPA_TEST_ABANDONED_LAB";

#[test]
#[ignore = "waits to be killed by the next test"]
fn a_lab_that_is_abandoned() -> Result {
    let lab = Lab::new()?;
    let host = lab.host("a")?;
    let running = host.spawn(["sleep", "3600"])?;
    let Some(place) = std::env::var_os(ABANDONED) else { return fail("run by another test only") };
    std::fs::write(place, format!("{} {}\n", running.pid(), lab.dir().display()))?;
    std::thread::sleep(std::time::Duration::from_secs(60));
    fail("was not killed")
}

#[test]
fn nothing_is_left_of_a_test_that_is_killed() -> Result {
    let place = tempfile::NamedTempFile::new()?;
    let mut test = std::process::Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "a_lab_that_is_abandoned"])
        .env(ABANDONED, place.path())
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let made = until_some("the lab is made", Duration::from_secs(20), || {
        let text = std::fs::read_to_string(place.path())?;
        Ok(text.trim_end().split_once(' ').map(|(pid, dir)| (pid.to_owned(), dir.to_owned())))
    })?;
    test.kill()?;
    test.wait()?;
    let pid = nix::unistd::Pid::from_raw(made.0.parse()?);
    until("process and files are gone", SOON, || {
        Ok(nix::sys::signal::kill(pid, None).is_err() && !std::path::Path::new(&made.1).exists())
    })?;
    Ok(())
}
