//! This machine's address as others see it, where its own is not global: asked
//! of a web server, and only if the user has named one (`address-url`).

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use crate::address::{Source, is_global};
use crate::field::AddressUrl;
use crate::report;
use crate::resolve::Family;
use crate::send::local_towards;
use crate::settings::Settings;

/// Seconds for all of it. Who waits for a door does not want to wait for this.
const PATIENCE: &str = "3";
/// Far more than an address, in bytes.
const MAX_ANSWER: &str = "256";

/// What others see, as far as it is needed and known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outside {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl Outside {
    /// Asks for each family in which the knock would not name an address of its own. Where there
    /// is no answer, it is said, and the server has to go by what it sees.
    pub(crate) fn learn(settings: &Settings, source: Source, to: &[SocketAddr]) -> Self {
        let Some(url) = settings.address_url.as_ref().filter(|_| source == Source::Auto) else {
            return Self::default();
        };
        let locals = to.iter().filter_map(|to| local_towards(*to).ok()).map(|local| local.ip());
        let hidden: Vec<_> = locals.filter(|local| !is_global(*local)).collect();
        let learn = |family: Family| {
            hidden.iter().find(|local| Family::of(**local) == family)?;
            ask(url, family).inspect_err(|why| complain(url, family, why)).ok()
        };
        Self { v4: learn(Family::V4), v6: learn(Family::V6) }
    }

    /// In the family of `local`.
    pub(crate) fn of(self, local: IpAddr) -> Option<IpAddr> {
        if local.is_ipv4() { self.v4 } else { self.v6 }
    }
}

fn complain(url: &AddressUrl, family: Family, why: &str) {
    report::note(&format!(
        "spa: {} does not tell this machine's {} address: {why}; asking for the one that the \
         server sees",
        url.as_str(),
        family.name()
    ));
}

/// Through curl, which knows whom this system trusts: a TLS of our own would be more code than all
/// the rest of this program. Not through a proxy, which would tell its own address.
fn ask(url: &AddressUrl, family: Family) -> Result<IpAddr, String> {
    let family_option = if family == Family::V4 { "--ipv4" } else { "--ipv6" };
    let mut curl = Command::new("curl");
    // The first one has it read no settings of its own.
    curl.args(["--disable", "--silent", "--show-error", "--fail", "--noproxy", "*", family_option]);
    curl.args(["--proto", "=https,http", "--max-time", PATIENCE, "--max-filesize", MAX_ANSWER]);
    let answer = curl.arg("--url").arg(url.as_str()).stdin(Stdio::null()).output();
    let answer = answer.map_err(|error| format!("curl cannot be run: {error}"))?;
    if !answer.status.success() {
        let why = String::from_utf8_lossy(&answer.stderr);
        return Err(why.trim().chars().filter(|c| !c.is_control()).collect());
    }
    read(&String::from_utf8_lossy(&answer.stdout), family)
}

/// A global address of the family asked for, and nothing else.
fn read(text: &str, family: Family) -> Result<IpAddr, String> {
    let address = text.trim().parse().ok().filter(|address| Family::of(*address) == family);
    let address = address.ok_or_else(|| format!("its answer is no {} address", family.name()))?;
    if is_global(address) { Ok(address) } else { Err(format!("{address} is not global")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_global_address_of_the_family_will_do() {
        let expected = "203.0.113.9".parse().unwrap();
        assert_eq!(read(" 203.0.113.9\r\n", Family::V4), Ok(expected));
        for text in ["", "203.0.113.9 x", "<html>", "2001:db8::1", "10.0.0.1", "127.0.0.1"] {
            assert!(read(text, Family::V4).is_err(), "{text:?}");
        }
        assert!(read("2001:db8::1", Family::V6).is_ok());
    }
}
