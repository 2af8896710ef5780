//! What an administrator asks of the running daemon.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use spa_keys::ClientName;
use spa_proto::{Monotonic, ServiceName, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Warden, hooks, operators, process, start, upkeep};
use crate::check;
use crate::clock::{self, Reading};
use crate::config::{Config, Interfaces};
use crate::control::server::Reply;
use crate::control::{Answer, Request, report};
use crate::enforcement::Enforcement;
use crate::fields::millis;
use crate::firewall::ruleset::{Chain, Rule, Statement};
use crate::firewall::{Counted, Terms};
use crate::grants::Grant;
use crate::service;
use crate::sessions::Session;

/// Why a grant or a connection has ended.
const BY_HAND: &str = "revoked by the administrator";
/// How many grants are shown with the status.
const SHOWN: usize = 10;
/// What is wrong where nobody has run `spad enable`.
const NOT_ENABLED: &str = "nothing is shut until you run: spad enable";
/// How long the gatekeeper may take to say its counters.
const PATIENCE: Duration = Duration::from_millis(500);

impl Warden {
    /// To who wants to know something.
    pub(super) fn answer(&mut self, request: Request, reply: oneshot::Sender<Reply>) {
        let answer = match request {
            Request::Status => return self.ask_gatekeeper(reply),
            // Whoever has hung up does not want it any more; here and below.
            Request::Grants => return drop(reply.send(self.grants())),
            Request::Sessions => return drop(reply.send(self.sessions())),
            Request::Rules => self.rules().map_or_else(Answer::Failed, Answer::Rules),
            Request::Bans => self.list_bans(),
            Request::Metrics => Answer::Metrics(Box::new(self.metrics())),
            other => self.change(other),
        };
        let _ = reply.send(answer.into());
    }

    /// To who wants something changed, and may.
    pub(super) fn change(&mut self, request: Request) -> Answer {
        match request {
            Request::Revoke { client } => self.revoke(&client),
            Request::RevokeGrant { grant } => self.revoke_grant(grant),
            Request::Rates { service, source, clear } => {
                self.rates(service.as_deref(), source, clear)
            }
            Request::Enable { seconds, by } => self.enable(seconds, by),
            Request::Confirm { by } => self.confirm(by),
            Request::Disable { by } => self.disable(by),
            Request::Stop { open } => self.stop(open),
            Request::Reload => match self.reload() {
                Ok(but) if but.is_empty() => Answer::Reloaded,
                Ok(but) => Answer::Failed(format!(
                    "the configuration is read again, and in force; but\n{}",
                    but.join("\n")
                )),
                Err(why) => Answer::Failed(why),
            },
            other => Answer::Failed(format!("{other} changes nothing")),
        }
    }

    /// The counters of junk are the gatekeeper's; the answer waits for them.
    fn ask_gatekeeper(&mut self, reply: oneshot::Sender<Reply>) {
        self.waiting.push(reply);
        if self.ask_counters() {
            self.answer_by.get_or_insert_with(|| Instant::now() + PATIENCE);
        } else {
            self.answer_waiting(false);
        }
    }

    /// `alive` says whether the gatekeeper has answered: one that does not,
    /// hears nothing either.
    pub(super) fn answer_waiting(&mut self, alive: bool) {
        self.answer_by = None;
        for reply in std::mem::take(&mut self.waiting) {
            let _ = reply.send(Answer::Status(Box::new(self.status(alive))).into());
        }
    }

    fn revoke(&mut self, client: &str) -> Answer {
        let Ok(name) = client.parse::<ClientName>() else {
            return Answer::Failed(format!("{client:?} is no name of a client"));
        };
        let kids: HashSet<_> = self.clients.kids_of(&name).into_iter().collect();
        if kids.is_empty() {
            return Answer::Failed(format!("there is no client {name}"));
        }
        let ended = self.end_grants(BY_HAND, |grant| kids.contains(&grant.kid));
        let cut = self.cut(BY_HAND, |session| kids.contains(&session.kid));
        Answer::Revoked { ended, cut }
    }

    /// Also one that has expired, if there is still a connection through it.
    fn revoke_grant(&mut self, id: u64) -> Answer {
        let ended = self.end_grants(BY_HAND, |grant| grant.id == id);
        let cut = self.cut(BY_HAND, |session| session.grant == id);
        match (ended, cut) {
            (0, 0) => {
                Answer::Failed(format!("there is no grant {id}, and no connection through it"))
            }
            _ => Answer::Revoked { ended, cut },
        }
    }

    fn rules(&self) -> Result<Vec<report::Chain>, String> {
        let counters = self.firewall.counters().map_err(|error| error.to_string())?;
        let none = Vec::new();
        let chain = |chain: &Chain| {
            let counted = counters.get(&chain.name).unwrap_or(&none).iter().copied();
            let counted = counted.chain(std::iter::repeat(None));
            let rules = chain.rules.iter().zip(counted).map(rule).collect();
            report::Chain {
                name: chain.name.clone(),
                hook: chain.hook.map(|hook| hook.to_string()),
                rules,
            }
        };
        Ok(self.ruleset.chains.iter().map(chain).collect())
    }

    fn sessions(&mut self) -> Reply {
        self.hear_flows();
        let open: Vec<_> = self.ledger.sessions.iter().cloned().collect();
        Reply::Rest(Box::new(move || {
            let mut sessions: Vec<_> = open.iter().map(session).collect();
            sessions.sort_by_key(|session| (session.since_unix_ms, session.grant));
            Answer::Sessions(sessions)
        }))
    }

    /// Reads the configuration again. What is broken, or needs a restart,
    /// leaves everything as it was.
    /// What is wrong all the same is told.
    pub(super) fn reload(&mut self) -> Result<Vec<String>, String> {
        service::reloading();
        let done = self.read_again();
        service::ready();
        done
    }

    fn read_again(&mut self) -> Result<Vec<String>, String> {
        let config = Config::load(&self.config_path).map_err(|error| error.to_string())?;
        fixed(&self.config, &config)?;
        check::targets(&config, &self.config_path)?;
        check::audit_dir(&config, &self.config_path)?;
        let not_attachable = |error| check::not_attachable(&self.config_path, &error);
        self.firewall.attachable(&config.attachment()).map_err(not_attachable)?;
        let hooks = hooks::look_at(&config, &self.config_path)?;
        let enforcement = self.enforcement.follow(&self.config, &config, clock::monotonic());
        let ruleset = enforcement.ruleset(&config);
        self.bans.read_again();
        self.stage_bans(&config.trusted);
        start::install(&mut self.firewall, &self.config.run_dir, &ruleset)
            .map_err(|error| error.to_string())?;
        (self.config, self.ruleset, self.enforcement) = (config, ruleset, enforcement);
        self.set_hooks(hooks);
        self.say_enforcement();
        // Whatever becomes of the other chains, the rest follows what is in force now.
        let attached = self.attach();
        self.keep_what_is_in_force();
        self.memory.set_tolerance(self.config.tolerance);
        self.audit.recorder.redirect(operators::audit(&self.config, self.group));
        self.watch_ports();
        self.present = self.host.present(&self.config.interfaces);
        self.watch_again();
        self.look_at_own_keys();
        self.provision();
        let config = self.config.clone();
        self.end_grants("service changed", |grant| !config.offers(&grant.element));
        self.repair();
        let attached = attached.map_err(|error| check::not_attachable(&self.config_path, &error));
        Ok(attached.err().into_iter().chain(self.faults_of_files()).collect())
    }

    /// The grants in force, as the ledger has them: what others do to the
    /// kernel's elements is put right within milliseconds, and asking the kernel
    /// for all of them would hold up knocks.
    fn grants(&mut self) -> Reply {
        let now = clock::monotonic();
        self.expire(now);
        let held: Vec<_> = self.ledger.iter().cloned().collect();
        let ports = self.ports();
        Reply::Rest(Box::new(move || {
            Answer::Grants(held.iter().map(|grant| describe(grant, &ports, now)).collect())
        }))
    }

    fn ports(&self) -> BTreeMap<ServiceName, Vec<String>> {
        let ports = |(name, _): (&ServiceName, _)| (*name, self.config.ports(name));
        self.config.services.iter().map(ports).collect()
    }

    fn next_to_end(&self, now: Monotonic) -> Vec<report::Grant> {
        let ports = self.ports();
        self.ledger.next_to_end().take(SHOWN).map(|grant| describe(grant, &ports, now)).collect()
    }

    /// Without a look at the kernel's ruleset: this is asked again and again.
    fn metrics(&mut self) -> report::Metrics {
        let now = Reading::now();
        self.expire(now.clock);
        let (journal, clock) = (self.memory.report(now), self.clock_report(now));
        report::Metrics {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: self.config.firewall.mode.name().into(),
            uptime_ms: millis(now.clock.since(self.started)),
            capture_in_force: self.capture(self.keeper.is_some()).in_force,
            ruleset_in_force: self.enforcement != Enforcement::NotInForce
                && self.repair_at.is_none()
                && self.unattached.is_none(),
            repairs: self.tables.repairs,
            restarts: self.restarts.count,
            counters: self.counted(),
            grants: self.ledger.len(),
            sessions: self.ledger.sessions.len(),
            clients: self.clients.len(),
            broken_records: self.clients.broken().len(),
            faults: self.faults().len(),
            bans: self.bans.len(),
            durable: journal.durable,
            lease_ms: journal.lease_ms,
            synchronised: clock.synchronised,
            max_error_ms: clock.max_error_ms,
            audit_lost: self.audit.recorder.lost(),
            processes: self.processes(),
        }
    }

    fn counted(&self) -> BTreeMap<String, u64> {
        self.counters().map(|(reason, count)| (reason.name().into(), count)).collect()
    }

    fn status(&mut self, alive: bool) -> report::Status {
        let now = Reading::now();
        self.expire(now.clock);
        report::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: self.config.firewall.mode.name().into(),
            capture: self.capture(alive),
            ruleset: self.ruleset_report(),
            foreign: self.foreign(),
            grants: self.ledger.len(),
            clients: self.clients.len(),
            broken_records: self.clients.broken(),
            counters: self.counted(),
            journal: self.memory.report(now),
            first_knocks: self.first_knocks.report(),
            clock: self.clock_report(now),
            processes: self.processes(),
            uptime_ms: millis(now.clock.since(self.started)),
            sessions: self.ledger.sessions.len(),
            bans: self.bans.len(),
            next_to_end: self.next_to_end(now.clock),
            last_knocks: self.audit.recorder.last().cloned().collect(),
            audit: self.audit.recorder.report(),
            old_keys_until_unix_ms: self.own.overlap().map(Timestamp::as_millis),
            faults: self.faults(),
        }
    }

    fn capture(&self, alive: bool) -> report::Capture {
        let interfaces = match &self.config.interfaces {
            Interfaces::Any => vec!["any".into()],
            Interfaces::Named(names) => names.clone(),
        };
        let somewhere = self.present.missing.len() < interfaces.len();
        report::Capture {
            in_force: alive && self.listening && somewhere,
            port: self.config.listen_port,
            interfaces,
            missing: self.present.missing.clone(),
        }
    }

    fn ruleset_report(&mut self) -> report::Ruleset {
        let fault = self.firewall.verify().err().map(|drift| drift.to_string());
        let fault = fault.or_else(|| self.attachment_fault());
        let fault = match self.enforcement {
            Enforcement::NotInForce => Some(NOT_ENABLED.to_owned()),
            _ => fault,
        };
        let upkeep::Tables { repairs, .. } = self.tables;
        report::Ruleset {
            in_force: fault.is_none(),
            owned: self.firewall.owned(),
            fault,
            repairs,
            opens_in_ms: self.opens_in_ms(),
        }
    }

    fn processes(&self) -> Vec<report::Process> {
        let own = rustix::process::getuid().as_raw();
        let warden = report::Process {
            role: "warden".into(),
            pid: std::process::id(),
            uid: own,
            ..report::Process::default()
        };
        let keeper = self.keeper.as_ref().map(|keeper| report::Process {
            role: "gatekeeper".into(),
            pid: keeper.pid(),
            uid: self.post.identity.map_or(own, |identity| identity.uid),
            restarts: self.restarts.count,
            ..report::Process::default()
        });
        std::iter::once(warden).chain(keeper).map(process::described).collect()
    }
}

fn describe(
    grant: &Grant,
    ports: &BTreeMap<ServiceName, Vec<String>>,
    now: Monotonic,
) -> report::Grant {
    let element = &grant.element;
    let source_port = match element.terms {
        Terms::Bound(port) => Some(port),
        Terms::Window | Terms::Once => None,
    };
    report::Grant {
        id: grant.id,
        client: grant.client.to_string(),
        service: element.service.to_string(),
        source: element.source_text(),
        destination: element.destination.map(|address| address.to_string()),
        ports: ports.get(&element.service).cloned().unwrap_or_default(),
        mode: element.terms.mode().name().into(),
        source_port,
        expires_in_ms: millis(grant.ends.since(now)),
        lasts_ms: millis(grant.ends.since(grant.since)),
    }
}

fn rule((rule, counted): (&Rule, Option<Counted>)) -> report::Rule {
    let Counted { packets, bytes } = counted.unwrap_or_default();
    let plain = rule.statements.iter().filter(|statement| **statement != Statement::Counter);
    let plain = Rule { statements: plain.cloned().collect(), comment: rule.comment.clone() };
    report::Rule { packets, bytes, text: plain.to_string() }
}

fn session(session: &Session) -> report::Session {
    report::Session {
        grant: session.grant,
        client: session.client.to_string(),
        service: session.service.to_string(),
        protocol: session.ends.protocol.to_string(),
        source: session.ends.source.to_string(),
        destination: session.ends.destination.to_string(),
        since_unix_ms: session.began.as_millis(),
    }
}

/// What cannot change while running.
fn fixed(old: &Config, new: &Config) -> Result<(), String> {
    let changed = [
        ("keys-dir", old.keys_dir != new.keys_dir),
        ("state-dir", old.state_dir != new.state_dir),
        ("run-dir", old.run_dir != new.run_dir),
        ("user", old.user != new.user),
        ("control-group", old.operations.group != new.operations.group),
        ("control-group-may", old.operations.may_change != new.operations.may_change),
        ("metrics", old.operations.metrics != new.operations.metrics),
        ("own-table", old.firewall.own != new.firewall.own),
        ("label-bit", old.firewall.labels.granted != new.firewall.labels.granted),
        ("cut-label-bit", old.firewall.labels.cut != new.firewall.labels.cut),
    ];
    match changed.iter().find(|(_, changed)| *changed) {
        Some((key, _)) => Err(format!("{key} cannot change while spad runs: restart it instead")),
        None => Ok(()),
    }
}
