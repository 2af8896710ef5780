//! A ruleset that is not in force: all of it is in the kernel, grants are put into
//! its sets, and every packet passes.
//!
//! Addresses are translated as ever: what is sent on to an inner host was never open,
//! and the networks behind this host have no other way out.

use super::base::{accept, drop, each_port, jump, opening_segment};
use super::gateway;
use super::granted::chain_of;
use crate::firewall::plan::{Access, Plan};
use crate::firewall::ruleset::{AddressType, Chain, Rule, Ruleset, Side, State, Statement};
use spa_proto::{Protocol, Timestamp};

/// Lets everything pass.
#[must_use]
pub fn passing(plan: &Plan) -> Ruleset {
    let mut ruleset = with_way_out(plan, None);
    // Nothing is shut, so that connections live on once something is.
    ruleset.existing.iter_mut().for_each(|existing| existing.tcp.clear());
    ruleset
}

/// Lets everything pass from then on, whether or not anybody is there to see to it:
/// the kernel looks at its clock for each packet.
#[must_use]
pub fn passing_from(plan: &Plan, then: Timestamp) -> Ruleset {
    with_way_out(plan, Some(then))
}

fn with_way_out(plan: &Plan, from: Option<Timestamp>) -> Ruleset {
    let mut ruleset = super::ruleset(plan);
    let from = from.map(Statement::NotBefore);
    for chain in ruleset.chains.iter_mut().filter(|chain| shuts(chain)) {
        let mut rules = Vec::new();
        if chain.name == super::guard::PREROUTING {
            rules = ways_in(plan, from.as_ref());
        }
        rules.push(accept(from.clone()));
        chain.rules.splice(0..0, rules);
    }
    ruleset
}

/// Whether a packet may end in it, or where it leads.
fn shuts(chain: &Chain) -> bool {
    let ends = |statement: &Statement| {
        matches!(statement, Statement::Drop | Statement::Jump(_) | Statement::Goto(_))
    };
    chain.hook.is_some() && chain.rules.iter().any(|rule| rule.statements.iter().any(ends))
}

/// To inner hosts a grant is the way as ever, and what was cut stays so.
fn ways_in(plan: &Plan, from: Option<&Statement>) -> Vec<Rule> {
    let with = |then: Vec<Statement>| from.cloned().into_iter().chain(then).collect::<Vec<_>>();
    let granted = |protocol: Protocol, name| {
        let begins = match protocol {
            Protocol::Tcp => opening_segment(),
            Protocol::Udp => Statement::State(&[State::New]),
        };
        let to_us = Statement::Routed(Side::Destination, AddressType::Local);
        with(vec![to_us, begins, jump(name)])
    };
    let services = gateway::targets(plan).map(|(service, _)| service);
    let knocked = services.filter(|service| service.access == Access::Knock);
    let ways = each_port(knocked, Side::Destination, |service, ports| {
        Some(granted(ports.protocol, chain_of(service)))
    });
    if ways.is_empty() {
        return ways;
    }
    let cut = [Statement::Labelled(plan.labels.cut), Statement::DestinationTranslated];
    std::iter::once(drop(with(cut.to_vec()))).chain(ways).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const GATEWAY: &str = "[firewall]\nmode = \"managed\"\n\
        [managed]\ninside = [\"eth1\"]\noutside = [\"eth0\"]\nmasquerade = true\nhelpers = [\"ftp\"]\n\
        [service.ssh]\nport = 22\n[service.nas]\nport = 443\ntarget = \"10.0.0.5:8443\"\n";

    #[test]
    fn what_shuts_passes_and_what_translates_stays() {
        let plan = Config::parse(GATEWAY).unwrap().plan();
        let (shut, open) = (super::super::ruleset(&plan), passing(&plan));
        let base = |chain: &&Chain| chain.hook.is_some();
        let chains = shut.chains.iter().zip(&open.chains).filter(|(shut, _)| base(shut));
        let (same, others): (Vec<_>, Vec<_>) = chains.partition(|(shut, open)| shut == open);
        let names: Vec<_> = same.iter().map(|(chain, _)| chain.name.as_str()).collect();
        for name in ["gateway_prerouting", "managed_postrouting", "helpers_prerouting"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        assert!(same.iter().all(|(chain, _)| !shuts(chain)), "{names:?}");
        assert!(others.iter().all(|(_, open)| open.rules.contains(&accept([]))));
    }

    #[test]
    fn until_then_no_rule_more_matches() {
        let plan = Config::parse(GATEWAY).unwrap().plan();
        let then = Timestamp::from_millis(1);
        let (shut, open) = (super::super::ruleset(&plan), passing_from(&plan, then));
        for (shut, open) in shut.chains.iter().zip(&open.chains) {
            let (more, same) = open.rules.split_at(open.rules.len() - shut.rules.len());
            assert_eq!(same, shut.rules);
            let later = |rule: &Rule| rule.statements.contains(&Statement::NotBefore(then));
            assert!(more.iter().all(later), "{more:?}");
        }
    }
}
