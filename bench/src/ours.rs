//! Our daemon on a host, as the measurements need it.

use std::net::IpAddr;
use std::ops::Range;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use spa_proto::Credentials;
use spa_tests::Result;
use spa_tests::lab::{Doing, Host};
use spa_tests::product::{Server, Service, Settings};
use spa_tests::wait;

use crate::crowd::{self, Crowd};
use crate::inside::probe::Try;
use crate::inside::{self, SERVER};
use crate::process::Family;

/// A server with a crowd of clients; the daemon may run or not.
pub(crate) struct Ours<'host> {
    /// The daemon.
    pub(crate) server: Server<'host>,
    /// Its clients.
    pub(crate) crowd: Crowd,
    settings: Settings,
    numbers: u32,
}

/// What a measurement chooses.
pub(crate) struct Choice {
    /// How long grants last.
    pub(crate) ttl: &'static str,
    /// How many clients there are.
    pub(crate) clients: u32,
    /// Whether the daemon has only one of the two processors.
    pub(crate) pinned: bool,
}

impl Default for Choice {
    /// Grants that outlast the measurement, two hundred clients, one processor.
    fn default() -> Self {
        Self { ttl: "1h", clients: 200, pinned: true }
    }
}

impl<'host> Ours<'host> {
    /// A running daemon.
    pub(crate) fn start(host: &'host Host, choice: &Choice) -> Result<Self> {
        let mut ours = Self::prepare(host, choice)?;
        ours.launch(choice)?;
        Ok(ours)
    }

    /// Keys, configuration and records, without a daemon.
    pub(crate) fn prepare(host: &'host Host, choice: &Choice) -> Result<Self> {
        let ssh = Service { ttl: choice.ttl, max_ttl: "1h", ..Service::SSH };
        let more = "[firewall]\nmax-grants = 1000000\n".to_owned();
        let settings = Settings { more, tolerance: "1s", ..Settings::with_services(&[ssh]) };
        let server = Server::new(host, &host.v4()?.to_string(), &settings)?;
        let mut crowd = Crowd::new(&server.dir().join("keys"))?;
        crowd.grow(choice.clients)?;
        let settings = Settings { tolerance: "30s", ..settings };
        Ok(Self { server, crowd, settings, numbers: 0 })
    }

    /// How long a start takes with both processors, until the daemon tells the service manager
    /// that knocks are heard. Nobody asks it before: an answer takes of its time.
    pub(crate) fn time_to_start(&mut self) -> Result<Duration> {
        let path = self.scratch("notify");
        let manager = UnixDatagram::bind(&path)?;
        manager.set_read_timeout(Some(Duration::from_secs(60)))?;
        let socket = format!("NOTIFY_SOCKET={}", path.display());
        let begun = Instant::now();
        self.run(&["env", &socket, "taskset", "-c", "0-1"])?;
        let mut said = [0; 4096];
        while said.split(|byte| *byte == b'\n').all(|line| line != b"READY=1") {
            said.fill(b'\n');
            manager.recv(&mut said).doing(self.log())?;
        }
        let took = begun.elapsed();
        self.server.stop()?;
        std::fs::remove_file(path)?;
        Ok(took)
    }

    /// Starts the daemon on its one processor and waits until it takes knocks.
    ///
    /// After its very first start it takes none that was made within the tolerance (protocol §7,
    /// rule R4). So the first tolerance is a short one, and the usual one is put in its place.
    pub(crate) fn launch(&mut self, choice: &Choice) -> Result {
        let cpus = if choice.pinned { SERVER.to_string() } else { "0-1".to_owned() };
        self.run(&["taskset", "-c", &cpus])?;
        self.wait_until_listening("the daemon listens")?;
        std::thread::sleep(Duration::from_millis(1100));
        self.server.configure(&self.settings)?;
        self.server.spad(&["reload"])?.ok()?;
        self.wait_until_listening("the reloaded daemon listens")
    }

    fn wait_until_listening(&self, what: &str) -> Result {
        let listening = wait::until(what, Duration::from_secs(60), || {
            Ok(self.server.spad(&["status"])?.success())
        });
        listening.map(|_| ()).doing(self.log())
    }

    /// Runs the daemon, its log in a file: whoever read it from a pipe would be woken by each
    /// knock, on the processor that asks whether the port is open.
    fn run(&mut self, before: &[&str]) -> Result {
        let line = format!("exec \"$@\" 2>> {}", self.log_path().display());
        self.server.launch_as(&[&["sh", "-c", &line, "sh"], before].concat())
    }

    fn log_path(&self) -> PathBuf {
        self.server.dir().join("log")
    }

    /// What the daemon has said so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Its two processes, the warden first.
    pub(crate) fn processes(&mut self) -> Result<Family> {
        Family::of(self.server.process()?.pid())
    }

    /// A knock for `source` by a client, made `later` than now, as bytes.
    pub(crate) fn knock(
        &mut self,
        client: &Credentials,
        source: IpAddr,
        later: Duration,
    ) -> Result<Vec<u8>> {
        self.numbers += 1;
        Ok(crowd::knock(client, source, later, self.numbers)?.to_vec())
    }

    /// Tries from these addresses, of these clients in turn: twenty are enough for a hundred
    /// tries, since each may knock twenty times at once.
    pub(crate) fn tries(&mut self, sources: &[IpAddr], clients: Range<u32>) -> Result<Vec<Try>> {
        let clients: Vec<_> = clients.map(|number| self.crowd.credentials(number)).collect();
        let both = sources.iter().zip(clients.iter().cycle());
        both.map(|(from, client)| {
            let payload = inside::hex(&self.knock(client, *from, Duration::ZERO)?);
            Ok(Try { from: *from, payload })
        })
        .collect()
    }

    /// The journal's file.
    pub(crate) fn journal_len(&self) -> Result<u64> {
        let script = "cat /run/spad/journal-* | wc -c";
        Ok(self.server.host().sh(script)?.ok()?.text().parse()?)
    }

    /// A file for the sender, on every host.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.server.host().dir().join(name)
    }
}
