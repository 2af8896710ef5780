//! Who has used up how much of a public service's rate.

use std::net::IpAddr;

use spa_proto::ServiceName;

use super::Warden;
use crate::control::{Answer, report};
use crate::fields::millis;
use crate::firewall::FirewallError;
use crate::firewall::plan::Access;

impl Warden {
    /// The sources that services with a rate remember: of one service or of
    /// all, one source or all. With `clear` they are forgotten.
    pub(super) fn rates(
        &mut self,
        service: Option<&str>,
        source: Option<IpAddr>,
        clear: bool,
    ) -> Answer {
        let listed = self.limited(service).and_then(|services| {
            let listed = self.rated(&services, source);
            let cleared = listed.and_then(|listed| {
                let cleared = if clear { self.forget(&services, source) } else { Ok(()) };
                cleared.map(|()| listed)
            });
            cleared.map_err(|error| error.to_string())
        });
        match listed {
            Ok(listed) if clear => Answer::Cleared(listed.len()),
            Ok(listed) => Answer::Rates(listed),
            Err(why) => Answer::Failed(why),
        }
    }

    /// The services with a rate: the one that is asked for, or all.
    fn limited(&self, asked: Option<&str>) -> Result<Vec<ServiceName>, String> {
        let limited = |access: Access| matches!(access, Access::Public(Some(_)));
        let all = self.config.services.iter().filter(|(_, service)| limited(service.access));
        let found: Vec<_> = all
            .map(|(name, _)| *name)
            .filter(|name| asked.is_none_or(|asked| asked == name.as_str()))
            .collect();
        match asked {
            Some(asked) if found.is_empty() => {
                Err(format!("there is no service {asked} with a rate"))
            }
            _ => Ok(found),
        }
    }

    fn rated(
        &self,
        services: &[ServiceName],
        source: Option<IpAddr>,
    ) -> Result<Vec<report::Rate>, FirewallError> {
        let mut rates = Vec::new();
        for service in services {
            let mut found = self.firewall.rated(*service)?;
            found.retain(|rated| source.is_none_or(|source| rated.network.contains(source)));
            rates.extend(found.into_iter().map(|rated| report::Rate {
                service: service.to_string(),
                source: rated.text(),
                begins_anew_in_ms: millis(rated.left),
            }));
        }
        Ok(rates)
    }

    fn forget(
        &mut self,
        services: &[ServiceName],
        source: Option<IpAddr>,
    ) -> Result<(), FirewallError> {
        services.iter().try_for_each(|service| self.firewall.forget_rated(*service, source))
    }
}
