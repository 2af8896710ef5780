//! From stanzas to clients.

use std::collections::BTreeSet;
use std::time::Duration;

use spa_keys::{AddressRule, ClientName, NewClient, Policy, cidr, date};
use spa_proto::{Prefix, ServiceName, Timestamp};

use super::stanza::{Setting, Stanza};
use super::{Note, Services, ports::Port};

/// What is taken over, by variable.
pub(super) const TAKEN: [&str; 9] = [
    "OPEN_PORTS",
    "RESTRICT_PORTS",
    "FW_ACCESS_TIMEOUT",
    "MAX_FW_TIMEOUT",
    "ACCESS_EXPIRE",
    "ACCESS_EXPIRE_EPOCH",
    "REQUIRE_SOURCE_ADDRESS",
    "REQUIRE_SOURCE",
    "REQUIRE_USERNAME",
];

/// With these a port is not the one of the machine itself.
const ELSEWHERE: [&str; 2] = ["FORCE_NAT", "DISABLE_DNAT"];

/// What has no counterpart, by how the variable begins, and why.
const NOT_TAKEN: [(&str, &str); 16] = [
    ("KEY", "not taken over: a client makes its own key with its token, and shares it with nobody"),
    ("HMAC_KEY", "not taken over: a client makes its own key with its token"),
    ("GPG_", "not taken over: knocks are signed with a key that the client makes with its token"),
    ("ENCRYPTION_MODE", "no counterpart: there is one kind of packet"),
    ("HMAC_DIGEST_TYPE", "no counterpart: there is one kind of packet"),
    (
        "DESTINATION",
        "not taken over: a grant is for the address that was knocked at; see grant-destination and interfaces in spad.toml",
    ),
    (
        "CMD_CYCLE_",
        "not taken over: spad opens the firewall itself; commands at a grant and its end are configured in spad.toml, not for a client",
    ),
    ("ENABLE_CMD_", "not taken over: a knock never carries a command"),
    ("CMD_", "not taken over: a knock never carries a command"),
    ("SUDO_EXE", "not taken over: a knock never carries a command"),
    (
        "FORCE_NAT",
        "not taken over: where connections are sent on to is said of a service: target = \"ADDRESS:PORT\" in spad.toml",
    ),
    ("FORCE_SNAT", "not taken over: source-nat = true of a service in spad.toml"),
    ("FORCE_MASQUERADE", "not taken over: source-nat = true of a service in spad.toml"),
    ("FORWARD_ALL", "not taken over: a grant is for services, not for all that is forwarded"),
    ("DISABLE_DNAT", "not taken over: a grant is for services, not for all that is forwarded"),
    ("ENABLE_", "no counterpart"),
];

/// The clients, each with the line of its stanza; and what is to be said of lines.
pub(crate) fn take_over(
    stanzas: &[Stanza],
    services: &mut Services,
    otherwise: &[ServiceName],
    now: Timestamp,
) -> (Vec<(usize, NewClient)>, Vec<Note>) {
    let (mut clients, mut notes) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (at, stanza) in stanzas.iter().enumerate() {
        let mut taking = Taking { stanza, notes: &mut notes, now };
        taking.note_the_rest();
        let Setting { line, variable, .. } = &stanza.source;
        match taking.client(services, otherwise) {
            Ok((policy, expires)) => {
                let name = taking.name(at + 1, &mut names);
                clients.extend(
                    name.map(|name| (*line, NewClient { name, expires, policy, key: None })),
                );
            }
            Err(why) => notes.push(Note::new(*line, variable, format!("stanza left out: {why}"))),
        }
    }
    notes.sort_by_key(|note| note.line);
    (clients, notes)
}

struct Taking<'a> {
    stanza: &'a Stanza,
    notes: &'a mut Vec<Note>,
    now: Timestamp,
}

impl Taking<'_> {
    fn note(&mut self, setting: &Setting, what: impl Into<String>) {
        self.notes.push(Note::new(setting.line, &setting.variable, what));
    }

    fn note_the_rest(&mut self) {
        let stanza = self.stanza;
        for setting in &stanza.settings {
            let variable = setting.variable.as_str();
            let why = NOT_TAKEN.iter().find(|(start, _)| variable.starts_with(start));
            match why {
                _ if TAKEN.contains(&variable) => {}
                Some((_, why)) => self.note(setting, *why),
                None => self.note(setting, "unknown: left out"),
            }
        }
    }

    /// What this stanza allows; what could let in more than it did is an error.
    fn client(
        &mut self,
        services: &mut Services,
        otherwise: &[ServiceName],
    ) -> Result<(Policy, Option<Timestamp>), String> {
        self.refuse_whole()?;
        let sources = self.sources()?;
        let services = self.services(services, otherwise)?;
        let (max_ttl, ttl) = (self.seconds("MAX_FW_TIMEOUT"), self.seconds("FW_ACCESS_TIMEOUT"));
        let ttl = ttl.map(|ttl| max_ttl.map_or(ttl, |most| ttl.min(most)));
        let expires = self.expires()?;
        let address = self.address();
        Ok((Policy { services, ttl, max_ttl, sources, address, ..Policy::default() }, expires))
    }

    /// What makes of a grant another one, or cannot be read.
    fn refuse_whole(&self) -> Result<(), String> {
        let settings = || std::iter::once(&self.stanza.source).chain(&self.stanza.settings);
        if let Some(Setting { line, .. }) = settings().find(|setting| setting.broken) {
            return Err(format!("line {line} is no variable, white space and a value"));
        }
        let elsewhere = |setting: &&Setting| {
            ELSEWHERE.contains(&setting.variable.as_str())
                && !setting.value.eq_ignore_ascii_case("N")
        };
        match settings().find(elsewhere) {
            None => Ok(()),
            Some(Setting { variable, .. }) => Err(format!(
                "with {variable} its ports are not those of this machine, which a service of \
                 that port would open"
            )),
        }
    }

    fn sources(&mut self) -> Result<Vec<Prefix>, String> {
        let source = &self.stanza.source;
        let parts: Vec<_> = source.value.split(',').map(str::trim).collect();
        if parts.iter().any(|part| part.eq_ignore_ascii_case("ANY")) {
            return Ok(Vec::new());
        }
        let sources: Result<Vec<_>, _> = parts.into_iter().map(network).collect();
        let what = "taken over as the addresses that are let in; in fwknop they are those that packets come from";
        self.note(source, what);
        sources
    }

    fn services(
        &mut self,
        services: &mut Services,
        otherwise: &[ServiceName],
    ) -> Result<Vec<ServiceName>, String> {
        let stanza = self.stanza;
        let restricted = ports(stanza.get("RESTRICT_PORTS"))?;
        let Some(open) = stanza.get("OPEN_PORTS") else {
            return match otherwise {
                [] => Err("without OPEN_PORTS a client opens any port that it asks for: say with \
                           --service what it may have"
                    .to_owned()),
                named if restricted.is_empty() => Ok(named.to_vec()),
                named => self.unrestricted(named, services, &restricted),
            };
        };
        let mut found = Vec::new();
        for port in ports(Some(open))? {
            match services.of(port).filter(|_| !restricted.contains(&port)) {
                Some(service) if !found.contains(&service) => found.push(service),
                Some(_) => {}
                None if restricted.contains(&port) => {
                    self.note(open, format!("{port} left out: RESTRICT_PORTS names it"));
                }
                None => self.note(open, format!("{port} left out: no name is left for it")),
            }
        }
        if found.is_empty() { Err("it opens nothing".to_owned()) } else { Ok(found) }
    }

    /// Of services that were named in place of ports, those that are known to be none
    /// that `RESTRICT_PORTS` names.
    fn unrestricted(
        &mut self,
        named: &[ServiceName],
        services: &Services,
        restricted: &[Port],
    ) -> Result<Vec<ServiceName>, String> {
        let free = |name: &ServiceName| {
            services.port_of(name).is_some_and(|port| !restricted.contains(&port))
        };
        let (found, out): (Vec<_>, Vec<_>) = named.iter().copied().partition(free);
        for name in &out {
            if let Some(setting) = self.stanza.get("RESTRICT_PORTS") {
                self.note(setting, format!("{name} left out: it may be a port that is named here"));
            }
        }
        if found.is_empty() {
            Err("RESTRICT_PORTS leaves nothing of it".to_owned())
        } else {
            Ok(found)
        }
    }

    /// A time, where it is one that can be taken over.
    fn seconds(&mut self, variable: &str) -> Option<Duration> {
        let setting = self.stanza.get(variable)?;
        match setting.value.parse() {
            Ok(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
            _ => {
                self.note(setting, "no number of seconds: as the service says");
                None
            }
        }
    }

    fn expires(&mut self) -> Result<Option<Timestamp>, String> {
        let stanza = self.stanza;
        let day = stanza.get("ACCESS_EXPIRE").map(|setting| {
            american_day(&setting.value).ok_or("ACCESS_EXPIRE is no date MM/DD/YYYY")
        });
        let epoch = stanza.get("ACCESS_EXPIRE_EPOCH").map(|setting| {
            let seconds: Result<u64, _> = setting.value.parse();
            let seconds = seconds.map_err(|_| "ACCESS_EXPIRE_EPOCH is no number of seconds")?;
            Ok(Timestamp::ZERO.plus(Duration::from_secs(seconds)))
        });
        let ends: Result<Vec<_>, &str> = day.into_iter().chain(epoch).collect();
        match ends?.into_iter().min() {
            Some(end) if end <= self.now => Err("it has expired".to_owned()),
            end => Ok(end),
        }
    }

    fn address(&self) -> AddressRule {
        let set = ["REQUIRE_SOURCE_ADDRESS", "REQUIRE_SOURCE"].iter().any(|variable| {
            self.stanza.get(variable).is_some_and(|setting| setting.value.eq_ignore_ascii_case("Y"))
        });
        if set { AddressRule::This } else { AddressRule::Both }
    }

    /// Of the user that the stanza names, or else its number.
    fn name(&mut self, number: usize, names: &mut BTreeSet<ClientName>) -> Option<ClientName> {
        let stanza = self.stanza;
        let user = stanza.get("REQUIRE_USERNAME");
        let named: Option<ClientName> =
            user.and_then(|user| user.value.to_lowercase().parse().ok());
        let free = |name: &ClientName| name.device().is_none() && !names.contains(name);
        let name = named.filter(free).or_else(|| format!("fwknop-{number}").parse().ok())?;
        if let Some(user) = user {
            self.note(user, format!("the client is called {name}; its key is what it is known by"));
        }
        names.insert(name.clone());
        Some(name)
    }
}

/// The first moment of `12/31/2026` where the server is: from then on fwknop refuses.
fn american_day(text: &str) -> Option<Timestamp> {
    let parts: Vec<u16> = text.split('/').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [month, day, year] = *parts else { return None };
    date::parse_begin(&format!("{year:04}-{month:02}-{day:02}")).ok()
}

/// fwknop leaves out what is behind the prefix.
fn network(text: &str) -> Result<Prefix, String> {
    match cidr::parse(text) {
        Err(cidr::InvalidPrefix::HostBits(_, around)) => Ok(around),
        read => read.map_err(|error| error.to_string()),
    }
}

fn ports(setting: Option<&Setting>) -> Result<Vec<Port>, String> {
    let Some(Setting { variable, value, .. }) = setting else { return Ok(Vec::new()) };
    let port = |text: &str| {
        Port::parse(text).ok_or_else(|| format!("{variable}: {text:?} is no port such as tcp/22"))
    };
    value.split(',').filter(|text| !text.trim().is_empty()).map(port).collect()
}
