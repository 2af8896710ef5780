//! What a gate remembers of a client that it has heard of: what was attempted,
//! and how much is left of its budget (protocol §6, steps 5 and 6).

use std::time::Duration;

use crate::budget::Budget;
use crate::gate::GateSettings;
use crate::key::Nonce;
use crate::reason::Reason;
use crate::replay::RING_LEN;
use crate::time::{Monotonic, Timestamp, Tolerance};
use crate::transcript::Transcript;

/// The first bytes of a datagram's tag.
pub(crate) type Mark = [u8; 8];

/// Of one client.
pub(crate) struct Activity {
    budget: Budget,
    floor: Timestamp,
    attempted: Vec<Attempt>,
}

#[derive(Clone, Copy)]
struct Attempt {
    time: Timestamp,
    nonce: Nonce,
    /// `None` where only the rest is known.
    mark: Option<Mark>,
}

impl Activity {
    /// Of a client that has not been heard of.
    pub(crate) fn new(settings: GateSettings) -> Self {
        let budget = Budget::full(settings.client_rate, Monotonic::new(Duration::ZERO));
        Self { budget, floor: Timestamp::ZERO, attempted: Vec::new() }
    }

    /// Adds what was used before the gate was made.
    pub(crate) fn recall(
        &mut self,
        floor: Timestamp,
        used: impl IntoIterator<Item = (Timestamp, Nonce)>,
    ) {
        self.floor = self.floor.max(floor);
        let used = used.into_iter().map(|(time, nonce)| Attempt { time, nonce, mark: None });
        self.attempted.extend(used);
    }

    /// Adds what the same client did at another gate, and takes its budget.
    pub(crate) fn succeed(&mut self, mut former: Self, settings: GateSettings) {
        self.budget = former.budget.under(settings.client_rate);
        self.floor = self.floor.max(former.floor);
        let known = |attempt: &Attempt| former.attempted.iter().any(|it| it.nonce == attempt.nonce);
        self.attempted.retain(|attempt| !known(attempt));
        self.attempted.append(&mut former.attempted);
    }

    /// What becomes of a datagram that is a copy, byte for byte, of one that was
    /// attempted: the same as of any other with its time and nonce (steps 4 and
    /// 5), without looking behind its header once more. `None` if it is none.
    pub(crate) fn of_copy(
        &self,
        nonce: &Nonce,
        mark: Mark,
        tolerance: Tolerance,
        now: Timestamp,
    ) -> Option<Reason> {
        let mut newest_first = self.attempted.iter().rev();
        let original = newest_first.find(|it| it.mark == Some(mark) && it.nonce == *nonce)?;
        let fresh = tolerance.admits(original.time, now);
        Some(if fresh { Reason::Duplicate } else { Reason::Stale })
    }

    /// Step 5. Silent and free for the owner: whoever copies its packets takes
    /// nothing from its budget.
    pub(crate) fn expect_new(&self, transcript: &Transcript) -> Result<(), Reason> {
        let attempted = self.attempted.iter().any(|it| it.nonce == transcript.nonce);
        let known = attempted || transcript.time <= self.floor;
        if known { Err(Reason::Duplicate) } else { Ok(()) }
    }

    /// Step 6. Both budgets are charged or neither: what the common one refuses
    /// is not remembered, and copies of it must not use up the owner's.
    pub(crate) fn spend(
        &mut self,
        global: &mut Budget,
        settings: GateSettings,
        clock: Monotonic,
    ) -> Result<(), Reason> {
        if !self.budget.holds(settings.client_rate, clock) {
            return Err(Reason::OverBudget);
        }
        if !global.take(settings.global_rate, clock) {
            return Err(Reason::OverCap);
        }
        self.budget.charge();
        Ok(())
    }

    /// Remembers the datagram as attempted. What the window refuses anyway is
    /// let go before the list grows; the budget bounds the rest, and so does this
    /// list whatever the clock does.
    pub(crate) fn remember(
        &mut self,
        transcript: &Transcript,
        mark: Mark,
        now: Timestamp,
        settings: GateSettings,
    ) {
        let (len, most) = (self.attempted.len(), capacity(settings));
        if len >= most || (len >= RING_LEN && len == self.attempted.capacity()) {
            self.attempted.retain(|it| settings.tolerance.admits(it.time, now));
        }
        if self.attempted.len() >= most {
            self.attempted.remove(0);
        }
        let Transcript { time, nonce, .. } = *transcript;
        self.attempted.push(Attempt { time, nonce, mark: Some(mark) });
    }
}

/// How many datagrams of one client its budget lets through within one window.
fn capacity(settings: GateSettings) -> usize {
    let window = settings.tolerance.as_duration().as_secs().saturating_mul(2).saturating_add(1);
    let flow = window.saturating_mul(u64::from(settings.client_rate.per_second));
    let total = flow.saturating_add(u64::from(settings.client_rate.burst));
    usize::try_from(total).unwrap_or(usize::MAX).max(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kid, ServerPublic};
    use std::time::Duration;

    /// How much room attempts take, so much time apart.
    fn room_of(count: u64, apart: Duration) -> usize {
        let settings = GateSettings::default();
        let mut activity = Activity::new(settings);
        let (mut now, server) = (Timestamp::from_millis(1_800_000_000_000), [7; 32]);
        for number in 0..count {
            now = now.plus(apart);
            let transcript = Transcript {
                server: ServerPublic::from_bytes(server),
                kid: Kid::from_bytes([1; 16]),
                nonce: Nonce::from_bytes(u128::from(number).to_be_bytes()),
                time: now,
                ephemeral: [0; 32],
            };
            activity.remember(&transcript, [0; size_of::<Mark>()], now, settings);
        }
        activity.attempted.capacity()
    }

    #[test]
    fn who_knocks_now_and_then_takes_little_room_for_ever() {
        assert!(room_of(2000, Duration::from_secs(3600)) <= 2 * RING_LEN);
    }

    #[test]
    fn whatever_the_window_admits_is_remembered_up_to_what_the_budget_lets_through() {
        let most = capacity(GateSettings::default());
        assert!((most..=2 * most).contains(&room_of(2000, Duration::from_millis(1))));
    }
}
