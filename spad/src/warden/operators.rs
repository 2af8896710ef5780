//! For those who operate the host: who may ask, what they have asked for, and where the
//! audit goes.

use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Group;
use rustix::process::getuid;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::Warden;
use super::bans::Order;
use crate::audit::{Event, Kind, Target};
use crate::clock::{Discipline, Reading};
use crate::config::Config;
use crate::control::access::{Access, Caller, Rights};
use crate::control::server::{Call, READ_ONLY, Reply};
use crate::control::{Answer, Request, report};
use crate::metrics::{self, Listener};
use crate::privileges::warden::as_group;
use crate::show;
use crate::sys::ntp;

/// Where systemd says which directory that is.
const LOGS: &str = "LOGS_DIRECTORY";
/// How much of a command and of what came of it is written down, in characters.
const LONGEST: usize = 200;

/// Who wants something changed, and what; and where the answer goes.
pub(super) struct Asker {
    caller: Caller,
    command: String,
    reply: oneshot::Sender<Reply>,
}

impl Warden {
    /// Answers a request, if who asks may. Whoever wants something changed is written
    /// down, and what came of it.
    pub(super) fn hear(&mut self, request: Request, caller: Caller, reply: oneshot::Sender<Reply>) {
        if request.takes() < Rights::Change {
            return self.answer(request, reply);
        }
        let (rights, command) = (caller.rights, request.to_string());
        let asker = Asker { caller, command, reply };
        if rights < Rights::Change {
            return self.conclude(asker, Answer::Failed(READ_ONLY.into()));
        }
        match request {
            // Answered when they are written.
            Request::Ban { network, seconds, why, by } => {
                self.ban(&Order { network, seconds, why, by }, asker);
            }
            Request::Unban { network, by } => self.unban(&network, by, asker),
            other => {
                let answer = self.change(other);
                self.conclude(asker, answer);
            }
        }
    }

    /// Says what came of it.
    pub(super) fn conclude(&mut self, asker: Asker, answer: Answer) {
        let Asker { caller, command, reply } = asker;
        let outcome = show::text(&answer).trim_end().replace('\n', "; ");
        self.audit.recorder.put(Event {
            by: Some(caller.uid),
            login: caller.login,
            command: Some(shortened(command)),
            outcome: Some(shortened(outcome)),
            count: caller.refused.filter(|count| *count > 1),
            ..Event::now(Kind::Command)
        });
        // Whoever has hung up does not want it any more.
        let _ = reply.send(answer.into());
    }
}

/// The beginning of what is long: a caller's words may be.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Warden {
    /// Says once that the clock is not to be relied on, and once that it is again.
    pub(super) fn look_at_discipline(&mut self) {
        let fault = self.discipline().and_then(|it| it.fault(self.tolerance()));
        if fault.is_some() == self.clock_fault.is_some() {
            return;
        }
        match &fault {
            Some(fault) => warn!("{fault}: clients may be refused as stale; see timedatectl"),
            None => info!("this host's clock is kept right"),
        }
        self.clock_fault = fault;
    }

    pub(super) fn clock_report(&self, now: Reading) -> report::Clock {
        report::Clock::of(now.wall.as_millis(), self.tolerance(), self.discipline())
    }

    /// `None` where the kernel does not say.
    fn discipline(&self) -> Option<Discipline> {
        ntp::discipline().ok()
    }

    fn tolerance(&self) -> Duration {
        self.config.tolerance.as_duration()
    }
}

/// Serves metrics, where they are asked for. Where that is not possible, the fault is given as
/// well: knocks are served all the same.
pub(super) fn metrics(
    config: &Config,
    access: Access,
    calls: mpsc::Sender<Call>,
) -> (impl Future<Output = ()> + use<>, Option<String>) {
    let bind = |endpoint| {
        Listener::bind(endpoint, access.group)
            .map_err(|error| format!("cannot listen on {endpoint}: {error}"))
    };
    let (listener, fault) = match config.operations.metrics.as_ref().map(bind).transpose() {
        Ok(listener) => (listener, None),
        Err(error) => {
            warn!(error, "no metrics");
            (None, Some(error))
        }
    };
    let served = async move {
        if let Some(listener) = listener {
            metrics::serve(listener, access.own, calls).await;
        }
    };
    (served, fault)
}

/// Who may ask what.
pub(super) fn access(config: &Config, group: Option<u32>) -> Access {
    let may_change = config.operations.may_change;
    Access { own: getuid().as_raw(), group, may_change }
}

/// Where the audit is to go. The group can reach it there, if it is the directory that
/// systemd has made for the logs of its unit.
pub(super) fn audit(config: &Config, group: Option<u32>) -> Target {
    let target = Target { file: config.operations.audit_file.clone(), group };
    let dir = target.file.as_deref().and_then(Path::parent);
    let made = dir.filter(|dir| std::env::var_os(LOGS).is_some_and(|made| *made == **dir));
    if let (Some(dir), Some(group)) = (made, target.group)
        && let Err(error) = give(dir, group)
    {
        warn!(dir = %dir.display(), %error, "the control-group cannot reach the audit-file");
    }
    target
}

fn give(dir: &Path, group: u32) -> io::Result<()> {
    as_group(group, || chown(dir, None, Some(group)))?
}

/// The number of the group that may ask; `None` where there is none, and then nobody
/// but root may. Asked for once: who answers may take long.
pub(super) fn group(config: &Config) -> Option<u32> {
    let name = config.operations.group.as_deref()?;
    if let Ok(Some(group)) = Group::from_name(name) {
        return Some(group.gid.as_raw());
    }
    warn!(
        group = name,
        "no such control-group: root alone may ask; make one with: groupadd {name}"
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_words_are_written_down_in_part() {
        assert_eq!(shortened("ban ü".into()), "ban ü");
        let long = shortened("ü".repeat(4000));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }
}
