//! A person's file that cannot be read may be one that a copy is still writing. Its devices
//! are refused at once, and lose what they have open only when it stays so.

use std::collections::BTreeMap;
use std::time::Duration;

use spa_proto::Kid;
use tokio::time::Instant;

use super::Clients;
use super::look::{Difference, Look};

/// How long a file may be half written.
const PATIENCE: Duration = Duration::from_secs(1);

/// A person whose devices were open before.
#[derive(Default)]
pub(super) struct Doubt {
    /// Their key-ids.
    pub(super) kids: Vec<Kid>,
    /// When it is over; `None` until [`Clients::doubts_end`].
    ends: Option<Instant>,
}

impl Clients {
    /// When [`Self::end_doubts`] must be called. What is in doubt since the last call is so
    /// from `now` on.
    pub(in crate::warden) fn doubts_end(&mut self, now: Instant) -> Option<Instant> {
        let doubts = self.doubts.values_mut();
        doubts.map(|doubt| *doubt.ends.get_or_insert(now + PATIENCE)).min()
    }

    /// Who was in doubt up to `now`, and is shut out.
    pub(in crate::warden) fn end_doubts(&mut self, now: Instant) -> Vec<Difference> {
        let all = std::mem::take(&mut self.doubts).into_iter();
        let is_over = |doubt: &Doubt| doubt.ends.is_some_and(|ends| ends <= now);
        let (over, left): (Vec<_>, Vec<_>) = all.partition(|(_, doubt)| is_over(doubt));
        self.doubts = left.into_iter().collect();
        let mut look = Look::beside(self, BTreeMap::new());
        over.into_iter().flat_map(|(_, doubt)| doubt.kids).for_each(|kid| look.tell_if_shut(kid));
        look.differences
    }
}
