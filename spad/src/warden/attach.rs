//! The chains of others: our rule in them, in mode `attach`, and what they would
//! still drop.

use tracing::{error, info, warn};

use super::{Warden, upkeep};
use crate::check;
use crate::control::report;
use crate::firewall::{AttachError, FirewallError};
use tokio::time::Instant;

impl Warden {
    /// Puts our rule where the configuration names a chain, and takes it out of
    /// all others.
    pub(super) fn attach(&mut self) -> Result<(), AttachError> {
        let attachment = self.config.attachment();
        self.tables.follow(&attachment);
        self.firewall.attach(&attachment)?;
        let left = self.firewall.detach(attachment.chains())?;
        let chains = attachment.chains().len();
        if chains + left > 0 {
            info!(chains, left, "attached to the chains of others");
        }
        Ok(())
    }

    /// Puts our rule back where somebody has taken it out. A chain that is gone
    /// is said once: when it comes again, that is a change, and heard.
    pub(super) fn attach_again(&mut self) {
        match self.firewall.attach(&self.config.attachment()) {
            Ok(changed) => {
                self.unattached = None;
                if changed > 0 {
                    self.tables.repairs += 1;
                    warn!(
                        chains = changed,
                        "our rule was not in force in chains of others: put back"
                    );
                }
            }
            Err(error) => self.not_attached(&error),
        }
    }

    fn not_attached(&mut self, error: &AttachError) {
        let why = error.to_string();
        if self.unattached.as_ref() != Some(&why) {
            error!(%error, "chains of others would drop what is granted");
        }
        self.unattached = Some(why);
        if matches!(error, AttachError::Firewall(_)) {
            self.repair_at = Some(Instant::now() + upkeep::PAUSE);
        }
    }

    /// Before the end: the chains of others are left as they were.
    pub(super) fn detach(&self) {
        match self.firewall.detach(&[]) {
            Ok(0) => {}
            Ok(rules) => info!(rules, "taken out of the chains of others"),
            Err(error) => error!(%error, "our rule stays in the chains of others"),
        }
    }

    /// Why our rule is not in force everywhere.
    pub(super) fn attachment_fault(&self) -> Option<String> {
        match self.firewall.attached(&self.config.attachment()) {
            Ok(true) => None,
            Ok(false) => Some("our rule is missing in a chain of others".into()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// The chains of others, for `spad status`.
    pub(super) fn foreign(&self) -> report::Foreign {
        check::foreign(&self.firewall, &self.config)
            .unwrap_or_else(|error: FirewallError| report::Foreign::unreadable(&error))
    }
}
