//! The program under test, and a server for it to knock at.
#![allow(dead_code, reason = "no file of tests uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[cfg(unix)]
pub(crate) mod desktop;
#[cfg(unix)]
pub(crate) mod person;

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use spa_keys::{Token, TokenEnrolment, date, random};
use spa_proto::{
    Arrival, ClientKeys, Cloak, EnrolHash, EnrolSecret, Gate, GateSettings, Kid, Monotonic, Psk,
    Reason, ServerSecret, Timestamp, Tolerance, VerifiedKnock, Verifier, VerifyingKey,
};

/// A configuration directory of its own, and the program run in it.
pub(crate) struct Client {
    home: tempfile::TempDir,
    /// Of its environment, what is set.
    pub(crate) env: Vec<(&'static str, String)>,
}

/// What would lead to the keyring of whoever runs the tests.
const DESKTOP: [&str; 4] =
    ["DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"];

impl Client {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    /// Not there until the program makes it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("config")
    }

    pub(crate) fn host_file(&self, alias: &str) -> PathBuf {
        self.dir().join("hosts").join(format!("{alias}.toml"))
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spa"));
        command.args(words).arg("--config-dir").arg(self.dir()).stdin(Stdio::null());
        for name in DESKTOP {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        self.command(words).output().unwrap().into()
    }

    /// Where nobody is there to ask.
    #[cfg(unix)]
    pub(crate) fn run_alone(&self, words: &[&str]) -> Ran {
        let mut command = alone(&self.command(words));
        command.env_remove("SSH_ASKPASS").env_remove("SSH_ASKPASS_REQUIRE");
        command.output().unwrap().into()
    }

    /// Its exit code, and what a person sees on standard output.
    #[cfg(unix)]
    pub(crate) fn run_at_terminal(&self, words: &[&str]) -> (i32, String) {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = self.command(words);
        command.stdout(pty.slave);
        let code = command.status().unwrap().code().unwrap();
        drop(command);
        let mut shown = [0; 4096];
        // Nothing at all is an error here.
        let read = std::io::Read::read(&mut std::fs::File::from(pty.master), &mut shown);
        let shown = String::from_utf8_lossy(&shown[..read.unwrap_or_default()]);
        (code, shown.trim_end().replace("\r\n", "\n"))
    }

    pub(crate) fn run_with_input(&self, words: &[&str], input: &str) -> Ran {
        let mut child = self.start(words);
        // It may have ended without reading any of it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn start(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Its key for a server, as the server knows it once it is enrolled.
    pub(crate) fn verifier(&self, alias: &str) -> Verifier {
        let text = std::fs::read_to_string(self.host_file(alias)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("signing-key = ")).unwrap();
        let seed = spa_keys::encoding::from_base64(line.trim_matches('"')).ok().unwrap();
        Verifier::Bound(spa_proto::SigningKey::from_seed(&seed).verifying_key())
    }

    /// A client that has taken in the server's token.
    pub(crate) fn of(server: &Server) -> Self {
        let client = Self::new();
        client.enroll(&server.token());
        client
    }

    pub(crate) fn enroll(&self, token: &Token) {
        let ran = self.run_with_input(&["enroll", "-"], &token.encode());
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
}

/// The same in a session of its own, which has no terminal.
#[cfg(unix)]
pub(crate) fn alone(command: &Command) -> Command {
    let mut alone = Command::new("setsid");
    alone.arg("-w").arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => alone.env(name, value),
            None => alone.env_remove(name),
        };
    }
    alone
}

/// How one run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().expect("ended by a signal"),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {}", self.err);
        }
        self
    }

    #[track_caller]
    pub(crate) fn quiet(self) -> Self {
        let silent = self.code == 0 && self.out.is_empty() && self.err.is_empty();
        assert!(silent, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A server's keys with one client's record, and sockets to hear its knocks.
pub(crate) struct Server {
    pub(crate) secret: ServerSecret,
    pub(crate) kid: Kid,
    pub(crate) psk: Psk,
    pub(crate) enrol: EnrolSecret,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What its tokens name.
    pub(crate) services: Vec<&'static str>,
    /// And for how many seconds these open.
    pub(crate) lasting: Vec<(&'static str, NonZeroU32)>,
    cloak: Cloak,
    gate: Gate,
    sockets: Vec<UdpSocket>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::named("127.0.0.1", &["127.0.0.1"])
    }

    /// Reached as `host`, listening at one port of several addresses.
    pub(crate) fn named(host: &str, addresses: &[&str]) -> Self {
        let sockets = listen(addresses);
        let port = sockets[0].local_addr().unwrap().port();
        let secret = ServerSecret::from_bytes(*random::bytes().unwrap());
        let cloak = Cloak::from_bytes(*random::bytes().unwrap());
        let (kid, psk) = (Kid::from_bytes(*random::bytes().unwrap()), *random::bytes().unwrap());
        let psk = Psk::from_bytes(psk);
        let mut gate = Gate::new(secret.clone(), cloak.clone(), GateSettings::default(), clock());
        gate.insert(kid, ClientKeys::derive(&psk, &secret.public(), &kid));
        let enrol = EnrolSecret::from_bytes(*random::bytes().unwrap());
        let services = vec!["ssh", "web"];
        let lasting = Vec::new();
        let host = host.into();
        Self { secret, kid, psk, enrol, host, port, services, lasting, cloak, gate, sockets }
    }

    pub(crate) fn token(&self) -> Token {
        self.token_with(TokenEnrolment::Secret { secret: self.enrol.clone(), expires: tomorrow() })
    }

    pub(crate) fn token_for_key(&self, key: VerifyingKey) -> Token {
        self.token_with(TokenEnrolment::Key(key))
    }

    fn token_with(&self, enrolment: TokenEnrolment) -> Token {
        Token {
            host: self.host.clone(),
            port: self.port,
            server: self.secret.public(),
            cloak: self.cloak.clone(),
            kid: self.kid,
            psk: self.psk.clone(),
            enrolment,
            services: self.services.iter().map(|name| name.parse().unwrap()).collect(),
            lasting: self
                .lasting
                .iter()
                .map(|(name, time)| (name.parse().unwrap(), *time))
                .collect(),
        }
    }

    pub(crate) fn pending(&self) -> Verifier {
        Verifier::Pending { secret: EnrolHash::of(&self.enrol), expires: tomorrow() }
    }

    /// The next datagram at the `index`-th address, if one comes.
    pub(crate) fn datagram(&self, index: usize) -> Option<(Vec<u8>, Arrival)> {
        let socket = &self.sockets[index];
        let mut buffer = [0; 2048];
        let (len, from) = socket.recv_from(&mut buffer).ok()?;
        let destination = socket.local_addr().unwrap().ip();
        Some((buffer[..len].to_vec(), Arrival { source: from.ip(), destination }))
    }

    /// Receives one knock and verifies it for the first time it enrols.
    #[track_caller]
    pub(crate) fn knock(&mut self) -> VerifiedKnock {
        let pending = self.pending();
        self.knock_verified_by(0, &pending).expect("a valid knock")
    }

    #[track_caller]
    pub(crate) fn knock_verified_by(
        &mut self,
        index: usize,
        verifier: &Verifier,
    ) -> Result<VerifiedKnock, Reason> {
        let (datagram, arrival) = self.datagram(index).expect("a datagram");
        self.verified(&datagram, arrival, verifier)
    }

    fn verified(
        &mut self,
        datagram: &[u8],
        arrival: Arrival,
        verifier: &Verifier,
    ) -> Result<VerifiedKnock, Reason> {
        let signed = self.gate.admit(datagram, arrival, date::now(), clock())?;
        signed.verify(&self.secret.public(), verifier, date::now(), Tolerance::DEFAULT)
    }

    /// The next knock, however long it takes within a generous limit.
    #[track_caller]
    pub(crate) fn next_knock(&mut self) -> VerifiedKnock {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "no knock");
            if let Some((datagram, arrival)) = self.datagram(0) {
                return self.verified(&datagram, arrival, &self.pending()).unwrap();
            }
        }
    }

    /// All knocks that have come.
    pub(crate) fn knocks(&mut self) -> Vec<VerifiedKnock> {
        let datagrams: Vec<_> = std::iter::from_fn(|| self.datagram(0)).collect();
        let pending = self.pending();
        let verified = |(datagram, arrival): (Vec<u8>, _)| {
            self.verified(&datagram, arrival, &pending).unwrap()
        };
        datagrams.into_iter().map(verified).collect()
    }

    /// How many more datagrams there are, all told.
    pub(crate) fn drain(&self) -> usize {
        (0..self.sockets.len()).map(|i| std::iter::from_fn(|| self.datagram(i)).count()).sum()
    }
}

fn clock() -> Monotonic {
    Monotonic::new(Duration::from_secs(1))
}

fn tomorrow() -> Timestamp {
    date::now().plus(Duration::from_secs(24 * 60 * 60))
}

fn listen(addresses: &[&str]) -> Vec<UdpSocket> {
    let mut sockets = Vec::<UdpSocket>::new();
    for address in addresses {
        let port = sockets.first().map_or(0, |first| first.local_addr().unwrap().port());
        let ip: IpAddr = address.parse().unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(ip, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        sockets.push(socket);
    }
    sockets
}

#[cfg(unix)]
/// A TCP port on loopback that says nothing, as behind a firewall, until it is
/// opened: its queue of unaccepted connections is full.
pub(crate) struct SilentPort {
    listener: TcpListener,
    address: SocketAddr,
    queue: Vec<TcpStream>,
}

#[cfg(unix)]
impl SilentPort {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Again, for a queue of one.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let queue: Vec<_> = std::iter::from_fn(connect).take(10).collect();
        assert!(queue.len() < 10, "the queue never fills");
        Self { listener, address, queue }
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Takes the connections that filled the queue, and is open from now on.
    pub(crate) fn into_listener(self) -> TcpListener {
        self.queue.iter().for_each(|_| drop(self.listener.accept().unwrap()));
        self.listener
    }

    /// Accepts from now on, for as long as the test lasts.
    pub(crate) fn open(self) {
        std::thread::spawn(move || self.listener.incoming().for_each(drop));
    }
}

/// A TCP port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// All connections that wait to be accepted, with their source ports.
pub(crate) fn accepted(listener: &TcpListener) -> Vec<(u16, TcpStream)> {
    listener.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| listener.accept().ok())
        .map(|(stream, peer)| (peer.port(), stream))
        .collect()
}

/// Permission bits.
#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
