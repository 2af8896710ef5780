//! What the README tells a newcomer to type works, line by line, in the places
//! where the programs look by default.

use std::fs;
use std::path::Path;
use std::time::Duration;

use spa_tests::lab::{Addressing, Host, Output, Result, Running, SshLogin, fail, program};
use spa_tests::product::Site;
use spa_tests::wait;

const README: &str = include_str!("../../README.md");

/// Who types, and what.
type Line = (String, String);

/// The lines of the `console` blocks, in order.
fn lines() -> Vec<Line> {
    let blocks = README.split("```console\n").skip(1);
    let typed = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    typed
        .filter_map(|line| line.split_once(['#', '$']))
        .map(|(host, command)| (host.to_owned(), command.trim().to_owned()))
        .collect()
}

/// A host with system directories of its own, and the programs in its path.
struct Newcomer<'a> {
    host: &'a Host,
    running: Vec<Running>,
}

impl<'a> Newcomer<'a> {
    fn new(host: &'a Host) -> Result<Self> {
        host.sh("mkdir etc bin && cp -r /etc/. etc 2>/dev/null; mount --bind etc /etc && \
             mount -t tmpfs tmpfs /var/lib")?
            .ok()?;
        Ok(Self { host, running: Vec::new() })
    }

    /// `ssh` without options, for this login.
    fn give_ssh(&self, login: &SshLogin) -> Result {
        let wrapper =
            format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", login.config().display());
        fs::write(self.host.dir().join("bin/ssh"), wrapper)?;
        self.host.sh("chmod +x bin/ssh")?.ok()?;
        Ok(())
    }

    fn types(&mut self, command: &str) -> Result<Output> {
        let programs = program("spad")?;
        let programs = programs.parent().unwrap_or(Path::new("/"));
        let dir = self.host.dir();
        let settings = format!(
            "export HOME={0}; export PATH={0}/bin:{1}:$PATH; ",
            dir.display(),
            programs.display()
        );
        if let Some(command) = command.strip_suffix('&') {
            self.running.push(self.host.spawn([
                "sh",
                "-c",
                &format!("{settings}exec {command}"),
            ])?);
            return self.host.sh("true");
        }
        self.host.sh(&(settings + command))
    }
}

#[test]
fn the_readme_works_as_it_is_written() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    site.client.set_name("fw.example.com", &site.server.addresses()[..1])?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let (mut server, mut laptop) = (Newcomer::new(&site.server)?, Newcomer::new(&site.client)?);
    laptop.give_ssh(&login)?;
    let lines = lines();
    assert!(lines.len() >= 12, "the README has lost its commands: {lines:?}");
    for (host, command) in &lines {
        if command == "spa enroll alice.token" {
            // "Let it travel where others cannot read it."
            let token = site.server.dir().join("alice.token");
            fs::copy(token, site.client.dir().join("alice.token"))?;
        }
        let output = match host.as_str() {
            "server" => server.types(command)?,
            "laptop" => laptop.types(command)?,
            _ => return fail(format!("the README types on an unknown host: {host}")),
        };
        assert!(output.success(), "{host}: {command}\n{}", output.all());
        if command.starts_with("spad run") {
            wait::until("spad is up", Duration::from_secs(10), || {
                Ok(server.types("spad status")?.success())
            })?;
        }
    }
    let after = laptop.types("spa knock fw.example.com --wait=2")?;
    assert_eq!(after.code(), Some(1), "revoked: {}", after.all());
    Ok(())
}
