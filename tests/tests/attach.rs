//! Mode `attach`: hosts whose own ruleset shuts everything, made by hand, by ufw, by firewalld.
//! Grants open the port, and whatever the host's own tools do, they go on working.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Doing, Host, LabError, Running, fail};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// A ruleset as people write it.
const BY_HAND: &str = "table inet filter {\n\
    chain input {\n type filter hook input priority filter; policy drop;\n\
    ct state vmap { established : accept, related : accept, invalid : drop }\n\
    iif lo accept\n meta l4proto { icmp, ipv6-icmp } accept\n\
    tcp dport { 80, 443 } accept\n }\n\
    chain forward {\n type filter hook forward priority filter; policy drop;\n\
    ct state established,related accept\n }\n}\n";

/// The tools of distributions take their time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn attached_to(chains: &[&str]) -> Settings {
    let more = format!("[firewall]\nmode = \"attach\"\nattach = {chains:?}\n");
    Settings { more, ..Settings::default() }
}

fn by_hand(addressing: Addressing) -> Result<Site> {
    let site = Site::with(addressing)?;
    site.server.nft(BY_HAND)?.ok()?;
    Ok(site)
}

/// A table as `nft` lists it, without what it has counted.
fn listed(host: &Host, table: &str) -> Result<String> {
    let words = ["nft", "-s", "list", "table"].into_iter().chain(table.split(' '));
    Ok(host.run(words)?.ok()?.stdout)
}

/// How many rules of ours are in a table. That of them which went through iptables-restore has its
/// comment where `nft` does not show it.
fn rules_of_ours(host: &Host, table: &str) -> Result<usize> {
    Ok(listed(host, table)?.matches("meta mark & 0x40000000 == 0x40000000").count())
}

/// Shut before the knock, open after it, for the client alone; shut when the grant has ended, and
/// what was begun through it goes on.
fn a_knock_opens_and_its_end_shuts(site: &Site, server: &Server) -> Result {
    let alice = site.client(server, "alice")?;
    assert!(!site.reaches(&site.client, 22)?, "shut before");
    site.open(server, &alice, &["--ttl", "3s"])?;
    let mut session = site.client.hold((site.address(), 22))?;
    assert!(!site.reaches(&site.stranger, 22)?, "not for others");
    site.wait_until_ended(server, Duration::from_secs(10))?;
    assert!(session.is_alive("still"), "lives on");
    Ok(())
}

/// Waits until our rule is back in these tables, and says after how long.
fn back_again(host: &Host, tables: &[&str]) -> Result<Duration> {
    until("our rule is back", SOON, || {
        let counts = tables.iter().map(|table| rules_of_ours(host, table));
        Ok(counts.collect::<Result<Vec<_>>>()?.iter().all(|count| *count == 1))
    })
}

#[test]
fn a_ruleset_made_by_hand() -> Result {
    for addressing in [Addressing::PRIVATE, Addressing::V6_ONLY] {
        let site = by_hand(addressing)?;
        let before = listed(&site.server, "inet filter")?;
        let mut server = site.spad_with(&attached_to(&["inet filter input"]))?;
        a_knock_opens_and_its_end_shuts(&site, &server)?;
        assert_eq!(rules_of_ours(&site.server, "inet filter")?, 1);
        server.stop()?;
        assert_eq!(listed(&site.server, "inet filter")?, before, "as it was");
        assert!(!site.reaches(&site.client, 22)?, "shut when stopped");
    }
    Ok(())
}

#[test]
fn what_others_reload_is_put_right_within_a_second() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let server = site.spad_with(&attached_to(&["inet filter input"]))?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    for change in [
        "flush chain inet filter input\n".to_owned(),
        format!("flush ruleset\n{BY_HAND}"),
        "insert rule inet filter input tcp dport 22 drop\n".to_owned(),
    ] {
        site.server.nft(&change)?.ok()?;
        let took = until("the grant is in force again", SOON, || site.reaches(&site.client, 22))?;
        println!("put right {took:?} after: {}", change.lines().next().unwrap_or_default());
        assert!(took < Duration::from_secs(1), "{took:?}: {change}");
        assert_eq!(rules_of_ours(&site.server, "inet filter")?, 1);
        assert!(!site.reaches(&site.stranger, 22)?);
    }
    assert!(server.spad(&["status"])?.success());
    Ok(())
}

#[test]
fn a_chain_that_goes_is_said_and_served_again_when_it_comes() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let server = site.spad_with(&attached_to(&["inet filter input"]))?;
    site.server.nft("delete table inet filter\n")?.ok()?;
    let mut said = String::new();
    until("status says so", SOON, || {
        let status = server.spad(&["status"])?;
        said = status.all();
        Ok(!status.success())
    })?;
    assert!(said.contains("no base chain 'inet filter input'"), "{said}");
    site.server.nft(BY_HAND)?.ok()?;
    back_again(&site.server, &["inet filter"])?;
    until("all is well", SOON, || Ok(server.spad(&["status"])?.success()))?;
    Ok(())
}

#[test]
fn a_dead_daemon_opens_nothing_and_the_next_one_takes_over() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let before = listed(&site.server, "inet filter")?;
    let mut server = site.spad_with(&attached_to(&["inet filter input"]))?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    server.kill9()?;
    assert!(!site.reaches(&site.stranger, 22)?);
    assert!(site.reaches(&site.client, 22)?, "its grant ends in its time");
    server.start()?;
    assert_eq!(rules_of_ours(&site.server, "inet filter")?, 1);
    assert!(site.reaches(&site.client, 22)? && !site.reaches(&site.stranger, 22)?);

    server.kill9()?;
    server.configure(&Settings::default())?;
    server.start()?;
    assert_eq!(listed(&site.server, "inet filter")?, before, "no rule in another mode");
    Ok(())
}

#[test]
fn nothing_of_ours_is_left_once_it_is_stopped_for_good() -> Result {
    for dies in [false, true] {
        let site = by_hand(Addressing::PRIVATE)?;
        let before = site.server.sh("nft -s list ruleset")?.ok()?.stdout;
        let mut server = site.spad_with(&attached_to(&["inet filter input"]))?;
        assert_eq!(rules_of_ours(&site.server, "inet filter")?, 1);
        if dies {
            server.kill9()?;
        }
        server.spad(&["stop", "--open"])?.ok()?;
        assert_eq!(site.server.sh("nft -s list ruleset")?.ok()?.stdout, before, "killed: {dies}");
    }
    Ok(())
}

#[test]
fn the_mode_changes_while_the_daemon_runs() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let before = listed(&site.server, "inet filter")?;
    let server = site.spad()?;
    let prober = site.stranger.prober((site.address(), 22))?;
    for settings in [attached_to(&["inet filter input"]), Settings::default()] {
        let attached = usize::from(!settings.more.is_empty());
        server.configure(&settings)?;
        server.spad(&["reload"])?.ok()?;
        assert_eq!(rules_of_ours(&site.server, "inet filter")?, attached);
    }
    assert_eq!(listed(&site.server, "inet filter")?, before);
    let (tries, open) = prober.finish()?;
    assert_eq!(open, Vec::<String>::new(), "of {tries} tries");
    Ok(())
}

#[test]
fn an_inner_host_is_reached_through_the_forward_chain() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let inner = site.lab.host("inner")?;
    site.lab.lan(&[&site.server, &inner])?;
    let _echo = inner.echo_tcp(443)?;
    let inward = &site.server.interfaces()[1];
    for address in inward.addresses() {
        inner.route_via(&address)?;
    }
    site.server.forward()?;
    let mut settings = attached_to(&["inet filter input", "inet filter forward"]);
    let (v4, v6) = (inner.v4()?, inner.v6()?);
    settings.more +=
        &format!("[service.nas]\nport = 8443\ntarget = [\"{v4}:443\", \"[{v6}]:443\"]\n");
    let server = site.spad_with(&settings)?;
    let client = site.client_with(&server, "alice", &["--service", "nas"])?;
    assert!(!site.reaches(&site.client, 8443)?);
    site.open(&server, &client, &["--service", "nas"])?;
    assert!(!site.reaches(&site.stranger, 8443)?);
    Ok(())
}

#[test]
fn a_chain_that_is_not_there_is_named_and_nothing_is_begun() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let settings = attached_to(&["inet filter input", "ip filter INPUT"]);
    let mut server = Server::new(&site.server, SERVER_NAME, &settings)?;
    let checked = server.spad(&["check"])?;
    server.launch()?;
    assert!(!server.wait()?.success() && !checked.success());
    for said in [checked.stderr, server.log()] {
        for word in ["spad.toml", "attach", "'ip filter INPUT'", "'inet filter input'"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    }
    assert_eq!(rules_of_ours(&site.server, "inet filter")?, 0);
    assert!(!site.server.run(["nft", "list", "tables"])?.stdout.contains("spad"));
    Ok(())
}

#[test]
fn a_chain_that_would_still_drop_is_named_with_what_to_write() -> Result {
    let site = by_hand(Addressing::PRIVATE)?;
    let server = site.spad()?;
    let chain = "chain 'inet filter input' (hook input, priority 0, policy drop) may drop ssh";
    let advice = "mode = \"attach\" and attach = [\"inet filter input\"]";
    for command in ["check", "status"] {
        let said = server.spad(&[command])?;
        assert!(said.success(), "no fault: {said}");
        assert!(said.all().contains(chain) && said.all().contains(advice), "{said}");
    }
    let foreign = &server.status()?["foreign"];
    assert_eq!(foreign["chains"][0]["chain"], "inet filter input", "{foreign}");
    assert_eq!(foreign["chains"][0]["services"][0], "ssh", "{foreign}");

    server.configure(&attached_to(&["inet filter input"]))?;
    let said = server.spad(&["check"])?.ok()?;
    assert_eq!(said.stderr, "", "nothing to say before it is in force");
    server.spad(&["reload"])?.ok()?;
    let foreign = &server.status()?["foreign"];
    assert_eq!(foreign.to_string(), r#"{"chains":[],"notices":[]}"#);
    site.server.nft("flush ruleset\nadd table inet filter\nadd chain inet filter input { type filter hook input priority 0; }\n")?;
    until("status says that nobody drops", SOON, || {
        Ok(server.status()?["foreign"]["notices"]
            .to_string()
            .contains("seems to drop ssh over IPv4"))
    })?;
    Ok(())
}

/// Its files are this host's own.
fn with_ufw() -> Result<Site> {
    let site = Site::new()?;
    for dir in ["/etc/ufw", "/etc/default"] {
        let own = format!("own{}", dir.replace('/', "-"));
        site.server.sh(&format!("cp -a {dir} {own} && mount --bind {own} {dir}"))?.ok()?;
    }
    site.server.run(["ufw", "--force", "enable"])?.ok()?;
    site.server.run(["ufw", "allow", "80/tcp"])?.ok()?;
    Ok(site)
}

const UFW: [&str; 2] = ["ip filter", "ip6 filter"];

#[test]
fn beside_ufw() -> Result {
    let site = with_ufw()?;
    let all = || UFW.map(|table| listed(&site.server, table).ok());
    let before = all();
    let mut server = site.spad_with(&attached_to(&["ip filter INPUT", "ip6 filter INPUT"]))?;
    assert_eq!(server.status()?["foreign"].to_string(), r#"{"chains":[],"notices":[]}"#);
    a_knock_opens_and_its_end_shuts(&site, &server)?;
    server.stop()?;
    assert!(before[0].is_some() && all() == before, "as it was: {:?}", all());
    Ok(())
}

#[test]
fn the_tools_of_ufw_and_iptables_go_on_working() -> Result {
    let site = with_ufw()?;
    let mut server = site.spad_with(&attached_to(&["ip filter INPUT", "ip6 filter INPUT"]))?;
    let alice = site.client(&server, "alice")?;
    for command in [
        "ufw reload",
        "ufw allow 443/tcp; ufw delete allow 443/tcp",
        "iptables -L -vn; ip6tables -L -vn",
        "iptables-save | iptables-restore",
        "ip6tables-save | ip6tables-restore",
        "ufw disable; ufw --force enable",
    ] {
        let said = site.server.sh(&format!("set -e; {command}"))?.ok()?;
        assert!(!said.all().contains("incompatible"), "{said}");
        let took = back_again(&site.server, &UFW).doing(command)?;
        println!("there {took:?} after: {command}");
        site.open(&server, &alice, &[])?;
        assert!(!site.reaches(&site.stranger, 22)?);
        site.close(&server, "alice")?;
    }
    let saved = site.server.sh("iptables-save")?;
    assert!(saved.stdout.contains("-m mark --mark 0x40000000/0x40000000"), "{saved}");
    assert!(site.server.sh("ufw status")?.stdout.contains("80/tcp"));
    server.stop()?;
    for table in UFW {
        assert_eq!(rules_of_ours(&site.server, table)?, 0, "{table}");
    }
    Ok(())
}

/// A message bus for whoever is on the host.
const BUS: &str = "<busconfig><type>system</type>\
    <listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>\
    <policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*'/>\
    <allow receive_sender='*'/></policy></busconfig>";

/// Its message bus, its files and itself are this host's own.
fn start_firewalld(site: &Site) -> Result<Vec<Running>> {
    let host = &site.server;
    let own =
        "mkdir /run/dbus; cp -a /etc/firewalld firewalld && mount --bind firewalld /etc/firewalld";
    host.sh(own)?.ok()?;
    host.run_with_input(["tee", "bus.conf"], BUS)?.ok()?;
    let bus =
        host.spawn(["dbus-daemon", "--config-file=bus.conf", "--nofork", "--print-address"])?;
    until("the message bus", SOON, || Ok(bus.stdout().contains("unix:")))
        .map_err(|error| LabError::new(format!("{error}\n{}", bus.stderr())))?;
    let firewalld = host.spawn(["firewalld", "--nofork", "--nopid"])?;
    let ready =
        until("firewalld runs", PATIENCE, || Ok(host.run(["firewall-cmd", "--state"])?.success()));
    if let Err(error) = ready {
        return fail(format!("{error}\n{}{}", firewalld.stderr(), bus.stderr()));
    }
    host.run(["firewall-cmd", "--permanent", "--remove-service=ssh"])?.ok()?;
    host.run(["firewall-cmd", "--reload"])?.ok()?;
    Ok(vec![firewalld, bus])
}

#[test]
#[ignore = "firewalld, once installed, shuts the machine that it is installed on"]
fn beside_firewalld() -> Result {
    const TABLE: &str = "inet firewalld";
    let site = Site::new()?;
    let _running = start_firewalld(&site)?;
    let before = listed(&site.server, TABLE)?;
    let mut server = site.spad_with(&attached_to(&["inet firewalld filter_INPUT"]))?;
    assert_eq!(server.status()?["foreign"].to_string(), r#"{"chains":[],"notices":[]}"#);
    a_knock_opens_and_its_end_shuts(&site, &server)?;
    for command in [
        "--list-all",
        "--reload",
        "--add-port=8080/tcp",
        "--complete-reload",
        "--remove-port=8080/tcp",
    ] {
        site.server.run(["firewall-cmd", command])?;
        back_again(&site.server, &[TABLE])?;
    }
    let bob = site.client(&server, "bob")?;
    site.open(&server, &bob, &[])?;
    assert!(!site.reaches(&site.stranger, 22)?);
    server.stop()?;
    assert_eq!(listed(&site.server, TABLE)?, before, "as it was");
    Ok(())
}
