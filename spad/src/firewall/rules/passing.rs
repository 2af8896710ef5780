//! A ruleset that is not in force: all of it is in the kernel, grants are put into
//! its sets, and every packet passes.

use super::base::accept;
use crate::firewall::ruleset::{Ruleset, Statement};
use spa_proto::Timestamp;

/// Lets everything pass.
#[must_use]
pub fn passing(ruleset: Ruleset) -> Ruleset {
    let mut ruleset = with_way_out(ruleset, None);
    // Nothing is shut, so that connections live on once something is.
    ruleset.existing.iter_mut().for_each(|existing| existing.tcp.clear());
    ruleset
}

/// Lets everything pass from then on, whether or not anybody is there to see to it:
/// the kernel looks at its clock for each packet.
#[must_use]
pub fn passing_from(ruleset: Ruleset, then: Timestamp) -> Ruleset {
    with_way_out(ruleset, Some(then))
}

fn with_way_out(mut ruleset: Ruleset, from: Option<Timestamp>) -> Ruleset {
    let way_out = accept(from.map(Statement::NotBefore));
    for chain in ruleset.chains.iter_mut().filter(|chain| chain.hook.is_some()) {
        chain.rules.insert(0, way_out.clone());
    }
    ruleset
}
