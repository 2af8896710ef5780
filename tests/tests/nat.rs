//! A client behind address translation: what is opened is the address the server sees.

use spa_tests::Result;
use spa_tests::lab::{Addressing, Host, Lab, fail};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings};
use spa_tests::wait::{SOON, until};

/// A client in a private network, its masquerading router, a server and a stranger outside.
fn outside_and_inside(lab: &Lab) -> Result<[Host; 4]> {
    let hosts = [lab.host("client")?, lab.host("router")?, lab.host("server")?, lab.host("else")?];
    let [client, router, server, stranger] = &hosts;
    lab.lan(&[router, client])?;
    lab.lan_with(Addressing::GLOBAL, &[server, router, stranger])?;
    router.masquerade("eth1")?;
    client.route_via(&router.v4()?)?;
    client.set_name(SERVER_NAME, &[server.v4()?])?;
    Ok(hosts)
}

#[test]
fn a_client_behind_nat_opens_the_address_of_its_router() -> Result {
    let lab = Lab::new()?;
    let [client, router, server, stranger] = outside_and_inside(&lab)?;
    let _echo = server.echo_tcp(22)?;
    let mut spad = Server::new(&server, SERVER_NAME, &Settings::default())?;
    spad.start()?;
    let alice = Client::new(&client, "alice", SERVER_NAME);
    alice.enroll(&spad.add("alice", &["--service", "ssh"])?)?.ok()?;
    assert!(!client.connects((server.v4()?, 22))?, "shut before the knock");

    alice.knock(&["--ttl", "3s"])?.ok()?;
    spad.wait_for_counter("granted", 1)?;
    let Some(outside) = router.interfaces()[1].v4 else { return fail("router has no address") };
    assert_eq!(spad.grants()?[0].source, std::net::IpAddr::from(outside));
    assert!(client.connects((server.v4()?, 22))?, "open through the router");
    assert!(!stranger.connects((server.v4()?, 22))?, "shut for others");

    let mut session = client.hold((server.v4()?, 22))?;
    until("shut again", SOON * 2, || Ok(!client.connects((server.v4()?, 22))?))?;
    assert_eq!(spad.grants()?, []);
    assert!(session.is_alive("still"), "the connection lives on");
    Ok(())
}
