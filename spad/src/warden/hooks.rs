//! Who is told of grants that are made and that end.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::{error, warn};

use super::Warden;
use crate::check;
use crate::clock::Reading;
use crate::config::Config;
use crate::grants::Grant;
use crate::hooks::{Checked, Event};

/// How long looking at hooks may take: knocks wait for it.
const LOOK: Duration = Duration::from_secs(2);

/// As [`check::hooks`], which asks the name service and file systems: neither is to hold
/// up anybody for long.
pub(super) fn look_at(config: &Config, path: &Path) -> Result<Option<Checked>, String> {
    let (config, path) = (config.clone(), path.to_owned());
    in_time(LOOK, move || check::hooks(&config, &path)).unwrap_or_else(|| {
        Err("[hooks]: their user and programs could not be looked at in time; try again".into())
    })
}

/// What `look` finds, unless it takes longer. Then it goes on, and nobody listens.
fn in_time<T: Send + 'static>(
    limit: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (teller, found) = mpsc::channel();
    thread::Builder::new().name("look".into()).spawn(move || teller.send(look())).ok()?;
    found.recv_timeout(limit).ok()
}

impl Warden {
    /// What is wrong with hooks keeps nobody out: it is said, and none is run.
    pub(super) fn begin_hooks(&mut self) {
        match look_at(&self.config, &self.config_path) {
            Ok(hooks) => self.set_hooks(hooks),
            Err(error) => {
                error!(%error, "no hooks are run until this is mended, and spad reload run");
                self.hooks_fault = Some(error);
            }
        }
    }

    pub(super) fn set_hooks(&mut self, hooks: Option<Checked>) {
        let set = self.hooks.set(hooks).inspect_err(|error| warn!(%error, "no hooks are run"));
        self.hooks_fault = set.err().map(|error| error.to_string());
        // Or it would be told with a wrong reason, should somebody want to know later.
        if !self.hooks.tells_ends() && self.ledger.forget_told() {
            self.memory.write_anew(&self.ledger);
        }
    }

    /// Tells of a grant that comes into force; whether its end is told as was foreseen.
    pub(super) fn tell_begun(
        &self,
        grant: &mut Grant,
        ports: &[String],
        seen: IpAddr,
        now: Reading,
    ) -> bool {
        let known = self.ledger.get(grant.id);
        let event = Event::Granted { seen, extended: known.is_some() };
        let foreseen = grant.told;
        let was_told = known.is_some_and(|known| known.told);
        grant.told &= self.hooks.tell(event, grant, ports, now) || was_told;
        grant.told == foreseen
    }

    pub(super) fn tell_ends(&mut self, ended: &[Grant], why: &'static str) {
        if self.hooks.tells_ends() {
            let now = Reading::now();
            ended.iter().for_each(|grant| self.tell_end(grant, why, now));
        }
    }

    pub(super) fn tell_end(&mut self, grant: &Grant, why: &'static str, now: Reading) {
        let ports = self.config.ports(&grant.element.service);
        self.hooks.tell(Event::Ended(why), grant, &ports, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_not_waited_for() {
        assert_eq!(in_time(Duration::from_secs(60), || 7), Some(7));
        let (_held, never) = mpsc::channel::<()>();
        assert_eq!(in_time(Duration::from_millis(1), move || never.recv()), None);
    }
}
