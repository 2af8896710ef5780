//! Whether the ruleset is in force: always; or once an administrator has said so,
//! for good or for a trial that ends by itself.
//!
//! That it is in force for good is told by the ruleset that is kept in the state
//! directory: what `spad close` shuts at boot and what `spad run` shuts is one thing.
//! A trial is a file in the run directory, which no reboot survives.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spa_keys::files::{FileError, make_private_dir};
use spa_proto::{Monotonic, Timestamp};

use crate::clock::Reading;
use crate::config::{Config, Enforce};
use crate::fields::millis;
use crate::firewall::{Mode, Ruleset, rules};
use crate::kept::{self, Kept};

const TRIAL: &str = "trial";

/// How long a trial may last.
pub const TRIALS: std::ops::RangeInclusive<u64> = 1..=3600;

/// Whether what the configuration asks for is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It is, and `spad close` shuts it again at boot.
    InForce,
    /// It is until then, unless somebody confirms it.
    OnTrial(Trial),
    /// It is not.
    NotInForce,
}

/// Until when a ruleset is in force that nobody has confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// By the clock that also runs while the machine is suspended.
    pub ends: Monotonic,
    /// By the kernel's wall clock, for when nobody else sees to it.
    pub ends_wall: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct TrialFile {
    boot: String,
    ends_ms: u64,
    ends_unix_ms: u64,
}

impl Enforcement {
    /// What holds for this configuration.
    #[must_use]
    pub fn of(config: &Config, now: Monotonic) -> Self {
        if always(config).is_some() || was_in_force(config) {
            return Self::InForce;
        }
        let trial = Trial::noted(&config.run_dir).filter(|trial| trial.ends > now);
        trial.map_or(Self::NotInForce, Self::OnTrial)
    }

    /// What goes to the kernel.
    #[must_use]
    pub fn ruleset(&self, config: &Config) -> Ruleset {
        match self {
            Self::InForce => config.ruleset(),
            Self::OnTrial(trial) => rules::passing_from(&config.plan(), trial.ends_wall),
            Self::NotInForce => rules::passing(&config.plan()),
        }
    }

    /// Whether it is to be kept for the next boot, and to count when the configuration asks again
    /// whether it was in force. Mode attach shuts nothing, and puts nothing in force that an
    /// administrator is to.
    #[must_use]
    pub fn is_kept(&self, config: &Config) -> bool {
        let by_attach = config.firewall.mode == Mode::Attach && config.enforce != Enforce::Always;
        *self == Self::InForce && (!by_attach || was_in_force(config))
    }

    /// What holds for another configuration after this one, of which it held until now.
    #[must_use]
    pub fn follow(&self, former: &Config, config: &Config, now: Monotonic) -> Self {
        // What is in force stays so, whatever has become of the notes of it.
        if *self == Self::InForce && former.firewall.mode != Mode::Attach {
            return Self::InForce;
        }
        Self::of(config, now)
    }

    /// Whether something is shut now.
    #[must_use]
    pub fn shuts(&self) -> bool {
        *self != Self::NotInForce
    }
}

/// Only an administrator's word takes it out, not that what was kept of it is gone.
fn was_in_force(config: &Config) -> bool {
    kept::is_in_force(&config.run_dir) || !matches!(kept::latest(&config.state_dir), Kept::Nothing)
}

/// Why there is nothing to put in force and nothing to take out: `None` where an
/// administrator decides.
#[must_use]
pub fn always(config: &Config) -> Option<&'static str> {
    if config.firewall.mode == Mode::Attach {
        return Some(
            "in mode attach spad shuts nothing: what is shut, the host's own ruleset shuts",
        );
    }
    (config.enforce == Enforce::Always).then_some(
        "the configuration says that it is always in force: write enforce = \"when-enabled\" \
         there, and run: spad reload",
    )
}

impl Trial {
    /// One that begins now.
    #[must_use]
    pub fn new(now: Reading, lasts: Duration) -> Self {
        Self { ends: now.clock.plus(lasts), ends_wall: now.wall.plus(lasts) }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self, now: Monotonic) -> Duration {
        self.ends.since(now)
    }

    /// Takes note of it, for a spad that is started meanwhile.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn note(&self, run_dir: &Path) -> Result<(), FileError> {
        make_private_dir(run_dir)?;
        let path = path(run_dir);
        let note = TrialFile {
            boot: kept::boot_id().unwrap_or_default(),
            ends_ms: millis(self.ends.since(Monotonic::new(Duration::ZERO))),
            ends_unix_ms: self.ends_wall.as_millis(),
        };
        let text = serde_json::to_string(&note).unwrap_or_default();
        let mut options = fs::File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| FileError::io(&path, "write", error))
    }

    /// Whether one has ended while no spad ran: the kernel lets everything pass since then.
    #[must_use]
    pub fn has_lapsed(run_dir: &Path, now: Timestamp) -> bool {
        Self::noted(run_dir).is_some_and(|trial| trial.ends_wall <= now)
    }

    fn noted(run_dir: &Path) -> Option<Self> {
        let text = fs::read_to_string(path(run_dir)).ok()?;
        let note: TrialFile = serde_json::from_str(&text).ok()?;
        (kept::boot_id()? == note.boot).then(|| Self {
            ends: Monotonic::new(Duration::from_millis(note.ends_ms)),
            ends_wall: Timestamp::from_millis(note.ends_unix_ms),
        })
    }

    /// Forgets any.
    ///
    /// # Errors
    /// Where the note is there and cannot be removed.
    pub fn forget(run_dir: &Path) -> Result<(), FileError> {
        let path = path(run_dir);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(FileError::io(&path, "remove", error))
            }
            _ => Ok(()),
        }
    }
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(TRIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, more: &str) -> Config {
        let dir = dir.display();
        let text = format!(
            "state-dir = \"{dir}/state\"\nrun-dir = \"{dir}/run\"\n{more}\n[service.ssh]\nport = 22\n"
        );
        Config::parse(&text).unwrap()
    }

    #[test]
    fn only_who_asks_for_it_is_not_shut_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let now = Reading::now();
        let of = |more: &str| Enforcement::of(&config(dir.path(), more), now.clock);
        assert_eq!(of(""), Enforcement::InForce);
        assert_eq!(of("enforce = \"always\""), Enforcement::InForce);
        assert_eq!(of("enforce = \"when-enabled\""), Enforcement::NotInForce);
    }

    #[test]
    fn what_was_in_force_once_stays_so_even_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "enforce = \"when-enabled\"");
        let now = Reading::now();
        kept::keep(&config.own_directories(), &config.ruleset(), config.options()).unwrap();
        assert_eq!(Enforcement::of(&config, now.clock), Enforcement::InForce);
        fs::write(kept::path(&config.state_dir), "damaged").unwrap();
        assert_eq!(Enforcement::of(&config, now.clock), Enforcement::InForce);
        fs::remove_file(kept::path(&config.state_dir)).unwrap();
        assert_eq!(Enforcement::of(&config, now.clock), Enforcement::InForce, "in this boot");
        // A trial does not weaken it.
        Trial::new(now, Duration::from_secs(60)).note(&config.run_dir).unwrap();
        assert_eq!(Enforcement::of(&config, now.clock), Enforcement::InForce);
        Trial::forget(&config.run_dir).unwrap();
        kept::note_open(&config.run_dir).unwrap();
        assert_eq!(Enforcement::of(&config, now.clock), Enforcement::NotInForce);
    }

    #[test]
    fn mode_attach_puts_nothing_in_force_and_takes_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        let now = Reading::now().clock;
        let guard = config(dir.path(), "enforce = \"when-enabled\"");
        let attach = "enforce = \"when-enabled\"\n[firewall]\nmode = \"attach\"\n";
        let attach = config(dir.path(), &format!("{attach}attach = [\"inet filter input\"]"));
        let in_attach = Enforcement::of(&attach, now);
        assert_eq!(in_attach, Enforcement::InForce);
        assert!(!in_attach.is_kept(&attach));
        assert_eq!(in_attach.follow(&attach, &guard, now), Enforcement::NotInForce);
        // Enabled before, it is so afterwards.
        kept::keep(&guard.own_directories(), &guard.ruleset(), guard.options()).unwrap();
        assert!(in_attach.is_kept(&attach) && Enforcement::InForce.is_kept(&guard));
        assert_eq!(in_attach.follow(&attach, &guard, now), Enforcement::InForce);
        kept::forget(&guard.state_dir).unwrap();
        kept::note_open(&guard.run_dir).unwrap();
        assert_eq!(Enforcement::InForce.follow(&guard, &guard, now), Enforcement::InForce);
        assert!(!Enforcement::NotInForce.is_kept(&guard));
    }

    #[test]
    fn a_trial_is_over_in_its_time_and_with_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "enforce = \"when-enabled\"");
        let now = Reading::now();
        let trial = Trial::new(now, Duration::from_secs(60));
        trial.note(&config.run_dir).unwrap();
        let Enforcement::OnTrial(found) = Enforcement::of(&config, now.clock) else {
            panic!("no trial")
        };
        assert!(trial.left(now.clock).abs_diff(found.left(now.clock)) < Duration::from_millis(2));
        assert_eq!(Enforcement::of(&config, trial.ends), Enforcement::NotInForce);
        assert!(Trial::has_lapsed(&config.run_dir, trial.ends_wall));
        assert!(!Trial::has_lapsed(&config.run_dir, now.wall));
        let text = fs::read_to_string(path(&config.run_dir)).unwrap();
        let boot = kept::boot_id().unwrap();
        fs::write(path(&config.run_dir), text.replace(&boot, "another")).unwrap();
        assert_eq!(Enforcement::of(&config, now.clock), Enforcement::NotInForce);
    }
}
