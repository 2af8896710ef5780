//! What whoever runs `spad enable` should know about their own way in.

use std::net::IpAddr;

use spa_proto::{Protocol, Service};

use crate::config::Config;
use crate::control::report::Enabled;
use crate::firewall::plan::Access;
use crate::listeners;

/// What sshd tells the programs of a session: `SSH_CONNECTION`.
struct Session {
    from: IpAddr,
    port: u16,
}

/// What is worth knowing now; `ssh` is `SSH_CONNECTION`, where it is set.
#[must_use]
pub fn advice(config: &Config, enabled: &Enabled, ssh: Option<&str>) -> Vec<String> {
    let session = ssh.and_then(session);
    let port = session.as_ref().map(|session| session.port);
    let listeners = listeners::advice(config, &listeners::here(), port);
    ways_in(config, enabled, session).into_iter().chain(listeners).collect()
}

fn ways_in(config: &Config, enabled: &Enabled, session: Option<Session>) -> Vec<String> {
    if enabled.already {
        return Vec::new();
    }
    let own = match session.filter(|session| needs_knock(config, session)) {
        Some(session) => Some(own_session(enabled, &session)),
        None => others(enabled),
    };
    own.into_iter().chain(untried(enabled)).collect()
}

fn own_session(enabled: &Enabled, Session { from, port }: &Session) -> String {
    if enabled.living_on.contains(&from.to_string()) {
        return format!(
            "your session from {from} to port {port} lives on; the next one from there needs a knock: \
             come in through one before you end this"
        );
    }
    format!(
        "YOUR SESSION from {from} to port {port} is not among the connections that live on: the way back \
         is spad disable"
    )
}

fn others(enabled: &Enabled) -> Option<String> {
    let from = enabled.living_on.join(", ");
    (!from.is_empty())
        .then(|| format!("connections from {from} live on; the next ones from there need a knock"))
}

fn untried(enabled: &Enabled) -> Option<String> {
    (enabled.granted == 0).then(|| {
        "no knock has been granted since spad started: try one, with spa knock, before you rely on it".into()
    })
}

fn needs_knock(config: &Config, session: &Session) -> bool {
    let service = config.service(Service::Port(Protocol::Tcp, session.port));
    let shut = service.is_some_and(|(_, service)| service.access == Access::Knock);
    shut && !config.trusted.iter().any(|network| network.contains(session.from))
}

/// `client-address client-port server-address server-port`.
fn session(text: &str) -> Option<Session> {
    let mut words = text.split_ascii_whitespace();
    // Link-local addresses come with their interface.
    let from: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
    Some(Session { from: from.to_canonical(), port: words.nth(2)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_BOB: &str = "192.0.2.7 50000 198.51.100.1 22";

    fn said(ssh: Option<&str>, living_on: &[&str], granted: u64) -> String {
        let text = "trusted = [\"10.0.0.0/8\"]\n[service.ssh]\nport = 22\n\
                    [service.web]\nport = 443\npublic = true\n";
        let config = Config::parse(text).unwrap();
        let enabled = Enabled {
            already: false,
            always: false,
            services: Vec::new(),
            opens_in_ms: None,
            living_on: living_on.iter().map(ToString::to_string).collect(),
            granted,
        };
        ways_in(&config, &enabled, ssh.and_then(session)).join("\n")
    }

    #[test]
    fn says_what_becomes_of_the_callers_own_session() {
        assert!(said(Some(FROM_BOB), &["192.0.2.7"], 1).contains("192.0.2.7 to port 22 lives on"));
        let lost = said(Some(FROM_BOB), &["192.0.2.8"], 1);
        assert!(lost.starts_with("YOUR SESSION from 192.0.2.7"), "{lost}");
        assert!(
            lost.ends_with("the way back is spad disable"),
            "as spad enable itself says: {lost}"
        );
        let link_local = "fe80::7%eth0 50000 fe80::1%eth0 22";
        assert!(said(Some(link_local), &["fe80::7"], 1).contains("fe80::7 to port 22 lives on"));
    }

    #[test]
    fn a_session_that_needs_no_knock_is_left_alone() {
        for ssh in ["10.1.1.1 50000 198.51.100.1 22", "192.0.2.7 50000 198.51.100.1 443", "?"] {
            assert_eq!(said(Some(ssh), &[], 1), "", "{ssh}");
        }
        assert!(said(None, &["192.0.2.8"], 1).starts_with("connections from 192.0.2.8 live on"));
    }

    #[test]
    fn an_untried_knock_is_told() {
        assert!(said(None, &[], 0).contains("no knock has been granted"));
        assert_eq!(said(None, &[], 1), "");
    }
}
