//! Somebody else's `nft` on the same host: it opens nothing.

use spa_tests::Result;
use spa_tests::product::Site;
use spa_tests::wait::{SOON, until};

/// What other people's scripts do, one after the other. Some the kernel refuses: the table has an
/// owner. What counts is that nothing opens.
const FOREIGN: [&str; 8] = [
    "flush ruleset",
    "delete table inet spad",
    "flush table inet spad",
    "add table inet foreign\n\
     add chain inet foreign raw { type filter hook prerouting priority -400; }\n\
     add rule inet foreign raw tcp dport 22 notrack",
    "add table inet foreign\n\
     add chain inet foreign in { type filter hook input priority -500; policy accept; }\n\
     add rule inet foreign in tcp dport 22 accept",
    "add table inet foreign\n\
     add chain inet foreign pre { type filter hook prerouting priority -500; policy accept; }\n\
     add rule inet foreign pre tcp dport 22 accept",
    "add table inet foreign\n\
     add chain inet foreign nat { type nat hook prerouting priority -100; }\n\
     add rule inet foreign nat tcp dport 2222 redirect to :22",
    "flush ruleset",
];

/// Runs foreign commands while somebody tries to connect over IPv4 and IPv6 without pause.
fn nothing_opens_while(site: &Site, ports: &[u16], commands: &[&str]) -> Result {
    let addresses = [site.server.v4()?, site.server.v6()?];
    let targets = addresses.iter().flat_map(|address| ports.iter().map(|port| (*address, *port)));
    let probers = targets.map(|target| site.stranger.prober(target)).collect::<Result<Vec<_>>>()?;
    for commands in commands {
        // The kernel may refuse it.
        site.server.nft(&format!("{commands}\n"))?;
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    for prober in probers {
        let (tries, open) = prober.finish()?;
        assert_eq!(open, Vec::<String>::new(), "of {tries} tries");
        assert!(tries > 20, "{tries} tries");
    }
    Ok(())
}

#[test]
fn nothing_opens_whatever_others_load() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    nothing_opens_while(&site, &[22, 2222], &FOREIGN)?;
    until("all is well", SOON, || Ok(server.spad(&["status"])?.success()))?;
    site.open(&server, &alice, &[])?;
    assert!(!site.reaches(&site.stranger, 22)?);
    Ok(())
}

#[test]
fn a_grant_and_its_connections_survive_what_others_flush() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let before = site.open(&server, &alice, &["--ttl", "1m"])?;
    let mut session = site.client.hold((site.address(), 22))?;
    site.server.nft("flush ruleset\n")?;
    site.server.nft("delete table inet spad\n")?;
    until("the grant is there", SOON, || site.reaches(&site.client, 22))?;
    let after = server.grants()?;
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].client, "alice");
    assert!(after[0].expires_in < before.expires_in);
    assert!(session.is_alive("still"));
    Ok(())
}

#[test]
fn rules_of_others_open_nothing_while_the_daemon_is_dead() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    server.kill9()?;
    nothing_opens_while(&site, &[22, 2222], &FOREIGN[3..7])?;
    server.start()?;
    site.assert_shut(&server, &site.stranger, "started beside the rules of others")
}

/// As a container's published port: what comes in for port 22 of the server is sent to a host
/// behind it.
#[test]
fn a_port_that_others_forward_inwards_is_shut_as_well() -> Result {
    let site = Site::new()?;
    let inner = site.lab.host("inner")?;
    site.lab.lan(&[&site.server, &inner])?;
    let _echo = inner.echo_tcp(22)?;
    let inward = site.server.interfaces()[1].clone();
    inner.route_via(&inward.addresses().next().unwrap_or(site.address()))?;
    site.server.forward()?;
    site.server
        .nft(&format!(
            "add table ip docker\n\
             add chain ip docker pre {{ type nat hook prerouting priority -100; }}\n\
             add rule ip docker pre iifname eth0 tcp dport 22 dnat to {}\n",
            inner.v4()?
        ))?
        .ok()?;
    assert!(site.reaches(&site.stranger, 22)?, "control: forwarded without spad");

    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    assert!(!site.reaches(&site.stranger, 22)?, "shut with spad");
    site.open(&server, &alice, &[])?;
    assert!(!site.reaches(&site.stranger, 22)?, "open for the client alone");
    Ok(())
}

/// A table without a living owner goes with everything else when somebody flushes everything: the
/// kernel has no word against it. The next start shuts the port again.
#[test]
fn a_start_shuts_what_others_flushed_while_the_daemon_was_dead() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    server.kill9()?;
    site.server.nft("flush ruleset\n")?.ok()?;
    server.start()?;
    assert!(!site.reaches(&site.stranger, 22)?);
    // Whether the grant came back or not: what is listed is what is open.
    assert_eq!(site.reaches(&site.client, 22)?, !server.grants()?.is_empty());
    Ok(())
}

#[test]
fn a_table_of_our_name_that_is_not_ours_is_refused_with_an_explanation() -> Result {
    use spa_tests::product::{SERVER_NAME, Server, Settings};
    let site = Site::new()?;
    site.server.nft("add table inet spad\nadd chain inet spad mine\n")?.ok()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.launch()?;
    let status = server.wait()?;
    assert!(!status.success());
    assert!(server.log().contains("inet spad"), "{}", server.log());
    let table = site.server.run(["nft", "list", "ruleset"])?.ok()?;
    assert!(table.stdout.contains("mine"), "left as it was: {table}");
    Ok(())
}

#[test]
fn the_ruleset_in_force_is_the_one_that_check_prints() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let text = server.spad(&["check"])?.ok()?.stdout;
    let chains = |text: &str| {
        let lines = text.lines().map(str::trim);
        let mut found: Vec<_> =
            lines.filter(|line| line.starts_with("chain ")).map(str::to_owned).collect();
        found.sort();
        found
    };
    assert!(!chains(&text).is_empty(), "{text}");
    assert_eq!(chains(&text), chains(&server.kernel_table()?));
    Ok(())
}
