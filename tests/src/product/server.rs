//! The daemon on a host, and the keys it knows.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::settings::Settings;
use crate::lab::{Clock, Doing, Host, LabError, Netlink, Output, Result, Running, fail, program};
use crate::wait;

/// How long the daemon may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server: its directories, its configuration, and the daemon while it runs.
pub struct Server<'host> {
    host: &'host Host,
    dir: PathBuf,
    settings: Settings,
    running: Option<Running>,
    /// What daemons printed that have ended.
    past: String,
}

/// One row of `spad grants --json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Identifies the grant.
    pub id: String,
    /// Name of the client that holds it.
    pub client: String,
    /// Name of the service.
    pub service: String,
    /// Who may connect.
    pub source: IpAddr,
    /// And from how wide a prefix around it, if not from it alone.
    pub width: Option<u8>,
    /// To which address of the server; to any if there is none.
    pub destination: Option<IpAddr>,
    /// Ports of the service: `tcp/22`.
    pub ports: Vec<String>,
    /// How it may be used.
    pub mode: String,
    /// Time left.
    pub expires_in: Duration,
}

impl<'host> Server<'host> {
    /// A server with a new key, known as `name`, and a configuration; the daemon does not run yet.
    pub fn new(host: &'host Host, name: &str, settings: &Settings) -> Result<Self> {
        let dir = host.dir().join("spad");
        let settings = settings.clone();
        let server = Self { host, dir, settings, running: None, past: String::new() };
        fs::create_dir(&server.dir).doing("making the server's directory")?;
        let port = server.settings.listen_port.to_string();
        server.keys(&["init", "--host", name, "--port", &port])?.ok()?;
        server.configure(&server.settings)?;
        Ok(server)
    }

    /// The host it is on.
    pub fn host(&self) -> &'host Host {
        self.host
    }

    /// Directory with its configuration, keys and state.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a new configuration. A running daemon does not look at it by itself.
    pub fn configure(&self, settings: &Settings) -> Result {
        self.write_config(&settings.to_toml(&self.dir))
    }

    /// The configuration it was made with, as text.
    pub fn config(&self) -> String {
        self.settings.to_toml(&self.dir)
    }

    /// Writes any text as the configuration.
    pub fn write_config(&self, text: &str) -> Result {
        fs::write(self.config_path(), text).doing("writing spad.toml")
    }

    /// Path of `spad.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("spad.toml")
    }

    /// Runs `spa-keys` on the server's keys.
    pub fn keys(&self, words: &[&str]) -> Result<Output> {
        let (program, dir) = (program("spa-keys")?, self.dir.join("keys"));
        let (program, dir) = (program.to_string_lossy(), dir.to_string_lossy());
        self.host.run([&[&*program, "--dir", &*dir], words].concat())
    }

    /// Adds a client and gives its token.
    pub fn add(&self, name: &str, options: &[&str]) -> Result<String> {
        let added = self.keys(&[&["add", name], options].concat())?.ok()?;
        Ok(added.text().to_owned())
    }

    /// Runs a `spad` command other than `run`.
    pub fn spad(&self, words: &[&str]) -> Result<Output> {
        let (program, config) = (program("spad")?, self.config_path());
        let (program, config) = (program.to_string_lossy(), config.to_string_lossy());
        self.host.run([&[&*program], words, &["--config", &*config]].concat())
    }

    /// As [`Server::spad`], without waiting for its end.
    pub fn begin(&self, words: &[&str]) -> Result<Running> {
        let (program, config) = (program("spad")?, self.config_path());
        let (program, config) = (program.to_string_lossy(), config.to_string_lossy());
        self.host.spawn([&[&*program], words, &["--config", &*config]].concat())
    }

    /// Starts the daemon and waits until capture and ruleset are in force.
    pub fn start(&mut self) -> Result {
        self.start_as(&[])
    }

    /// As [`Server::start`], by a command that is put before it, such as `env NAME=VALUE`.
    pub fn start_as(&mut self, before: &[&str]) -> Result {
        self.launch_as(before)?;
        self.expect_ready()
    }

    /// As [`Server::start`], going by this clock.
    pub fn start_by(&mut self, clock: &Clock) -> Result {
        self.start_as(&texts(&clock.words()))
    }

    /// As [`Server::start`], on this kernel.
    pub fn start_on(&mut self, kernel: &Netlink) -> Result {
        self.start_as(&texts(&kernel.words()))
    }

    /// As [`Server::start`], with a gatekeeper that does this; see `src/bin/spa-lab-hostile`.
    pub fn start_hostile(&mut self, attack: &str) -> Result {
        self.launch_hostile(attack)?;
        self.expect_ready()
    }

    /// As [`Server::start_hostile`], going by this clock.
    pub fn start_hostile_by(&mut self, clock: &Clock, attack: &str) -> Result {
        let words = [clock.words(), attacking(attack)].concat();
        self.launch_program("spa-lab-hostile", &texts(&words))?;
        self.expect_ready()
    }

    fn expect_ready(&mut self) -> Result {
        let mut said = String::new();
        let ready = wait::until("spad is ready", PATIENCE, || {
            self.expect_running()?;
            let status = self.spad(&["status", "--json"])?;
            said = status.all();
            let parts = json(&status).unwrap_or_default();
            Ok(["capture", "ruleset"].iter().all(|part| parts[part]["in_force"] == true))
        });
        ready.map(|_| ()).map_err(|error| {
            LabError::new(format!("{error}\nlast status: {said}\nlog: {}", self.log()))
        })
    }

    /// Starts the daemon without waiting for anything.
    pub fn launch(&mut self) -> Result {
        self.launch_as(&[])
    }

    /// As [`Server::launch`], by a command that is put before it.
    pub fn launch_as(&mut self, before: &[&str]) -> Result {
        self.launch_program("spad", before)
    }

    /// As [`Server::start_hostile`], without waiting for anything.
    pub fn launch_hostile(&mut self, attack: &str) -> Result {
        self.launch_program("spa-lab-hostile", &texts(&attacking(attack)))
    }

    fn launch_program(&mut self, name: &str, before: &[&str]) -> Result {
        self.remember();
        let (program, config) = (program(name)?, self.config_path());
        let (program, config) = (program.to_string_lossy(), config.to_string_lossy());
        let words = [before, &[&*program, "run", "--config", &*config]].concat();
        self.running = Some(self.host.spawn(words)?);
        Ok(())
    }

    fn expect_running(&mut self) -> Result {
        if self.process()?.is_running()? {
            return Ok(());
        }
        fail(format!("spad ended: {}", self.log()))
    }

    /// The daemon's process, that is `spad run` itself.
    pub fn process(&mut self) -> Result<&mut Running> {
        self.running.as_mut().ok_or_else(|| LabError::new("spad was not started"))
    }

    /// Waits for the daemon to end by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.process()?.wait(PATIENCE)?;
        self.remember();
        Ok(status)
    }

    /// Ends the daemon with SIGTERM.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process()?.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// As after a reboot of its host: no daemon, no table, an empty run directory, another boot id.
    pub fn reboot(&mut self) -> Result {
        if self.running.is_some() {
            self.kill9()?;
        }
        self.host.sh("nft flush ruleset && rm -rf /run/spad")?.ok()?;
        self.host.new_boot_id()
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill9(&mut self) -> Result {
        self.process()?.signal(Signal::SIGKILL)?;
        self.wait()?;
        Ok(())
    }

    /// Stops and starts it.
    pub fn restart(&mut self) -> Result {
        self.stop()?;
        self.start()
    }

    /// Sends SIGHUP.
    pub fn hang_up(&mut self) -> Result {
        self.process()?.signal(Signal::SIGHUP)
    }

    /// All that this server's daemons printed to standard error.
    pub fn log(&self) -> String {
        let now = self.running.as_ref().map(Running::stderr).unwrap_or_default();
        format!("{}{now}", self.past)
    }

    fn remember(&mut self) {
        self.past = self.log();
        self.running = None;
    }

    /// What `spad status --json` says.
    pub fn status(&self) -> Result<Value> {
        json(&self.spad(&["status", "--json"])?)
    }

    /// How many datagrams came to this end, such as `granted` or `duplicate`.
    pub fn counter(&self, reason: &str) -> Result<u64> {
        let status = self.status()?;
        let Some(counters) = status["counters"].as_object() else {
            return fail(format!("status has no counters: {status}"));
        };
        Ok(counters.get(reason).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Waits until a counter has reached a value.
    pub fn wait_for_counter(&self, reason: &str, value: u64) -> Result<Duration> {
        let what = format!("counter {reason} is {value}");
        let reached = wait::until(&what, wait::SOON, || Ok(self.counter(reason)? >= value));
        reached.map_err(|error| {
            let counters = self.status().map(|status| status["counters"].to_string());
            LabError::new(format!("{error}\n{}\n{}", counters.unwrap_or_default(), self.log()))
        })
    }

    /// Grants in force.
    pub fn grants(&self) -> Result<Vec<Grant>> {
        let list = json(&self.spad(&["grants", "--json"])?)?;
        let Some(list) = list.as_array() else { return fail(format!("not a list: {list}")) };
        list.iter().map(Grant::from_json).collect()
    }

    /// Elements of the sets that the kernel has for grants, as text of `nft`.
    pub fn kernel_table(&self) -> Result<String> {
        Ok(self.host.run(["nft", "list", "table", "inet", "spad"])?.ok()?.stdout)
    }
}

impl Grant {
    /// The first port of the service.
    pub fn port(&self) -> Result<u16> {
        let first = self.ports.first().and_then(|port| port.split(['/', '-']).nth(1));
        match first {
            Some(port) => Ok(port.parse()?),
            None => fail(format!("grant without ports: {self:?}")),
        }
    }

    fn from_json(row: &Value) -> Result<Self> {
        let text = |key: &str| match &row[key] {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => fail(format!("grant without {key}: {row}")),
        };
        let source = text("source")?;
        let (address, width) = match source.split_once('/') {
            Some((address, width)) => (address, Some(width.parse()?)),
            None => (source.as_str(), None),
        };
        Ok(Self {
            id: text("id")?,
            client: text("client")?,
            service: text("service")?,
            source: address.parse()?,
            width,
            ports: row["ports"].as_array().into_iter().flatten().map(words).collect(),
            destination: row["destination"].as_str().and_then(|text| text.parse().ok()),
            mode: text("mode")?,
            expires_in: Duration::from_millis(text("expires_in_ms")?.parse()?),
        })
    }
}

/// What to put before a daemon with a hostile gatekeeper.
fn attacking(attack: &str) -> Vec<String> {
    vec!["env".into(), format!("SPA_LAB_ATTACK={attack}")]
}

fn texts(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).doing(format!("JSON of {output}"))
}
