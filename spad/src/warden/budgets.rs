//! How often each client may be served, as the warden sees it. The gate counts too, before the
//! public-key work (protocol §6, step 6); who has taken the gatekeeper over, and has one client's
//! keys, comes past that.

use std::collections::HashMap;

use spa_proto::{Budget, GateSettings, Kid, Monotonic, Rate};

/// What is left to the clients that knocked of late; who is not there has all of it.
pub(super) struct Budgets {
    rate: Rate,
    left: HashMap<Kid, Budget>,
}

impl Budgets {
    /// As fast as the gate lets a client knock, and twice as many at once: a gatekeeper that was
    /// replaced does not know what its clients have spent.
    pub(super) fn new() -> Self {
        let Rate { burst, per_second } = GateSettings::default().client_rate;
        Self { rate: Rate { burst: 2 * burst, per_second }, left: HashMap::new() }
    }

    /// Takes one knock's worth of this client's, if it is there.
    pub(super) fn take(&mut self, kid: Kid, now: Monotonic) -> bool {
        let rate = self.rate;
        self.left.entry(kid).or_insert_with(|| Budget::full(rate, now)).take(rate, now)
    }

    /// Lets go of those who have all of it again.
    pub(super) fn forget_full(&mut self, now: Monotonic) {
        let rate = self.rate;
        self.left.retain(|_, budget| !budget.is_full(rate, now));
        self.left.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(seconds))
    }

    fn taken(budgets: &mut Budgets, kid: u8, now: Monotonic) -> usize {
        (0..1000).filter(|_| budgets.take(Kid::from_bytes([kid; 16]), now)).count()
    }

    #[test]
    fn each_client_has_its_own_and_it_comes_back() {
        let mut budgets = Budgets::new();
        assert_eq!((taken(&mut budgets, 1, at(0)), taken(&mut budgets, 1, at(0))), (40, 0));
        assert_eq!(taken(&mut budgets, 2, at(0)), 40);
        assert_eq!(taken(&mut budgets, 1, at(2)), 10);
    }

    #[test]
    fn what_is_forgotten_is_full() {
        let mut budgets = Budgets::new();
        taken(&mut budgets, 1, at(0));
        taken(&mut budgets, 2, at(7));
        budgets.forget_full(at(8));
        assert_eq!(budgets.left.len(), 1, "of the other a little is missing");
        assert_eq!(taken(&mut budgets, 1, at(8)), 40);
        assert_eq!(taken(&mut budgets, 2, at(8)), 5);
        budgets.forget_full(at(100));
        assert!(budgets.left.is_empty());
    }
}
