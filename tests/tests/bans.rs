//! Bans: nothing comes in from a banned address and nothing goes out to it, for as long as was
//! said, whatever happens to the daemon; but a valid knock is served.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use spa_tests::Result;
use spa_tests::lab::{Addressing, Host, LabError, Output, Running, fail};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// A port that spad says nothing about.
const WEB: u16 = 8080;
const FAMILIES: [Addressing; 2] = [Addressing::V4_ONLY, Addressing::V6_ONLY];

/// Somebody else's chain, which drops nothing.
const FOREIGN: &str =
    "table inet filter { chain input { type filter hook input priority 0; policy accept; }; }\n";

fn in_mode(mode: &str, more: &str) -> Settings {
    let web = format!("[service.web]\nport = {WEB}\npublic = true\n");
    let more = format!("[firewall]\nmode = \"{mode}\"\n{more}{web}");
    Settings { more, ..Settings::default() }
}

fn web(site: &Site) -> Result<Running> {
    site.server.echo_tcp(WEB)
}

fn address(host: &Host) -> String {
    host.addresses()[0].to_string()
}

fn ban(server: &Server, network: &str, options: &[&str]) -> Result<Output> {
    server.spad(&[&["ban", network], options].concat())
}

fn bans(server: &Server) -> Result<Vec<Value>> {
    let said = server.spad(&["bans", "--json"])?.ok()?;
    match serde_json::from_str(&said.stdout)? {
        Value::Array(list) => Ok(list),
        other => fail(format!("not a list: {other}")),
    }
}

fn networks(server: &Server) -> Result<Vec<String>> {
    let name = |ban: &Value| ban["network"].as_str().unwrap_or_default().to_owned();
    Ok(bans(server)?.iter().map(name).collect())
}

fn reaches_web(site: &Site, from: &Host) -> Result<bool> {
    site.reaches(from, WEB)
}

#[test]
fn a_banned_address_is_shut_out_and_its_connections_carry_nothing_more() -> Result {
    for addressing in FAMILIES {
        for mode in ["guard", "managed", "attach"] {
            let site = Site::with(addressing)?;
            let _web = web(&site)?;
            let more = if mode == "attach" { "attach = [\"inet filter input\"]\n" } else { "" };
            site.server.nft(FOREIGN)?.ok()?;
            let server = site.spad_with(&in_mode(mode, more))?;
            let client = address(&site.client);
            let mut open = site.client.hold((site.address(), WEB))?;
            let mut others = site.stranger.hold((site.address(), WEB))?;
            assert!(open.is_alive("before") && others.is_alive("before"), "{mode}");

            ban(&server, &client, &["--why", "guesses names"])?.ok()?;
            assert!(!open.is_alive("after"), "{mode}: the connection is cut");
            assert!(!reaches_web(&site, &site.client)?, "{mode}: no new one");
            let ping = site.client.run(["ping", "-c1", "-W1", &site.address().to_string()])?;
            assert!(!ping.success(), "{mode}: no ping");
            let ping = site.server.run(["ping", "-c1", "-W1", &client])?;
            assert!(!ping.success(), "{mode}: nothing to it");
            assert!(others.is_alive("still") && reaches_web(&site, &site.stranger)?, "{mode}");

            server.spad(&["unban", &client])?.ok()?;
            assert!(reaches_web(&site, &site.client)?, "{mode}: lifted");
            assert!(!open.is_alive("again"), "{mode}: what was cut stays cut");
            assert_eq!(networks(&server)?, Vec::<String>::new());
        }
    }
    Ok(())
}

/// What has no ports, or keeps to its own, has the entry of before in conntrack for as long as it
/// tries: that was cut with the ban.
#[test]
fn who_never_stopped_trying_is_heard_when_the_ban_is_over() -> Result {
    for addressing in FAMILIES {
        let site = Site::with(addressing)?;
        let server = site.spad()?;
        let (to, client) = (site.address().to_string(), address(&site.client));
        let mut ping = site.client.spawn(["ping", "-i", "0.2", &to])?;
        ping.wait_for("icmp_seq=2 ", SOON)?;
        let heard = |ping: &Running| ping.stdout().matches("bytes from").count();
        ban(&server, &client, &[])?.ok()?;
        let before = heard(&ping);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(heard(&ping), before, "banned");
        server.spad(&["unban", &client])?.ok()?;
        until("it is heard again", SOON, || Ok(heard(&ping) > before + 2))?;
        if addressing == Addressing::V4_ONLY {
            let before = heard(&ping);
            ban(&server, &client, &["--for", "1s"])?.ok()?;
            until("over by itself", SOON * 20, || Ok(heard(&ping) > before + 2))?;
        }
    }
    Ok(())
}

#[test]
fn a_ban_ends_grants_and_cuts_their_connections_and_a_knock_is_served_again() -> Result {
    for addressing in FAMILIES {
        let site = Site::with(addressing)?;
        let server = site.spad()?;
        let (alice, client) = (site.client(&server, "alice")?, address(&site.client));
        site.open(&server, &alice, &["--ttl", "5m"])?;
        let mut session = site.client.hold((site.address(), 22))?;
        assert!(session.is_alive("before"));

        let said = ban(&server, &client, &[])?.ok()?;
        assert!(said.stdout.contains("1 grants ended"), "{said}");
        site.assert_shut(&server, &site.client, "banned")?;
        assert!(!session.is_alive("after"), "cut, though it was made through a grant");

        site.open(&server, &alice, &["--ttl", "5m"])?;
        let mut session = site.client.hold((site.address(), 22))?;
        assert!(session.is_alive("served"), "a valid knock is served");
        assert_eq!(networks(&server)?.len(), 1, "and the ban is still there");
        server.spad(&["revoke", "alice"])?.ok()?;
        site.assert_shut(&server, &site.client, "banned still")?;
    }
    Ok(())
}

#[test]
fn an_absolute_ban_refuses_the_knock() -> Result {
    for addressing in FAMILIES {
        let site = Site::with(addressing)?;
        let server = site.spad_with(&in_mode("guard", "bans = \"absolute\"\n"))?;
        let alice = site.client(&server, "alice")?;
        site.open(&server, &alice, &["--ttl", "5m"])?;
        ban(&server, &address(&site.client), &[])?.ok()?;
        site.assert_shut(&server, &site.client, "banned")?;
        site.refused(&server, &alice, &[], "source-not-allowed")?;
        server.spad(&["unban", &address(&site.client)])?.ok()?;
        site.open(&server, &alice, &[])?;
    }
    Ok(())
}

#[test]
fn a_ban_ends_by_itself() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let server = site.spad()?;
    let began = Instant::now();
    ban(&server, &address(&site.client), &["--for", "4s"])?.ok()?;
    assert!(!reaches_web(&site, &site.client)?);
    until("the ban ends", SOON * 4, || reaches_web(&site, &site.client))?;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(3900), "after {took:?}");
    until("it is not listed", SOON, || Ok(bans(&server)?.is_empty()))?;
    assert!(!ban(&server, "192.0.2.1", &["--for", "0s"])?.success());
    Ok(())
}

/// Whether the client is still banned, for the time that is left of an hour.
fn assert_still_banned(site: &Site, server: &Server, when: &str) -> Result {
    let list = bans(server)?;
    assert_eq!(list.len(), 2, "{when}: {list:?}");
    let left = list.iter().filter_map(|ban| ban["expires_in_ms"].as_u64()).collect::<Vec<_>>();
    assert!(left.len() == 1 && left[0] < 3_600_000 && left[0] > 3_400_000, "{when}: {list:?}");
    assert!(!reaches_web(site, &site.client)?, "{when}");
    let to = (site.server.v6()?, WEB);
    assert!(!site.client.connects(to)?, "{when}: over IPv6");
    assert!(reaches_web(site, &site.stranger)?, "{when}: others");
    Ok(())
}

fn ban_both(site: &Site, server: &Server) -> Result {
    ban(server, &site.client.v4()?.to_string(), &["--for", "1h"])?.ok()?;
    ban(server, &site.client.v6()?.to_string(), &["--why", "for ever"])?.ok()?;
    Ok(())
}

#[test]
fn bans_outlive_the_daemon_and_the_machine() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let mut server = site.spad()?;
    ban_both(&site, &server)?;
    server.restart()?;
    assert_still_banned(&site, &server, "after a restart")?;
    server.kill9()?;
    assert!(!reaches_web(&site, &site.client)?, "while it is dead");
    server.start()?;
    assert_still_banned(&site, &server, "after kill -9")?;
    // As after a reboot: the kernel knows nothing, and what was on the tmpfs is gone.
    server.kill9()?;
    site.server.run(["nft", "delete", "table", "inet", "spad"])?.ok()?;
    site.server.sh("rm -rf /run/spad")?.ok()?;
    assert!(reaches_web(&site, &site.client)?, "nothing is banned now");
    server.start()?;
    assert_still_banned(&site, &server, "after a reboot")
}

#[test]
fn bans_outlive_reloads_modes_and_other_peoples_flushes() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let server = site.spad_with(&in_mode("guard", "own-table = false\n"))?;
    ban_both(&site, &server)?;
    server.spad(&["reload"])?.ok()?;
    assert_still_banned(&site, &server, "after a reload")?;
    server.configure(&in_mode("managed", "own-table = false\n"))?;
    server.spad(&["reload"])?.ok()?;
    assert_still_banned(&site, &server, "in another mode")?;
    for command in [
        "flush ruleset",
        "delete table inet spad",
        "flush set inet spad bans4",
        "add element inet spad bans4 { 192.0.2.7 }",
    ] {
        site.server.nft(command)?.ok()?;
        until("the bans are back", SOON, || Ok(!reaches_web(&site, &site.client)?))?;
        until("and no others", SOON, || {
            let set = site.server.run(["nft", "list", "set", "inet", "spad", "bans4"])?.stdout;
            Ok(!set.contains("192.0.2.7") && set.contains(&site.client.v4()?.to_string()))
        })?;
        assert_still_banned(&site, &server, command)?;
    }
    Ok(())
}

#[test]
fn what_must_not_be_banned_is_refused() -> Result {
    let site = Site::new()?;
    let trusted = vec!["192.0.2.0/24".to_owned(), "2001:db8::/32".to_owned()];
    let server = site.spad_with(&Settings { trusted, ..Settings::default() })?;
    let own = site.server.v4()?.to_string();
    for (network, word) in [
        ("192.0.2.7", "192.0.2.0/24 is trusted"),
        ("192.0.0.0/16", "192.0.2.0/24 is trusted"),
        ("2001:db8:1::/48", "2001:db8::/32 is trusted"),
        (own.as_str(), "own"),
        ("10.0.0.0/16", "own"),
        (&site.server.v6()?.to_string(), "own"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("::1", "nobody"),
        ("224.0.0.1", "nobody"),
        ("fe80::1", "nobody"),
        ("0.0.0.0/0", "cannot be banned"),
        ("::/0", "cannot be banned"),
        ("64.0.0.0/7", "/8 is the widest"),
        ("2400::/11", "/12 is the widest"),
        ("host.example.com", "host.example.com"),
        ("203.0.113.9/24", "203.0.113.0/24"),
    ] {
        let said = ban(&server, network, &[])?;
        assert!(!said.success() && said.stderr.contains(word), "{network}: {said}");
    }
    let odd = ban(&server, "203.0.113.9", &["--why", "two\nlines"])?;
    assert!(!odd.success() && odd.stderr.contains("one line"), "{odd}");
    assert_eq!(networks(&server)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_network_trusted_later_is_let_in_and_the_rest_of_the_ban_stays() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let server = site.spad()?;
    // Addresses of another network, so that none is the server's own.
    for (host, far) in [(&site.client, "172.16.5.2"), (&site.stranger, "172.16.5.3")] {
        host.ip(&format!(
            "address add {far}/32 dev eth0\nroute replace {}/32 dev eth0 src {far}\n",
            site.server.v4()?
        ))?;
    }
    site.server.ip("route add 172.16.5.0/24 dev eth0\n")?;
    assert!(reaches_web(&site, &site.client)? && reaches_web(&site, &site.stranger)?);
    ban(&server, "172.16.0.0/16", &[])?.ok()?;
    assert!(!reaches_web(&site, &site.client)? && !reaches_web(&site, &site.stranger)?);
    let trusted = vec!["172.16.5.2".to_owned()];
    server.configure(&Settings { trusted, ..Settings::default() })?;
    server.spad(&["reload"])?.ok()?;
    assert!(reaches_web(&site, &site.client)?, "trusted now");
    assert!(!reaches_web(&site, &site.stranger)?, "the rest of the ban stays");
    assert_eq!(networks(&server)?, ["172.16.0.0/16"]);
    server.configure(&Settings::default())?;
    server.spad(&["reload"])?.ok()?;
    assert!(!reaches_web(&site, &site.client)?, "banned again");
    Ok(())
}

#[test]
fn bans_within_bans() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    for network in ["203.0.113.0/24", "203.0.113.7", "203.0.113.64/26"] {
        ban(&server, network, &["--for", "1h"])?.ok()?;
    }
    ban(&server, "203.0.113.7", &["--for", "2h", "--why", "longer"])?.ok()?;
    let banned = |address: &str| {
        let element = format!("{{ {address} }}");
        let get = ["nft", "get", "element", "inet", "spad", "bans4", &element];
        Ok::<_, LabError>(site.server.run(get)?.success())
    };
    let all = |there: bool| {
        for address in ["203.0.113.0", "203.0.113.7", "203.0.113.77", "203.0.113.255"] {
            assert_eq!(banned(address)?, there, "{address}");
        }
        assert!(!banned("203.0.112.255")? && !banned("203.0.114.0")?);
        Ok::<_, LabError>(())
    };
    all(true)?;
    let said = server.spad(&["unban", "203.0.113.9"])?;
    assert!(!said.success() && said.stderr.contains("203.0.113.0/24"), "{said}");
    let said = server.spad(&["unban", "198.51.100.1"])?;
    assert!(!said.success() && said.stderr.contains("not banned"), "{said}");
    server.spad(&["unban", "203.0.113.7"])?.ok()?;
    // The wider ban holds for it.
    all(true)?;
    let said = server.spad(&["unban", "203.0.113.0/24"])?.ok()?;
    assert_eq!(said.stdout.lines().count(), 2, "{said}");
    all(false)?;
    assert_eq!(networks(&server)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_broken_list_is_named_and_leaves_the_kernels_bans_alone() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let mut server = site.spad()?;
    ban_both(&site, &server)?;
    let file = server.dir().join("state/bans.json");
    let sound = fs::read_to_string(&file)?;
    server.kill9()?;
    fs::write(&file, &sound[..sound.len() / 2])?;
    server.start()?;
    assert!(server.log().contains("bans.json"), "{}", server.log());
    assert!(!reaches_web(&site, &site.client)?, "the kernel's ban stays");
    for command in [&["bans"][..], &["ban", "192.0.2.1"], &["unban", "192.0.2.1"]] {
        let said = server.spad(command)?;
        assert!(!said.success() && said.stderr.contains("bans.json"), "{said}");
    }
    let said = server.spad(&["reload"])?;
    assert!(said.code() == Some(1) && said.stderr.contains("bans.json"), "{said}");
    assert!(server.status()?["faults"][0].as_str().is_some_and(|it| it.contains("bans.json")));
    assert!(!reaches_web(&site, &site.client)?, "also after a reload");
    assert_eq!(fs::read_to_string(&file)?, sound[..sound.len() / 2], "not written over");
    fs::write(&file, &sound)?;
    server.spad(&["reload"])?.ok()?;
    assert_still_banned(&site, &server, "mended")
}

#[test]
fn a_full_disk_is_told_and_the_ban_holds() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let mut server =
        Server::new(&site.server, spa_tests::product::SERVER_NAME, &Settings::default())?;
    let state = server.dir().join("state");
    fs::create_dir(&state)?;
    site.server.mount_tmpfs(&state, "1m")?;
    server.start()?;
    site.server.remount(&state, true)?;
    let said = ban(&server, &address(&site.client), &[])?;
    assert!(!said.success() && said.stderr.contains("restart"), "{said}");
    assert!(!reaches_web(&site, &site.client)?, "banned all the same");
    site.server.remount(&state, false)?;
    let file = state.join("bans.json");
    until("it is written later", Duration::from_secs(40), || {
        let read = site.server.run(["cat".as_ref(), file.as_os_str()])?;
        Ok(read.stdout.contains(&address(&site.client)))
    })?;
    Ok(())
}

#[test]
fn bans_are_audited_and_listed_for_people() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    ban(&server, "203.0.113.7", &["--for", "1h", "--why", "guesses names"])?.ok()?;
    let text = server.spad(&["bans"])?.ok()?.stdout;
    for word in ["203.0.113.7/32", "60 min", "guesses names"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    server.spad(&["unban", "203.0.113.7"])?.ok()?;
    let log = server.log();
    let line = |word: &str| log.lines().find(|line| line.contains("audit") && line.contains(word));
    let banned = line("banned").unwrap_or_default();
    for word in ["203.0.113.7/32", "guesses names", "by=0", "until=20"] {
        assert!(banned.contains(word), "{word} in {banned}");
    }
    let lifted = line("ban ended").unwrap_or_default();
    assert!(lifted.contains("lifted") && lifted.contains("by=0"), "{lifted}");
    assert!(server.spad(&["bans"])?.ok()?.stdout.contains("none"));
    Ok(())
}

fn resident_kb(server: &mut Server) -> Result<u64> {
    let pid = server.process()?.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    Ok(line.split_whitespace().nth(1).unwrap_or("0").parse()?)
}

#[test]
fn ten_thousand_bans_are_no_burden() -> Result {
    let site = Site::new()?;
    let _web = web(&site)?;
    let mut server = site.spad()?;
    ban(&server, "198.51.100.1", &[])?.ok()?;
    let before = resident_kb(&mut server)?;
    server.stop()?;
    let entry = |n: u32| {
        let network = IpAddr::from((0x0b00_0000 + 2 * n).to_be_bytes());
        format!(
            "{{\"network\":\"{network}/32\",\"since-ms\":1800000000000,\"lasts-ms\":null,\"why\":\"guesses\",\"by\":0}}"
        )
    };
    let list: Vec<_> = (0..10_000).map(entry).collect();
    fs::write(
        server.dir().join("state/bans.json"),
        format!("{{\"version\":1,\"bans\":[{}]}}", list.join(",")),
    )?;
    let began = Instant::now();
    server.start()?;
    println!("start with 10000 bans: {:?}", began.elapsed());
    let client = address(&site.client);
    for _ in 0..3 {
        let began = Instant::now();
        ban(&server, &client, &[])?.ok()?;
        println!("ban, with 10000 others: {:?}", began.elapsed());
        assert!(!reaches_web(&site, &site.client)?);
        let began = Instant::now();
        server.spad(&["unban", &client])?.ok()?;
        println!("unban: {:?}", began.elapsed());
        assert!(reaches_web(&site, &site.client)?);
    }
    let began = Instant::now();
    assert_eq!(bans(&server)?.len(), 10_000);
    println!("list: {:?}", began.elapsed());
    println!("resident: {before} kB with one ban, {} kB with 10000", resident_kb(&mut server)?);
    Ok(())
}

/// How long the daemon may take to look at everything, which it does every 20 s.
const LOOK: Duration = Duration::from_secs(60);

#[test]
fn bans_begin_and_end_on_a_disk_that_hangs_and_nobody_waits_for_it() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let state = server.dir().join("state");
    fs::create_dir(&state)?;
    let Some(disk) = site.server.disk(&state)? else {
        eprintln!("not shown: this user cannot mount a disk");
        return Ok(());
    };
    server.start()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    ban(&server, "192.0.2.1", &["--for", "2s"])?.ok()?;
    let frozen = disk.freeze()?;
    until("its end is noticed", LOOK, || Ok(server.status()?["bans"] == 0))?;
    site.open(&server, &alice, &[])?;

    let asked = Instant::now();
    let said = ban(&server, "192.0.2.2", &[])?;
    assert!(!said.success() && said.stderr.contains("would not be after a restart"), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(15), "after {:?}", asked.elapsed());
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    assert_eq!(networks(&server)?, ["192.0.2.2/32"], "it is in force");

    drop(frozen);
    // The disk is in the place of the server alone.
    let cat = format!("cat {}/bans.json", state.display());
    until("what is in force is written, and nothing else", LOOK, || {
        let kept = site.server.sh(&cat)?.ok()?.stdout;
        Ok(kept.contains("192.0.2.2") && !kept.contains("192.0.2.1"))
    })?;
    server.spad(&["unban", "192.0.2.2"])?.ok()?;
    assert!(!site.server.sh(&cat)?.ok()?.stdout.contains("192.0.2.2"), "and then it is answered");
    Ok(())
}
