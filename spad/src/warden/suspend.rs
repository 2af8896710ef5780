//! A suspend: grants and bans end by clocks that go on in it, and the kernel's elements by one
//! that stands still. Each would stay for as long as the machine has slept.

use tokio::time::Instant;
use tracing::{error, info};

use super::Warden;
use super::upkeep::{PAUSE, SLACK};
use crate::clock::Reading;
use crate::firewall::FirewallError;

impl Warden {
    /// Brings the kernel in line after a suspend. With every tick, of which there is one as soon as
    /// the machine wakes if one has been missed, and before anything is taken back: what has ended
    /// by the ledger may still be open.
    pub(super) fn make_up_for_suspend(&mut self, now: Reading) {
        if !self.has_slept(now) {
            return;
        }
        if let Err(error) = self.align(now) {
            error!(%error, "what ended in the suspend may be open still: tried again");
            self.repair_at = Some(Instant::now() + PAUSE);
        }
    }

    /// Whether the machine was suspended since the kernel's elements were last in line.
    pub(super) fn has_slept(&self, now: Reading) -> bool {
        now.slept(&self.aligned) > SLACK
    }

    /// Makes the kernel's elements say the same as the ledger and the list of bans.
    pub(super) fn align(&mut self, now: Reading) -> Result<(), FirewallError> {
        let slept = self.has_slept(now);
        if slept {
            let seconds = now.slept(&self.aligned).as_secs();
            info!(seconds, "the machine was suspended: grants and bans end as if it had not been");
        }
        self.align_elements(now)?;
        match slept {
            true => self.tell_bans(now)?,
            false => self.align_bans()?,
        }
        self.aligned = now;
        Ok(())
    }
}
