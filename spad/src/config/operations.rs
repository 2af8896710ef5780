//! What is for those who operate the host: who may ask, where the audit goes,
//! where metrics are.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::value::{Fault, Value, choice, string};

/// For those who operate the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// The group whose members may ask the daemon beside root; `None` for nobody.
    pub group: Option<String>,
    /// Whether they may change something as well.
    pub may_change: bool,
    /// The file that audit lines are added to.
    pub audit_file: Option<PathBuf>,
    /// Where metrics are read; `None` for nowhere.
    pub metrics: Option<Endpoint>,
}

/// Where something is listened at that nobody else on the net can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port on a loopback address.
    Loopback(SocketAddr),
}

impl fmt::Display for Endpoint {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

pub(super) fn read(top: &DeTable<'_>) -> Result<Operations, Fault> {
    let may_change = top.get("control-group-may");
    let group = top.get("control-group");
    if let (Some(value), None) = (may_change, group) {
        let what = "control-group-may says what a control-group may: name one".into();
        return Err(Fault::at(value.span(), what));
    }
    let words = [("read", false), ("change", true)];
    Ok(Operations {
        group: group.map(self::group).transpose()?,
        may_change: may_change.map_or(Ok(false), |value| choice(value, &words))?,
        audit_file: audit_file(top)?,
        metrics: top.get("metrics").map(endpoint).transpose()?,
    })
}

pub(super) fn audit_file(top: &DeTable<'_>) -> Result<Option<PathBuf>, Fault> {
    top.get("audit-file").map(file).transpose()
}

fn group(value: &Value<'_>) -> Result<String, Fault> {
    let name = string(value)?;
    let odd = name.is_empty() || name.contains([':', '/', '\0', '\n']);
    let wrong = || Fault::at(value.span(), format!("{name:?} is no name of a group"));
    (!odd).then(|| name.to_owned()).ok_or_else(wrong)
}

fn file(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = Path::new(string(value)?);
    let wrong = || Fault::at(value.span(), "audit-file must be an absolute path to a file".into());
    let fits = path.is_absolute() && path.file_name().is_some();
    fits.then(|| path.to_owned()).ok_or_else(wrong)
}

/// What is not of this host alone is refused: metrics are told to whoever asks.
fn endpoint(value: &Value<'_>) -> Result<Endpoint, Fault> {
    let text = string(value)?;
    let wrong = || {
        let what = format!(
            "metrics are for this host alone, and {text:?} is neither \"unix:/PATH\" nor a loopback \
             address and port such as \"127.0.0.1:9743\""
        );
        Fault::at(value.span(), what)
    };
    if let Some(path) = text.strip_prefix("unix:") {
        let path = Path::new(path);
        let fits = path.is_absolute() && path.file_name().is_some();
        return fits.then(|| Endpoint::Unix(path.to_owned())).ok_or_else(wrong);
    }
    let address: Option<SocketAddr> = text.parse().ok();
    let local = address.filter(|address| address.ip().is_loopback() && address.port() != 0);
    local.map(Endpoint::Loopback).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parsed(lines: &str) -> Result<Operations, (Option<usize>, String)> {
        Ok(Config::parse(&format!("{lines}\n[service.ssh]\nport = 22\n"))?.operations)
    }

    #[test]
    fn nothing_is_offered_unless_asked_for() {
        assert_eq!(parsed(""), Ok(Operations::default()));
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let all = "control-group = \"operators\"\ncontrol-group-may = \"change\"\n\
                   audit-file = \"/var/log/spad/audit.jsonl\"\nmetrics = \"unix:/run/spad/metrics.sock\"";
        let expected = Operations {
            group: Some("operators".into()),
            may_change: true,
            audit_file: Some("/var/log/spad/audit.jsonl".into()),
            metrics: Some(Endpoint::Unix("/run/spad/metrics.sock".into())),
        };
        assert_eq!(parsed(all), Ok(expected));
        for local in ["127.0.0.1:9743", "[::1]:9743", "127.1.2.3:80"] {
            let expected = Endpoint::Loopback(local.parse().unwrap());
            let read = parsed(&format!("metrics = \"{local}\"")).unwrap();
            assert_eq!(read.metrics, Some(expected));
        }
    }

    #[test]
    fn what_would_be_for_others_is_refused_with_its_line() {
        for (line, part) in [
            ("metrics = \"0.0.0.0:9743\"", "this host alone"),
            ("metrics = \"192.0.2.1:9743\"", "this host alone"),
            ("metrics = \"[::]:9743\"", "this host alone"),
            ("metrics = \"[::ffff:127.0.0.1]:9743\"", "this host alone"),
            ("metrics = \"127.0.0.1:0\"", "this host alone"),
            ("metrics = \"127.0.0.1\"", "this host alone"),
            ("metrics = \"localhost:9743\"", "this host alone"),
            ("metrics = \"unix:metrics.sock\"", "this host alone"),
            ("metrics = \"unix:/\"", "this host alone"),
            ("metrics = 9743", "quotes"),
            ("audit-file = \"audit.jsonl\"", "absolute"),
            ("control-group = \"\"", "no name of a group"),
            ("control-group-may = \"read\"", "name one"),
            ("control-group = \"a\" \ncontrol-group-may = \"all\"", "\"read\" or \"change\""),
        ] {
            let (at, what) = parsed(line).unwrap_err();
            assert!(at.is_some() && what.contains(part), "{line}: {at:?} {what}");
        }
    }
}
