//! A real OpenSSH server and its client, with keys that live as long as the lab.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Doing, Result, fail};
use super::host::Host;
use super::namespace::Privilege;
use super::process::{Output, Running};
use super::{files, tools};

/// A server on port 22 of a host. It ends when this value goes; sessions it has go on.
pub struct Sshd {
    _server: Running,
}

/// What a client needs to log in: a key that the server knows and a configuration file.
#[derive(Clone)]
pub struct SshLogin {
    config: PathBuf,
    user: &'static str,
}

/// An open ssh session that gives back what it gets.
pub struct Session(Running);

impl Session {
    /// Sends a word and says whether it came back in time.
    pub fn is_alive(&mut self, word: &str) -> bool {
        self.0.write_line(word).is_ok() && self.0.wait_for(word, Duration::from_secs(3)).is_ok()
    }
}

impl SshLogin {
    /// Makes a key and a configuration in a directory.
    pub fn new(host: &Host) -> Result<Self> {
        let dir = host.dir().join("ssh");
        fs::create_dir(&dir).doing("making the directory of ssh keys")?;
        make_key(host, &dir.join("id"))?;
        let user = match host.privilege() {
            Privilege::Root => "root",
            Privilege::UserNamespace => files::USER,
        };
        let login = Self { config: dir.join("config"), user };
        login.write_config("")?;
        Ok(login)
    }

    /// The client's configuration file, for `ssh -F`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Writes the client's configuration, with lines that come before all others.
    pub fn write_config(&self, first: &str) -> Result {
        let key = self.key();
        let text = format!(
            "{first}\nHost *\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n\
             \x20 StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n\
             \x20 ConnectTimeout 3\n",
            self.user,
            key.display(),
        );
        fs::write(&self.config, text).doing("writing the ssh configuration")
    }

    fn key(&self) -> PathBuf {
        self.config.with_file_name("id")
    }

    fn command<'a>(&'a self, to: &'a str, words: &[&'a str]) -> Result<Vec<&'a str>> {
        let Some(config) = self.config.to_str() else { return fail("directory is not UTF-8") };
        Ok([&["ssh", "-F", config, to], words].concat())
    }
}

impl Host {
    /// Starts sshd for this login, on all addresses.
    pub fn sshd(&self, login: &SshLogin) -> Result<Sshd> {
        let dir = self.dir().join("sshd");
        fs::create_dir(&dir).doing("making sshd's directory")?;
        make_key(self, &dir.join("host_key"))?;
        fs::copy(login.key().with_extension("pub"), dir.join("authorized_keys"))?;
        fs::write(dir.join("config"), sshd_config(&dir))?;
        let Some(program) = tools::find("sshd") else { return fail("sshd is missing") };
        let start = format!(
            "mkdir -p /run/sshd && exec {}{} -D -e -f {}",
            self.as_plain_user(),
            program.display(),
            dir.join("config").display()
        );
        let mut server = self.spawn(["sh", "-c", &start])?;
        self.wait_for_banner(&mut server)?;
        Ok(Sshd { _server: server })
    }

    /// Without root, sshd must not believe it could become somebody else.
    fn as_plain_user(&self) -> String {
        match self.privilege() {
            Privilege::Root => String::new(),
            Privilege::UserNamespace => {
                let id = files::USER_ID;
                format!("unshare --user --map-user={id} --map-group={id} ")
            }
        }
    }

    fn wait_for_banner(&self, server: &mut Running) -> Result {
        let localhost = IpAddr::from([127, 0, 0, 1]);
        let what = "sshd listens";
        crate::wait::until(what, Duration::from_secs(10), || {
            if !server.is_running()? {
                return fail(format!("sshd ended: {}", server.stderr()));
            }
            self.connects((localhost, 22))
        })?;
        Ok(())
    }

    /// Runs a command on `to` by ssh.
    pub fn ssh(&self, login: &SshLogin, to: &str, words: &[&str]) -> Result<Output> {
        self.run(login.command(to, words)?)
    }

    /// Opens a session on `to` that stays.
    pub fn ssh_session(&self, login: &SshLogin, to: &str) -> Result<Session> {
        let mut session = Session(self.spawn(login.command(to, &["cat"])?)?);
        if session.is_alive("hello") {
            return Ok(session);
        }
        fail(format!("no session on {to}: {}", session.0.stderr()))
    }
}

fn make_key(host: &Host, path: &Path) -> Result {
    let path = path.to_string_lossy();
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path])?.ok()?;
    Ok(())
}

fn sshd_config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Port 22\nAddressFamily any\nHostKey {dir}/host_key\nPidFile none\nUsePAM no\n\
         StrictModes no\nAuthorizedKeysFile {dir}/authorized_keys\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 200\n\
         UseDNS no\nPrintMotd no\n"
    )
}
