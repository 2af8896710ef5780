//! fwknop as Debian ships it, on a host: the server in its pcap mode or in its UDP mode, behind a
//! firewall that drops, and its client.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use spa_tests::Result;
use spa_tests::lab::{Doing, Host, LabError, Running, fail};
use spa_tests::wait;

use crate::inside::probe::Try;
use crate::inside::{self, SERVER};
use crate::process::Family;
use crate::site::KNOCK_PORT;

/// How the server hears knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As shipped.
    Pcap,
    /// With `-U`: an ordinary UDP socket, for which the port is opened.
    Udp,
}

/// A server of fwknop and the keys of its one user.
pub(crate) struct Fwknop<'host> {
    host: &'host Host,
    dir: PathBuf,
    running: Running,
}

/// What fwknop's own documentation has people do: drop, but for what was begun from inside.
const FIREWALL: &str = "
    iptables -A INPUT -i lo -j ACCEPT
    iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    iptables -P INPUT DROP";

impl<'host> Fwknop<'host> {
    /// A running server on a host that has this address.
    pub(crate) fn start(host: &'host Host, address: IpAddr, mode: Mode) -> Result<Self> {
        let dir = host.dir().join("fwknop");
        fs::create_dir(&dir)?;
        host.sh(FIREWALL)?.ok()?;
        if mode == Mode::Udp {
            let rule = format!("iptables -I INPUT -p udp --dport {KNOCK_PORT} -j ACCEPT");
            host.sh(&rule)?.ok()?;
        }
        let (key, hmac) = make_keys(host)?;
        write(&dir, "fwknopd.conf", &configuration(&dir))?;
        write(&dir, "access.conf", &access(&key, &hmac))?;
        write(&dir, "fwknoprc", &client_configuration(address, &key, &hmac))?;
        let running = launch(host, &dir, mode)?;
        let mut fwknop = Self { host, dir, running };
        fwknop.wait_until_ready(mode)?;
        Ok(fwknop)
    }

    /// Until its socket is there.
    fn wait_until_ready(&mut self, mode: Mode) -> Result {
        let table = if mode == Mode::Udp { "udp" } else { "packet" };
        let path = format!("/proc/{}/net/{table}", self.running.pid());
        wait::until("fwknopd hears knocks", Duration::from_secs(20), || {
            if !self.running.is_running()? {
                return fail(format!("fwknopd ended, see {}", self.dir.display()));
            }
            Ok(fs::read_to_string(&path).unwrap_or_default().lines().count() > 1)
        })?;
        // The socket comes first; what is still to be done takes a few milliseconds.
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    /// Stands still, or goes on: two servers on one processor are in each other's way.
    pub(crate) fn stands_still(&self, still: bool) -> Result {
        if still { self.running.signal(Signal::SIGSTOP) } else { self.running.resume() }
    }

    /// Its process, and children that live just now.
    pub(crate) fn processes(&self) -> Result<Family> {
        Family::of(self.running.pid())
    }

    /// Tries from these addresses.
    pub(crate) fn tries(&self, sources: &[IpAddr]) -> Result<Vec<Try>> {
        sources.iter().map(|from| self.knock(*from)).collect()
    }

    /// A knock for `from`, made by fwknop's client and not sent.
    fn knock(&self, from: IpAddr) -> Result<Try> {
        let file = self.dir.join("packet");
        // Errors: there is none before the first.
        let _ = fs::remove_file(&file);
        let (from_text, file_text) = (from.to_string(), file.to_string_lossy());
        let mut words = self.client_words(&from_text);
        words.extend(["-T".to_owned(), "-B".to_owned(), file_text.into_owned()]);
        self.host.run(&words)?.ok()?;
        let text = fs::read_to_string(&file).doing(file.display())?;
        Ok(Try { from, payload: inside::hex(text.trim().as_bytes()) })
    }

    /// The client's command line for a knock.
    pub(crate) fn client_words(&self, from: &str) -> Vec<String> {
        let rc = self.dir.join("fwknoprc");
        let rc = rc.to_string_lossy();
        let words = ["fwknop", "-n", "server", "--rc-file", &*rc, "--no-save-args", "-a", from];
        words.map(str::to_owned).to_vec()
    }
}

/// As a daemon would run it, but for its log, which goes nowhere: there is no syslog here.
fn launch(host: &Host, dir: &Path, mode: Mode) -> Result<Running> {
    let dir = dir.display();
    let udp = if mode == Mode::Udp { "-U" } else { "" };
    let line = format!(
        "mkdir {dir}/run; exec taskset -c {SERVER} fwknopd -f -c {dir}/fwknopd.conf \
         -a {dir}/access.conf -r {dir}/run {udp} > /dev/null 2> {dir}/log"
    );
    host.spawn(["sh", "-c", &line])
}

fn make_keys(host: &Host) -> Result<(String, String)> {
    let made = host.run(["fwknop", "--key-gen", "--no-rc-file"])?.ok()?;
    let key = |name: &str| {
        let mut lines = made.stdout.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.map(str::to_owned).ok_or_else(|| LabError::new(format!("no {name}: {made}")))
    };
    Ok((key("KEY_BASE64")?, key("HMAC_KEY_BASE64")?))
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "PCAP_INTF eth0;\nPCAP_FILTER udp port {KNOCK_PORT};\nFWKNOP_RUN_DIR {dir}/run;\n\
         FWKNOP_CONF_DIR {dir};\nFIREWALL_EXE /usr/sbin/iptables;\n"
    )
}

fn access(key: &str, hmac: &str) -> String {
    format!(
        "SOURCE ANY\nOPEN_PORTS tcp/22\nREQUIRE_SOURCE_ADDRESS Y\nFW_ACCESS_TIMEOUT 3600\n\
         KEY_BASE64 {key}\nHMAC_KEY_BASE64 {hmac}\n"
    )
}

fn client_configuration(address: IpAddr, key: &str, hmac: &str) -> String {
    format!(
        "[default]\n[server]\nACCESS tcp/22\nSPA_SERVER {address}\nKEY_BASE64 {key}\n\
         HMAC_KEY_BASE64 {hmac}\nUSE_HMAC Y\n"
    )
}

fn write(dir: &Path, name: &str, text: &str) -> Result {
    use std::io::Write;
    let mut file =
        fs::File::options().write(true).create_new(true).mode(0o600).open(dir.join(name))?;
    file.write_all(text.as_bytes()).doing(name)
}
