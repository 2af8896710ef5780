//! Who is told of grants that are made and that end.

use std::net::IpAddr;

use tracing::{error, warn};

use super::Warden;
use crate::check;
use crate::clock::Reading;
use crate::grants::Grant;
use crate::hooks::{Checked, Event};

impl Warden {
    /// What is wrong with hooks keeps nobody out: it is said, and none is run.
    pub(super) fn begin_hooks(&mut self) {
        match check::hooks(&self.config, &self.config_path) {
            Ok(hooks) => self.set_hooks(hooks),
            Err(error) => {
                error!(%error, "no hooks are run until this is mended, and spad reload run")
            }
        }
    }

    pub(super) fn set_hooks(&mut self, hooks: Option<Checked>) {
        if let Err(error) = self.hooks.set(hooks) {
            warn!(%error, "no hooks are run");
        }
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
