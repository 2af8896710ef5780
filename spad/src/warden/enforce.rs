//! `spad enable`, `spad confirm` and `spad disable`: the ruleset is put in force, for
//! good or on trial, and taken out; and the end of a trial.

use std::collections::BTreeSet;
use std::time::Duration;

use spa_proto::Reason;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::stop::note_open;
use super::{Warden, start, upkeep};
use crate::clock::Reading;
use crate::config::Enforce;
use crate::control::{Answer, report};
use crate::enforcement::{Enforcement, TRIALS, Trial, always};
use crate::fields::millis;
use crate::firewall::Mode;
use crate::service;

impl Warden {
    /// Puts the ruleset in force; with `seconds` until they are over, unless that is
    /// confirmed. What is in force for good stays so.
    pub(super) fn enable(&mut self, seconds: Option<u64>, by: Option<u32>) -> Answer {
        self.try_to_enable(seconds, by).map_or_else(Answer::Failed, Answer::Enabled)
    }

    fn try_to_enable(
        &mut self,
        seconds: Option<u64>,
        by: Option<u32>,
    ) -> Result<report::Enabled, String> {
        only_root(by)?;
        self.shuts_at_all()?;
        if self.enforcement == Enforcement::InForce {
            return Ok(self.enabled(true));
        }
        self.is_fit_to_shut()?;
        match seconds {
            None => self.put_in_force()?,
            Some(seconds) => self.put_on_trial(seconds)?,
        }
        warn!(by, seconds, "in force: an administrator wants it so");
        Ok(self.enabled(false))
    }

    /// Keeps in force what is on trial.
    pub(super) fn confirm(&mut self, by: Option<u32>) -> Answer {
        self.try_to_confirm(by).map_or_else(Answer::Failed, Answer::Enabled)
    }

    fn try_to_confirm(&mut self, by: Option<u32>) -> Result<report::Enabled, String> {
        only_root(by)?;
        self.shuts_at_all()?;
        match &self.enforcement {
            Enforcement::InForce => return Ok(self.enabled(true)),
            Enforcement::NotInForce => {
                return Err(
                    "nothing to confirm: nothing is shut, or not any more; run: spad enable".into(),
                );
            }
            Enforcement::OnTrial(_) => self.put_in_force()?,
        }
        info!(by, "confirmed");
        Ok(self.enabled(false))
    }

    fn shuts_at_all(&self) -> Result<(), String> {
        match (self.config.firewall.mode, always(&self.config)) {
            (Mode::Attach, Some(why)) => Err(why.into()),
            _ => Ok(()),
        }
    }

    /// Whether anybody could come in afterwards.
    fn is_fit_to_shut(&self) -> Result<(), String> {
        if self.clients.len() == 0 {
            return Err(
                "there is no client who could knock: run spa-keys add NAME --service SERVICE, \
                and let them knock once"
                    .into(),
            );
        }
        if !self.listening {
            return Err("no knock is heard: see spad status".into());
        }
        Ok(())
    }

    /// Lets everything pass, and forgets that it was ever otherwise.
    pub(super) fn disable(&mut self, by: Option<u32>) -> Answer {
        self.try_to_disable(by).map_or_else(Answer::Failed, Answer::Disabled)
    }

    fn try_to_disable(&mut self, by: Option<u32>) -> Result<report::Disabled, String> {
        only_root(by)?;
        if let Some(why) = always(&self.config) {
            return Err(why.into());
        }
        let already = self.enforcement == Enforcement::NotInForce;
        if already {
            // There may be one all the same, where keeping it has failed half way.
            self.keep_nothing()
                .map_err(|error| format!("not in force, but a reboot may shut: {error}"))?;
        } else {
            self.take_out_of_force()?;
            warn!(by, "NOT IN FORCE any more: an administrator wants it so");
        }
        Ok(report::Disabled { already, is_running: true, ..report::Disabled::of(&self.config) })
    }

    fn take_out_of_force(&mut self) -> Result<(), String> {
        // First what outlives spad: open now and shut again by a reboot, it would surprise.
        let forgotten = self.keep_nothing();
        let switched = forgotten.and_then(|()| self.switch_to(Enforcement::NotInForce));
        switched.map_err(|error| self.kept_again(&error))?;
        self.forget_trial();
        note_open(&self.config.run_dir);
        Ok(())
    }

    /// What was to be forgotten is kept as before, as far as that can be said; and how far.
    fn kept_again(&mut self, why: &str) -> String {
        let kept = match self.enforcement {
            Enforcement::InForce => self.keep(),
            _ => Ok(()),
        };
        match kept {
            Ok(()) => format!("nothing has changed: {why}"),
            Err(_) => {
                format!("it is still in force, and whether a reboot opens is not certain: {why}")
            }
        }
    }

    fn put_in_force(&mut self) -> Result<(), String> {
        let before = self.enforcement.clone();
        self.switch_to(Enforcement::InForce)?;
        if let Err(error) = self.keep() {
            // In force without being kept, it would be forgotten by the next start.
            self.switch_to(before)?;
            note_open(&self.config.run_dir);
            // It may be there all the same.
            let sure = self.keep_nothing().map_or(
                "it is as before, and whether a reboot shuts is not certain",
                |()| "nothing has changed",
            );
            return Err(format!("{sure}: the ruleset cannot be kept: {error}"));
        }
        self.forget_trial();
        Ok(())
    }

    fn put_on_trial(&mut self, seconds: u64) -> Result<(), String> {
        if !TRIALS.contains(&seconds) {
            return Err(format!("a trial lasts from {}s to {}s", TRIALS.start(), TRIALS.end()));
        }
        let trial = Trial::new(Reading::now(), Duration::from_secs(seconds));
        // Written down first: a spad that is started meanwhile is to find it.
        trial.note(&self.config.run_dir).map_err(|error| error.to_string())?;
        self.switch_to(Enforcement::OnTrial(trial)).inspect_err(|_| self.forget_trial())
    }

    fn forget_trial(&self) {
        if let Err(error) = Trial::forget(&self.config.run_dir) {
            warn!(%error, "the note of a trial stays; it says nothing once its time is over");
        }
    }

    /// Puts another ruleset in the kernel, or leaves everything as it is.
    fn switch_to(&mut self, to: Enforcement) -> Result<(), String> {
        let ruleset = to.ruleset(&self.config);
        let trusted = self.config.trusted.clone();
        self.stage_bans(&trusted);
        start::install(&mut self.firewall, &self.config.run_dir, &ruleset)
            .map_err(|error| error.to_string())?;
        (self.enforcement, self.ruleset) = (to, ruleset);
        self.say_enforcement();
        Ok(())
    }

    /// When the trial is over, if there is one.
    pub(super) fn trial_ends(&self) -> Option<Instant> {
        match &self.enforcement {
            Enforcement::OnTrial(trial) => {
                Some(Instant::now() + trial.left(crate::clock::monotonic()))
            }
            _ => None,
        }
    }

    /// Everything is as it was before.
    pub(super) fn trial_is_over(&mut self) {
        warn!("nobody has confirmed it: nothing is shut any more");
        if let Err(error) = self.switch_to(Enforcement::NotInForce) {
            error!(error, "the kernel lets everything pass all the same; tried again");
            self.enforcement = Enforcement::NotInForce;
            self.ruleset = self.enforcement.ruleset(&self.config);
            self.repair_at = Some(Instant::now() + upkeep::PAUSE);
        }
        self.forget_trial();
    }

    /// For the log, and for `systemctl status`.
    pub(super) fn say_enforcement(&self) {
        match &self.enforcement {
            Enforcement::InForce => service::status("hears knocks; the ruleset is in force"),
            Enforcement::OnTrial(_) => service::status("on trial: run spad confirm"),
            Enforcement::NotInForce => {
                warn!("NOT IN FORCE: nothing is shut until an administrator runs spad enable");
                service::status("NOT IN FORCE: nothing is shut until you run spad enable");
            }
        }
    }

    fn enabled(&self, already: bool) -> report::Enabled {
        let sources: BTreeSet<_> =
            self.firewall.living_on().map(|source| source.ip().to_canonical()).collect();
        let granted = self.counters().find(|(reason, _)| *reason == Reason::Granted);
        report::Enabled {
            already,
            always: self.config.enforce == Enforce::Always,
            services: self.config.protected_ports(),
            opens_in_ms: self.opens_in_ms(),
            living_on: sources.iter().map(ToString::to_string).collect(),
            granted: granted.map_or(0, |(_, count)| count),
        }
    }

    pub(super) fn opens_in_ms(&self) -> Option<u64> {
        match &self.enforcement {
            Enforcement::OnTrial(trial) => Some(millis(trial.left(crate::clock::monotonic()))),
            _ => None,
        }
    }
}

/// Others may ask how it is; what is shut is root's to say.
fn only_root(by: Option<u32>) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    match by {
        Some(uid) if uid == 0 || uid == own => Ok(()),
        _ => Err("only root can put the firewall in force, or take it out".into()),
    }
}
