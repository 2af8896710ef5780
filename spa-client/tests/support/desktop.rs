//! A desktop's session, as far as there is a message bus and a keyring: gnome-keyring's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &[u8] = b"login password";
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";

pub(crate) struct Desktop {
    home: tempfile::TempDir,
    bus: Child,
    keyring: Child,
    env: Vec<(&'static str, String)>,
}

impl Desktop {
    /// With an unlocked keyring, and nobody whom it could ask for anything.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let mut env = vec![("XDG_RUNTIME_DIR", path("run")), ("XDG_DATA_HOME", path("data"))];
        super::set_mode(&home.path().join("run"), 0o700);
        let mut bus = Command::new("dbus-run-session");
        bus.args(["--", "sh", "-c", "echo $DBUS_SESSION_BUS_ADDRESS; exec cat"]);
        bus.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        bus.envs(env.iter().map(|(name, value)| (name, value)));
        bus.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut bus = bus.spawn().expect("dbus-run-session, of the package dbus-daemon");
        let mut address = String::new();
        BufReader::new(bus.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        env.push(("DBUS_SESSION_BUS_ADDRESS", address.trim().to_owned()));
        let desktop = Self { keyring: log_in(&env), home, bus, env };
        desktop.wait_until_there();
        desktop
    }

    /// What leads programs here; they think that somebody sits before it.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        [self.env.clone(), vec![("DISPLAY", ":none".to_owned())]].concat()
    }

    /// Asking for the keyring itself would start another one.
    fn wait_until_there(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let name = "string:org.freedesktop.secrets";
        while !self
            .call("org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", name)
            .contains("true")
        {
            assert!(Instant::now() < deadline, "no keyring");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn call(&self, to: &str, object: &str, method: &str, argument: &str) -> String {
        let mut call = program(&self.env, "dbus-send");
        call.args([
            "--session",
            "--print-reply",
            &format!("--dest={to}"),
            object,
            method,
            argument,
        ]);
        String::from_utf8(call.output().expect("dbus-send, of the package dbus-bin").stdout)
            .unwrap()
    }

    pub(crate) fn lock(&self) {
        let to = "org.freedesktop.secrets";
        let method = "org.freedesktop.Secret.Service.Lock";
        let said =
            self.call(to, "/org/freedesktop/secrets", method, &format!("array:objpath:{LOGIN}"));
        assert!(said.contains(LOGIN), "{said}");
    }

    /// What was on the disk is there again, unlocked.
    pub(crate) fn log_in_again(&mut self) {
        self.end_keyring();
        self.keyring = log_in(&self.env);
        self.wait_until_there();
    }

    fn end_keyring(&mut self) {
        let _ = self.keyring.kill();
        let _ = self.keyring.wait();
    }

    /// The secrets that it holds of `spa`.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut search = program(&self.env, "secret-tool");
        let said = search.args(["search", "--all", "application", "spa"]).output();
        let said = String::from_utf8(said.expect("the package libsecret-tools").stdout).unwrap();
        said.lines().filter_map(|line| line.strip_prefix("secret = ")).map(str::to_owned).collect()
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        self.end_keyring();
        // Its program ends with its standard input, and the bus with it.
        drop(self.bus.stdin.take());
        let _ = self.bus.wait();
    }
}

fn program(env: &[(&'static str, String)], name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The login's password makes the keyring, or unlocks it.
fn log_in(env: &[(&'static str, String)]) -> Child {
    let mut daemon = program(env, "gnome-keyring-daemon");
    daemon.args(["--foreground", "--unlock", "--components=secrets"]).stdin(Stdio::piped());
    let daemon = daemon.stdout(Stdio::null()).spawn();
    let mut daemon = daemon.expect("the package gnome-keyring");
    daemon.stdin.take().unwrap().write_all(PASSWORD).unwrap();
    daemon
}
