//! What the service manager is told, where there is one that listens (sd_notify(3)).

use sd_notify::NotifyState::{self, Ready, Reloading, Status, Stopping, Watchdog};
use tracing::warn;

/// Knocks are heard; after [`reloading`], that this is over.
pub(crate) fn ready() {
    tell(&[Ready]);
}

/// The warden's loop turns. More often than every `WatchdogSec` of the unit.
pub(crate) fn alive() {
    tell(&[Watchdog]);
}

/// The configuration is read again; [`ready`] follows, whatever comes of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[Reloading, now]),
        Err(_) => tell(&[Reloading]),
    }
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[Stopping]);
}

/// One line for `systemctl status`.
pub(crate) fn status(line: &str) {
    tell(&[Status(line)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager could not be told");
    }
}
