//! The lease behind the memory: it reaches further than what was used, or nothing is used.

use spa_proto::{Monotonic, Reason, Timestamp};
use tracing::{info, warn};

use super::Memory;
use crate::clock::Reading;
use crate::warden::renewal::{Horizon, Written};

impl Memory {
    /// Sees to it that the lease on disk reaches to `time`. Beyond it, the
    /// knock waits for the disk: for the renewal that is on its way, and where
    /// that is not enough for another; but all others wait with it, so not for a
    /// disk that hangs.
    pub(super) fn cover(&mut self, time: Timestamp, now: Reading) -> Result<(), Reason> {
        self.wait_for_lease(time);
        if !self.covers(time) {
            self.begin_lease(self.lease.stretched(time, self.tolerance), now.clock);
            self.wait_for_lease(time);
        }
        if self.covers(time) { Ok(()) } else { Err(Reason::NotDurable) }
    }

    fn wait_for_lease(&mut self, time: Timestamp) {
        if !self.covers(time)
            && let Some(written) = self.renewals.wait()
        {
            self.lease_written(written);
        }
    }

    fn covers(&self, time: Timestamp) -> bool {
        self.fault.is_none() && self.lease.covers(time)
    }

    fn begin_lease(&mut self, time: Timestamp, begun: Monotonic) {
        if let Some(written) = self.renewals.begin(Horizon { time, begun }) {
            self.lease_written(written);
        }
    }

    /// Begins to renew the lease, off the path of knocks: [`Self::renewed`] says
    /// what becomes of it.
    pub(in crate::warden) fn renew(&mut self, now: Reading) {
        self.begin_lease(self.lease.next(now.wall, now.clock, self.tolerance), now.clock);
    }

    /// Sleeps until a renewal that was begun has ended: then
    /// [`Self::lease_written`] must be called.
    pub(in crate::warden) async fn renewed(&mut self) -> Written {
        self.renewals.written().await
    }

    /// Takes note of what became of a write. What its horizon is entitled to was reckoned when
    /// it was begun: the time that the disk took counts for the next.
    pub(in crate::warden) fn lease_written(&mut self, written: Written) {
        match written {
            Ok(Horizon { time, begun }) => {
                self.lease.renewed(time, begun);
                if self.fault.take().is_some() {
                    info!("the lease can be written again: knocks are granted");
                }
            }
            Err(error) => {
                if self.fault.replace(error.to_string()).is_none() {
                    warn!(%error, "no knock is granted until the lease can be written: make room, or make it writable");
                }
            }
        }
    }
}
