//! Services of inner hosts: a knock opens the way through the gateway.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Host, Lab};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings};
use spa_tests::wait::{SOON, until};

/// A client and a stranger outside, and an inner host behind the gateway.
struct Net {
    gateway: Host,
    client: Host,
    stranger: Host,
    inner: Host,
    _lab: Lab,
}

impl Net {
    fn new(family: Addressing) -> Result<Self> {
        let lab = Lab::new()?;
        let (gateway, inner) = (lab.host("gateway")?, lab.host("inner")?);
        let (client, stranger) = (lab.host("client")?, lab.host("stranger")?);
        lab.lan_with(family, &[&gateway, &client, &stranger])?;
        lab.lan_with(family, &[&gateway, &inner])?;
        gateway.forward()?;
        inner.route_via(&gateway.interfaces()[1].addresses().next().unwrap_or([0; 4].into()))?;
        client.set_name(SERVER_NAME, &gateway.addresses()[..1])?;
        Ok(Self { gateway, client, stranger, inner, _lab: lab })
    }

    /// Whether a host is sent on from a port of the gateway.
    fn reaches(&self, from: &Host, port: u16) -> Result<bool> {
        from.connects((self.gateway.addresses()[0], port))
    }

    fn settings(&self, more: &str) -> Settings {
        let inner = match self.inner.addresses()[0] {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let more = more.replace("INNER", &inner);
        Settings { more, ..Settings::with_services(&[]) }
    }

    fn spad(&self, more: &str) -> Result<Server<'_>> {
        let mut server = Server::new(&self.gateway, SERVER_NAME, &self.settings(more))?;
        server.start()?;
        Ok(server)
    }

    fn client(&self, server: &Server) -> Result<Client<'_>> {
        let client = Client::new(&self.client, "alice", SERVER_NAME);
        client.enroll(&server.add("alice", &["--service", "nas"])?)?.ok()?;
        Ok(client)
    }
}

fn knock(server: &Server, client: &Client, options: &[&str]) -> Result {
    let before = server.counter("granted")?;
    client.knock(options)?.ok()?;
    server.wait_for_counter("granted", before + 1)?;
    Ok(())
}

const FAMILIES: [Addressing; 2] = [Addressing::V4_ONLY, Addressing::V6_ONLY];
const NAS: &str = "[service.nas]\nport = 443\ntarget = \"INNER:8443\"\n";

#[test]
fn a_knock_opens_the_way_to_the_inner_host() -> Result {
    for family in FAMILIES {
        for (service, inner_port) in
            [(NAS, 8443), ("[service.nas]\nport = 443\ntarget = \"INNER:443\"\n", 443)]
        {
            let net = Net::new(family)?;
            let _echo = net.inner.echo_tcp(inner_port)?;
            let server = net.spad(service)?;
            let alice = net.client(&server)?;
            assert!(!net.reaches(&net.client, 443)?, "no knock yet");
            knock(&server, &alice, &["--ttl", "3s"])?;
            let mut session = net.client.hold((net.gateway.addresses()[0], 443))?;
            assert!(!net.reaches(&net.stranger, 443)?, "not for others");
            until("the grant ends", SOON * 3, || Ok(!net.reaches(&net.client, 443)?))?;
            assert!(session.is_alive("still"), "the connection lives on");
        }
    }
    Ok(())
}

#[test]
fn ports_of_a_range_lead_to_the_same_ports() -> Result {
    for family in FAMILIES {
        let net = Net::new(family)?;
        let _echo = [5000, 5010].map(|port| net.inner.echo_tcp(port));
        let target = if family == Addressing::V4_ONLY { "10.0.1.2" } else { "fd00:0:1::2" };
        let ports = format!("[service.nas]\nports = [\"5000-5010\"]\ntarget = \"{target}\"\n");
        let server = net.spad(&ports)?;
        let alice = net.client(&server)?;
        knock(&server, &alice, &[])?;
        for port in [5000, 5010] {
            assert!(net.reaches(&net.client, port)?, "{port}");
            assert!(!net.reaches(&net.stranger, port)?, "{port}");
        }
    }
    Ok(())
}

#[test]
fn source_nat_serves_an_inner_host_that_routes_elsewhere() -> Result {
    for family in FAMILIES {
        for nat in [false, true] {
            let net = Net::new(family)?;
            let _echo = net.inner.echo_tcp(8443)?;
            let default = if family == Addressing::V6_ONLY { "-6 route" } else { "route" };
            net.inner.sh(&format!("ip {default} del default"))?.ok()?;
            let server = net.spad(&format!("{NAS}source-nat = {nat}\n"))?;
            let alice = net.client(&server)?;
            knock(&server, &alice, &[])?;
            assert_eq!(net.reaches(&net.client, 443)?, nat);
            assert!(!net.reaches(&net.stranger, 443)?);
        }
    }
    Ok(())
}

/// Nothing is shut then, but addresses are translated as ever.
#[test]
fn not_in_force_a_knock_is_the_way_to_the_inner_host_all_the_same() -> Result {
    let net = Net::new(Addressing::V4_ONLY)?;
    let _echoes = (net.inner.echo_tcp(8443)?, net.stranger.echo_tcp(80)?);
    let managed = "[firewall]\nmode = \"managed\"\n\
        [managed]\ninside = [\"eth1\"]\noutside = [\"eth0\"]\nmasquerade = true\n";
    let mut server =
        Server::new(&net.gateway, SERVER_NAME, &net.settings(&format!("{managed}{NAS}")))?;
    server.write_config(&format!("enforce = \"when-enabled\"\n{}", server.config()))?;
    server.launch()?;
    until("knocks are heard", SOON * 10, || {
        let status = server.spad(&["status"])?.stdout;
        Ok(status.contains("listening on") && !status.contains("NOT LISTENING"))
    })?;
    let alice = net.client(&server)?;
    let outside = (net.stranger.addresses()[0], 80);
    let is_as_ever = |when: &str| -> Result {
        assert!(!net.reaches(&net.client, 443)?, "{when}: no knock yet");
        knock(&server, &alice, &["--ttl", "5m"])?;
        assert!(net.reaches(&net.client, 443)?, "{when}: a knock");
        assert!(!net.reaches(&net.stranger, 443)?, "{when}: not for others");
        assert!(net.inner.connects(outside)?, "{when}: the network behind");
        let mut session = net.client.hold((net.gateway.addresses()[0], 443))?;
        server.spad(&["revoke", "alice"])?.ok()?;
        let mut words = 0..;
        until("what is taken back is cut", SOON * 3, || {
            Ok(!session.is_alive(&format!("word {:?}", words.next())))
        })?;
        Ok(())
    };
    is_as_ever("before")?;
    server.spad(&["enable"])?.ok()?;
    is_as_ever("in force")?;
    let said = server.spad(&["disable", "--yes"])?.ok()?;
    assert!(said.stdout.contains("by a knock alone, as before: nas (tcp/443)"), "{said}");
    is_as_ever("disabled")
}

/// Runs `spad check` and `spad run`, which must both refuse with these words;
/// gives what the second one said.
fn refused(net: &Net, more: &str, words: &[&str]) -> Result<String> {
    let mut server = Server::new(&net.gateway, SERVER_NAME, &net.settings(more))?;
    let checked = server.spad(&["check"])?;
    server.launch()?;
    let ended = server.wait()?;
    assert!(!checked.success() && !ended.success(), "{checked}");
    for word in words {
        assert!(checked.stderr.contains(word), "{word} in {checked}");
        assert!(server.log().contains(word), "{word} in {}", server.log());
    }
    Ok(server.log())
}

#[test]
fn a_target_without_a_route_is_refused_and_leaves_the_port_shut() -> Result {
    for (family, target) in
        [(Addressing::V4_ONLY, "198.18.7.7"), (Addressing::V6_ONLY, "2001:db8:77::7")]
    {
        let net = Net::new(family)?;
        let _echo = net.gateway.echo_tcp(443)?;
        let bracketed = if target.contains(':') { format!("[{target}]") } else { target.into() };
        let service = format!("[service.nas]\nport = 443\ntarget = \"{bracketed}:8443\"\n");
        let log = refused(&net, &service, &["spad.toml", "[service.nas] target", target])?;
        assert!(log.contains("shut"), "{log}");
        assert!(!net.reaches(&net.client, 443)?, "shut, not half open");
    }
    Ok(())
}

#[test]
fn a_reload_with_such_a_target_leaves_all_as_it_was() -> Result {
    let net = Net::new(Addressing::V4_ONLY)?;
    let _echo = net.inner.echo_tcp(8443)?;
    let server = net.spad(NAS)?;
    let alice = net.client(&server)?;
    knock(&server, &alice, &["--ttl", "5m"])?;
    server.configure(&net.settings("[service.nas]\nport = 443\ntarget = \"198.18.7.7:1\"\n"))?;
    let said = server.spad(&["reload"])?;
    assert!(!said.success() && said.stderr.contains("198.18.7.7"), "{said}");
    assert!(net.reaches(&net.client, 443)?, "as before");
    Ok(())
}

#[test]
fn forwarding_that_is_off_is_said() -> Result {
    for (family, setting) in [
        (Addressing::V4_ONLY, "net.ipv4.ip_forward"),
        (Addressing::V6_ONLY, "net.ipv6.conf.all.forwarding"),
    ] {
        let net = Net::new(family)?;
        let _echo = net.inner.echo_tcp(8443)?;
        let server = net.spad(NAS)?;
        let said = server.spad(&["check"])?;
        assert!(!said.stderr.contains(setting) && !server.log().contains(setting), "{said}");
        drop(server);
        std::fs::remove_dir_all(net.gateway.dir().join("spad"))?;

        net.gateway.sysctl(setting, "0")?;
        let server = net.spad(NAS)?;
        let said = server.spad(&["check"])?;
        assert!(said.stderr.contains(&format!("sysctl -w {setting}=1")), "{said}");
        assert!(server.log().contains(&format!("sysctl -w {setting}=1")), "{}", server.log());
        let alice = net.client(&server)?;
        knock(&server, &alice, &[])?;
        assert!(!net.reaches(&net.client, 443)?, "as was said");
        net.gateway.sysctl(setting, "1")?;
        until("sent on", Duration::from_secs(5), || net.reaches(&net.client, 443))?;
    }
    Ok(())
}

#[test]
fn a_target_of_one_family_is_not_granted_to_the_other() -> Result {
    let net = Net::new(Addressing::PRIVATE)?;
    let _echoes = (net.inner.echo_tcp(8443)?, net.gateway.echo_tcp(443)?);
    let both = "[service.nas]\nport = 443\ntarget = [\"10.0.1.2:8443\", \"[fd00:0:1::2]:8443\"]\n";
    let server = net.spad(both)?;
    let alice = net.client(&server)?;
    let v6 = net.gateway.v6()?;
    net.client.set_name(SERVER_NAME, &[v6])?;
    net.inner.route_via(&"fd00:0:1::1".parse()?)?;
    knock(&server, &alice, &["--ttl", "5m"])?;
    assert!(net.client.connects((v6, 443))?, "both families");

    server.configure(&net.settings("[service.nas]\nport = 443\ntarget = \"10.0.1.2:8443\"\n"))?;
    server.spad(&["reload"])?.ok()?;
    assert_eq!(server.grants()?, [], "its target is gone");
    alice.knock(&[])?.ok()?;
    server.wait_for_counter("not-grantable", 1)?;
    assert!(!net.client.connects((v6, 443))?, "not to the gateway's own port either");
    Ok(())
}
