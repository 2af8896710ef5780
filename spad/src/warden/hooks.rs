//! Who is told of grants that are made and that end.

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
    }

    pub(super) fn tell_ends(&mut self, ended: &[Grant], why: &str) {
        if self.hooks.tells_ends() {
            let now = Reading::now();
            ended.iter().for_each(|grant| self.tell_end(grant, why, now));
        }
    }

    pub(super) fn tell_end(&mut self, grant: &Grant, why: &str, now: Reading) {
        let ports = self.config.ports(&grant.element.service);
        self.hooks.tell(Event::Ended(why), grant, &ports, now);
    }
}
