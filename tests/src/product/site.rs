//! The usual surroundings of a scenario.

use std::net::IpAddr;
use std::time::Duration;

use super::{Client, Grant, KNOCK_PORT, Server, Settings};
use crate::lab::{Addressing, Datagram, Host, Lab, Result, Running, fail};
use crate::wait;

/// What clients call the server.
pub const SERVER_NAME: &str = "fw.example";

/// A server, a client and a stranger on one network.
pub struct Site {
    // In this order: what runs on hosts ends before them, and they before the lab.
    service: Option<Running>,
    /// Where the daemon is to run.
    pub server: Host,
    /// Where the clients are.
    pub client: Host,
    /// Who has no key.
    pub stranger: Host,
    /// All of it.
    pub lab: Lab,
}

impl Site {
    /// With private addresses of both families.
    pub fn new() -> Result<Self> {
        Self::with(Addressing::PRIVATE)
    }

    /// With these addresses, and an echo service in place of sshd.
    pub fn with(addressing: Addressing) -> Result<Self> {
        let mut site = Self::without_service(addressing)?;
        site.service = Some(site.server.echo_tcp(22)?);
        Ok(site)
    }

    /// With nothing on the server's port 22.
    pub fn without_service(addressing: Addressing) -> Result<Self> {
        let lab = Lab::new()?;
        let (server, client) = (lab.host("server")?, lab.host("client")?);
        let stranger = lab.host("stranger")?;
        lab.lan_with(addressing, &[&server, &client, &stranger])?;
        for host in [&client, &stranger] {
            host.set_name(SERVER_NAME, &server.addresses()[..1])?;
        }
        Ok(Self { service: None, server, client, stranger, lab })
    }

    /// The address that clients know the server by: its first.
    pub fn address(&self) -> IpAddr {
        self.server.addresses()[0]
    }

    /// The running daemon, protecting ssh.
    pub fn spad(&self) -> Result<Server<'_>> {
        self.spad_with(&Settings::default())
    }

    /// The running daemon with these settings.
    pub fn spad_with(&self, settings: &Settings) -> Result<Server<'_>> {
        let mut server = Server::new(&self.server, SERVER_NAME, settings)?;
        server.start()?;
        Ok(server)
    }

    /// A client with a token for ssh, not used yet.
    pub fn client(&self, server: &Server, name: &str) -> Result<Client<'_>> {
        self.client_with(server, name, &["--service", "ssh"])
    }

    /// A client added with these options.
    pub fn client_with(&self, server: &Server, name: &str, options: &[&str]) -> Result<Client<'_>> {
        let client = Client::new(&self.client, name, SERVER_NAME);
        client.enroll(&server.add(name, options)?)?.ok()?;
        Ok(client)
    }

    /// Whether a host can connect to a TCP port of the server.
    pub fn reaches(&self, from: &Host, port: u16) -> Result<bool> {
        from.connects((self.address(), port))
    }

    /// Knocks, waits until the daemon has granted it, and checks that the service answers.
    pub fn open(&self, server: &Server, client: &Client, options: &[&str]) -> Result<Grant> {
        let grant = self.grant(server, client, options)?;
        assert!(client.host().connects((self.address(), grant.port()?))?, "open after {grant:?}");
        Ok(grant)
    }

    /// Knocks, waits until the daemon has granted it, and leaves the grant unused.
    pub fn grant(&self, server: &Server, client: &Client, options: &[&str]) -> Result<Grant> {
        let before = server.counter("granted")?;
        client.knock(options)?.ok()?;
        server.wait_for_counter("granted", before + 1)?;
        let grants = server.grants()?;
        grants.into_iter().last().map_or_else(|| fail("granted but not listed"), Ok)
    }

    /// Knocks, and checks that it was refused for this reason and changed nothing.
    pub fn refused(&self, server: &Server, client: &Client, options: &[&str], why: &str) -> Result {
        let (before, grants) = (server.counter(why)?, server.grants()?.len());
        client.knock(options)?.ok()?;
        server.wait_for_counter(why, before + 1)?;
        assert_eq!(server.grants()?.len(), grants, "no more grants: {why}");
        Ok(())
    }

    /// Ends a client's grants, so that what comes next begins with a shut port.
    pub fn close(&self, server: &Server, client_name: &str) -> Result {
        server.spad(&["revoke", client_name])?.ok()?;
        assert_eq!(server.grants()?, [], "no grants after revoking");
        Ok(())
    }

    /// Waits until no grant is in force any more. The list may be some milliseconds ahead of the
    /// kernel, so it is the port that counts.
    pub fn wait_until_ended(&self, server: &Server, limit: Duration) -> Result {
        wait::until("the grant ends", limit, || Ok(server.grants()?.is_empty()))?;
        wait::until("the port is shut", wait::SOON, || Ok(!self.reaches(&self.client, 22)?))?;
        Ok(())
    }

    /// Knocks somewhere harmless and gives what went over the wire, addressed to the real port:
    /// a valid knock that the server has never seen.
    pub fn fresh_knock(&self, client: &Client, options: &[&str]) -> Result<Datagram> {
        let capture = client.host().capture()?;
        let elsewhere = (KNOCK_PORT + 1).to_string();
        client.knock(&[&["--port", &elsewhere], options].concat())?.ok()?;
        let sent = capture.wait_for_udp(KNOCK_PORT + 1, 1)?;
        Ok(sent[0].to((self.address(), KNOCK_PORT).into()))
    }

    /// Asserts that nothing is open for this host and no grant is in force.
    pub fn assert_shut(&self, server: &Server, host: &Host, why: &str) -> Result {
        assert_eq!(server.grants()?, [], "no grant: {why}");
        assert!(!self.reaches(host, 22)?, "port 22 is shut for {}: {why}", host.name());
        Ok(())
    }
}
