//! Who plays: the hosts, the programs on them, and how each command is shown.

use spa_tests::Result;
use spa_tests::lab::{Capture, Host, Output, Session, SshLogin};
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site};

use crate::narrator::Narrator;

/// The stage with everybody on it.
pub(crate) struct Scene<'site, 'told> {
    pub(crate) told: &'told mut Narrator,
    pub(crate) site: &'site Site,
    pub(crate) login: &'site SshLogin,
    pub(crate) server: Server<'site>,
    pub(crate) alice: Client<'site>,
    /// What goes over the client's wire.
    pub(crate) wire: Capture,
}

impl<'site, 'told> Scene<'site, 'told> {
    pub(crate) fn new(
        told: &'told mut Narrator,
        site: &'site Site,
        login: &'site SshLogin,
    ) -> Result<Self> {
        Ok(Self {
            told,
            site,
            login,
            server: Server::new(&site.server, SERVER_NAME, &Settings::default())?,
            alice: Client::new(&site.client, "alice", SERVER_NAME),
            wire: site.client.capture()?,
        })
    }

    /// Runs a command by ssh as somebody would type it, and shows what came of it.
    pub(crate) fn ssh(&self, from: &Host, words: &[&str]) -> Result<Output> {
        self.told.did(from.name(), &format!("ssh {SERVER_NAME} {}", words.join(" ")));
        let said = from.ssh(self.login, SERVER_NAME, words)?;
        self.told.saw(&said.all());
        Ok(said)
    }

    /// Opens an ssh session that stays.
    pub(crate) fn session(&self) -> Result<Session> {
        self.told.did("client", &format!("ssh {SERVER_NAME}   # and stay"));
        self.site.client.ssh_session(self.login, SERVER_NAME)
    }

    /// Knocks.
    pub(crate) fn knock(&self, options: &[&str]) -> Result<Output> {
        self.told.did("client", &format!("spa knock {SERVER_NAME} {}", options.join(" ")));
        let said = self.alice.knock(options)?;
        self.told.saw(&said.all());
        Ok(said)
    }

    /// Scans a port and gives what nmap says of it.
    pub(crate) fn scan(&self, kind: &str, port: u16) -> Result<String> {
        let (port, address) = (format!("-p{port}"), self.site.address());
        let family = if address.is_ipv6() { "-6 " } else { "" };
        let line = format!("nmap {family}-n -Pn {kind} {port} --max-retries=1 {address}");
        self.told.did("stranger", &line);
        let report = self.site.stranger.run(line.split_whitespace())?.ok()?.stdout;
        let found = report.lines().find(|line| line.contains("/tcp") || line.contains("/udp"));
        let found = found.unwrap_or(&report).to_owned();
        self.told.saw(&found);
        Ok(found.split_whitespace().nth(1).unwrap_or_default().to_owned())
    }

    /// Runs and shows a `spad` command on the server.
    pub(crate) fn spad(&self, command: &str) -> Result<Output> {
        self.told.did("server", &format!("spad {command}"));
        let said = self.server.spad(&[command])?;
        self.told.saw(&said.all());
        Ok(said)
    }
}
