//! What was found out about a datagram, in words: why, and what to do. Pure.

use std::fmt::Display;
use std::time::Duration;

use spa_keys::{ClientRecord, date};
use spa_proto::{Address, Arrival, GrantMode, Kid, Reason, Request, Sender, Timestamp};

use super::judge::{Finding, Judge, Verdict, Who};
use crate::config::Config;
use crate::firewall::plan::Access;

/// Why, and what to do about it; each is part of a sentence.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) why: String,
    pub(super) advice: String,
}

/// What there is to know about one datagram.
pub(super) struct Known<'a> {
    pub(super) judge: &'a Judge,
    pub(super) finding: &'a Finding,
    pub(super) at: Timestamp,
    pub(super) arrival: Option<Arrival>,
    /// How the datagram that this one is a copy of is called.
    pub(super) copy_of: Option<&'a str>,
}

fn words(why: impl Into<String>, advice: impl Into<String>) -> Words {
    Words { why: why.into(), advice: advice.into() }
}

impl Known<'_> {
    /// All of it, in words.
    pub(super) fn words(&self) -> Words {
        let mut words = match &self.finding.verdict {
            Verdict::Granted(_) => self.granted(),
            Verdict::Depends => words(
                "it is for the address that it comes from, which this file does not tell",
                "say --source ADDRESS",
            ),
            Verdict::Refused(reason) => self.refused(*reason),
        };
        if let Some(apart) = self.apart() {
            words.why += &apart;
        }
        words
    }

    fn granted(&self) -> Words {
        words(
            "nothing in keys and configuration refuses it",
            "if it opened nothing all the same: it was used before, since each knock opens once, \
             which is in the daemon's log; or it did not arrive; or a ruleset of others drops \
             what it opened (spad status)",
        )
    }

    /// What would become of it if only it came in time, and once.
    fn apart(&self) -> Option<String> {
        let other = self.finding.in_time.as_ref().filter(|other| **other != self.finding.verdict);
        match other? {
            Verdict::Granted(_) => Some("; apart from that it would be granted".to_owned()),
            Verdict::Refused(reason) => {
                let why = self.refused(*reason).why;
                Some(format!(
                    "; apart from that it would be refused too, as {}: {why}",
                    reason.name()
                ))
            }
            Verdict::Depends => None,
        }
    }

    fn refused(&self, reason: Reason) -> Words {
        match reason {
            Reason::UnknownClient => self.unknown(),
            Reason::Stale => self.stale(),
            Reason::Addressing => words(
                "it comes from an address that nobody can answer to",
                "look at who sends it: no client does",
            ),
            Reason::BadTag => words(
                "the name in it is a client's, and its HMAC does not verify: it was altered on \
                 the way, or somebody tries names that they have seen",
                "if all its knocks end like this, something on the way alters UDP: knock over \
                 another network",
            ),
            Reason::Duplicate => words(
                format!("it is the same as {}", self.copy_of.unwrap_or("one before")),
                "nothing, if the first opened: networks deliver twice, and a capture on several \
                 interfaces shows each packet more than once",
            ),
            Reason::OverBudget | Reason::OverCap => words(
                "more knocks came at once than are looked at: 20 of one client, or 5 a second",
                "wait; find out what knocks so often",
            ),
            Reason::EpochMismatch
            | Reason::BadEphemeral
            | Reason::BadSeal
            | Reason::NotCanonical => words(
                "it was made with this client's shared keys, and not as its program makes it",
                "if the program is ours, of the same version: somebody has the keys, revoke them \
                     and add the client anew (spa-keys revoke, spa-keys add)",
            ),
            _ => match self.proven() {
                Some((record, _)) => self.by_record(reason, record),
                None => words(reason.name(), "see the log of the daemon"),
            },
        }
    }

    fn proven(&self) -> Option<(&ClientRecord, Sender)> {
        let Who::Proven(kid, sender) = self.finding.who else { return None };
        Some((self.record(&kid)?, sender))
    }

    fn record(&self, kid: &Kid) -> Option<&ClientRecord> {
        self.judge.record(kid)
    }

    fn unknown(&self) -> Words {
        match (self.finding.who, self.proven()) {
            (_, Some((_, sender))) if sender.named => {
                let Words { why, advice } = self.stale();
                words(format!("{why}, too far for the server to know who it is"), advice)
            }
            (_, Some((record, _))) => words(
                "it was made with another cloak than this server's: its token is older than the \
                 server's keys",
                format!("make a new token: spa-keys rotate --token {}", record.name),
            ),
            (Who::NotLookedFor, _) => words(
                "no client is known by the name in it; which one has made it all the same was \
                 not tried out, since too many such packets came before",
                "explain it alone",
            ),
            _ => {
                let revoked = match self.judge.server.revoked {
                    0 => String::new(),
                    1 => "by the client that was revoked, ".to_owned(),
                    count => format!("by one of the {count} clients that were revoked, "),
                };
                words(
                    format!(
                        "no client of this server has made it: it was made {revoked}for another \
                         server, or with keys that were replaced; or it is no knock"
                    ),
                    "compare spa hosts on the client's side with spa-keys list here; a new token if it \
                     should come in",
                )
            }
        }
    }

    fn stale(&self) -> Words {
        let Some((_, sender)) = self.proven() else { return words("its time is wrong", "") };
        let tolerance = self.judge.server.config.tolerance.as_duration();
        let off = match sender.time < self.at {
            true => format!("{} behind", span(self.at.since(sender.time))),
            false => format!("{} ahead of", span(sender.time.since(self.at))),
        };
        let old = if sender.time < self.at { ", or it was kept and sent later" } else { "" };
        words(
            format!(
                "the client's clock is {off} the server's, and {} are allowed{old}",
                span(tolerance)
            ),
            "set that machine's clock, and look at this one's (timedatectl); judge it at another \
             time with --at",
        )
    }

    fn by_record(&self, reason: Reason, record: &ClientRecord) -> Words {
        let name = &record.name;
        let another = format!("make another token: spa-keys renew {name}");
        let anew = format!(
            "revoke it and add it anew: spa-keys show {name}, for what it may do; spa-keys revoke \
             {name}; spa-keys add {name} --service …"
        );
        match reason {
            Reason::NotEnrolled => words(
                format!("{name} has not enrolled: the token is unused"),
                "run spa enroll there with the token, and knock again",
            ),
            Reason::BadSignature => words(
                format!("it is not signed with the key that {name} has enrolled"),
                format!(
                    "if nobody has enrolled another machine with the same token, somebody has its keys: {anew}"
                ),
            ),
            Reason::BadEnrolSecret => words("its enrolment secret is not the token's", another),
            Reason::EnrolExpired => words("the token was not used in time", another),
            Reason::EnrolTaken => words(
                format!("the token of {name} was used already, with another key"),
                format!("if that was not its owner: find out who; {anew}"),
            ),
            Reason::ClientExpired => {
                let end = record.ends().map(date::format).unwrap_or_default();
                words(
                    format!("the record of {name} has expired, {end}"),
                    format!(
                        "give it a later end, if it should come in: spa-keys set {name} --expires DATE"
                    ),
                )
            }
            Reason::ClientDisabled => words(
                format!("{name} is shut out for a while, or the person whose device it is"),
                format!("spa-keys enable {name}, or of the person"),
            ),
            Reason::TimeNotAllowed => words(
                format!("{name} may not come in at that time of day"),
                format!(
                    "knock within its hours: spa-keys show {name}; spa-keys set {name} --hours"
                ),
            ),
            _ => match &self.finding.request {
                Some(request) => self.by_policy(reason, record, request),
                None => words(reason.name(), "see the log of the daemon"),
            },
        }
    }

    fn by_policy(&self, reason: Reason, record: &ClientRecord, request: &Request) -> Words {
        let (name, config) = (&record.name, &self.judge.server.config);
        let source = self.source(request);
        match reason {
            Reason::AddressKind => {
                let explicit = record.policies().all(|policy| policy.address.allows(true));
                let (allowed, how) = match explicit {
                    true => ("addresses that it names", "spa knock --source ADDRESS"),
                    false => ("the address that it is seen from", "spa knock --source seen"),
                };
                words(
                    format!("the record of {name} allows only {allowed}"),
                    format!("knock with {how}, or allow both: spa-keys set {name} --address both"),
                )
            }
            Reason::OutsidePrefix => words(
                format!("it came from {source}, which is not where it says that it may come from"),
                "something on the way changes addresses, or somebody sends it on from elsewhere: \
                 knock again from where it is now",
            ),
            Reason::SourceNotAllowed
                if record.policies().all(|policy| policy.sources.is_empty()) =>
            {
                words(
                    format!("{source} is banned, and bans are absolute here"),
                    "spad bans; spad unban",
                )
            }
            Reason::SourceNotAllowed => words(
                format!(
                    "the record of {name} does not allow {source}: only {}, and what is banned not either where bans are absolute",
                    record
                        .policies()
                        .filter(|policy| !policy.sources.is_empty())
                        .map(|policy| list(&policy.sources))
                        .collect::<Vec<_>>()
                        .join(", and of these ")
                ),
                format!("knock from there, or allow more: spa-keys set {name} --from"),
            ),
            Reason::NotGrantable => words(
                format!(
                    "{source} is never granted: this host's own, loopback, link-local, or of another family than the address knocked at or the target"
                ),
                "knock for another address (spa knock --source), or over the other family (-4, -6)",
            ),
            Reason::UnknownService => words(
                format!(
                    "there is no such service to knock for here: {}",
                    list(unknown(config, request))
                ),
                format!(
                    "knock for one of {}, or write it into the configuration",
                    list(config.protected())
                ),
            ),
            Reason::ServiceNotAllowed => words(
                format!(
                    "the record of {name} does not allow {}: only {}",
                    list(forbidden(config, record, request)),
                    list(record.services())
                ),
                format!("knock for one of those, or allow more: spa-keys set {name} --service"),
            ),
            Reason::ModeNotAllowed => {
                let allowed =
                    |mode: &GrantMode| record.policies().all(|policy| policy.modes.contains(*mode));
                let modes = GrantMode::ALL.into_iter().filter(allowed).map(GrantMode::name);
                words(
                    format!("the record of {name} allows the modes {}", list(modes)),
                    format!("knock with --mode, or allow more: spa-keys set {name} --modes"),
                )
            }
            Reason::WidthNotAllowed => words(
                format!(
                    "the record of {name} allows prefixes from /{} and /{} on, and the server has widths of {} and {}",
                    record.policies().map(|policy| policy.widest.v4).max().unwrap_or(32),
                    record.policies().map(|policy| policy.widest.v6).max().unwrap_or(128),
                    list(&config.firewall.widths4),
                    list(&config.firewall.widths6)
                ),
                "knock with a --width that is allowed, or none",
            ),
            _ => words(reason.name(), "see the log of the daemon"),
        }
    }

    /// The address that it is for.
    fn source(&self, request: &Request) -> String {
        match (request.address, self.arrival) {
            (Address::Explicit(address), _) => address.to_string(),
            (_, Some(arrival)) => arrival.source.to_string(),
            (_, None) => "its address".to_owned(),
        }
    }
}

/// What is asked for and is no service that needs a knock.
fn unknown(config: &Config, request: &Request) -> Vec<String> {
    let knock = |service| {
        config.service(service).is_some_and(|(_, service)| service.access == Access::Knock)
    };
    request.services.iter().filter(|service| !knock(*service)).map(|it| it.to_string()).collect()
}

/// What is asked for and not in the record.
fn forbidden(config: &Config, record: &ClientRecord, request: &Request) -> Vec<String> {
    let allowed = |service| config.service(service).is_some_and(|(name, _)| record.may_open(&name));
    request.services.iter().filter(|service| !allowed(*service)).map(|it| it.to_string()).collect()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// A length of time as one number that people can compare.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        0..2 => format!("{:.1} s", time.as_secs_f32()),
        seconds @ 2..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
