//! The client program on a host.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::server::Server;
use crate::lab::{Clock, Host, Output, Result, program, shifted_clock};
use crate::wait::{SOON, until};

/// One client's configuration directory and the name of the server it knocks at.
#[derive(Clone)]
pub struct Client<'host> {
    host: &'host Host,
    dir: PathBuf,
    server: String,
    /// Words before the program, which change its clock.
    clock: Vec<String>,
}

impl<'host> Client<'host> {
    /// A client that has enrolled nowhere yet.
    pub fn new(host: &'host Host, name: &str, server: &str) -> Self {
        let (dir, server) = (host.dir().join(format!("spa-{name}")), server.to_owned());
        Self { host, dir, server, clock: vec![] }
    }

    /// The same client with a clock that is off by so much, such as `+29s`.
    #[must_use]
    pub fn with_clock(&self, offset: &str) -> Self {
        Self { clock: shifted_clock(offset), ..self.clone() }
    }

    /// The same client with this clock.
    #[must_use]
    pub fn by(&self, clock: &Clock) -> Self {
        Self { clock: clock.words(), ..self.clone() }
    }

    /// The same client at another place, with a copy of its files as they are.
    pub fn copy_to<'other>(&self, host: &'other Host) -> Result<Client<'other>> {
        let dir = host.dir().join("copied");
        let (from, to) = (self.dir.to_string_lossy(), dir.to_string_lossy());
        host.run(["cp", "-a", &*from, &*to])?.ok()?;
        Ok(Client { host, dir, server: self.server.clone(), clock: self.clock.clone() })
    }

    /// The host it is on.
    pub fn host(&self) -> &'host Host {
        self.host
    }

    /// Its configuration directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `spa` with its configuration directory.
    pub fn spa(&self, words: &[&str]) -> Result<Output> {
        self.spa_with_input(words, "")
    }

    /// Takes a token.
    pub fn enroll(&self, token: &str) -> Result<Output> {
        self.spa_with_input(&["enroll", "-"], &format!("{token}\n"))
    }

    /// Knocks at its server.
    pub fn knock(&self, options: &[&str]) -> Result<Output> {
        self.spa(&[&["knock", self.server.as_str()], options].concat())
    }

    /// Knocks until one is heard: the daemon may be looking for the interface.
    pub fn knock_until_heard(&self, server: &Server) -> Result {
        let before = server.counter("granted")?;
        until("a knock is heard", SOON, || {
            self.knock(&[])?.ok()?;
            sleep(Duration::from_millis(200));
            Ok(server.counter("granted")? > before)
        })?;
        Ok(())
    }

    /// As [`Client::spa`], with a text on standard input.
    pub fn spa_with_input(&self, words: &[&str], input: &str) -> Result<Output> {
        let (program, dir) = (program("spa")?, self.dir.to_string_lossy());
        let program = program.to_string_lossy();
        let clock = self.clock.iter().map(String::as_str);
        let command = clock.chain([&*program]).chain(words.iter().copied());
        self.host.run_with_input(command.chain(["--config-dir", &*dir]), input)
    }
}
