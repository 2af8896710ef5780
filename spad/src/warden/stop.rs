//! The end: what is left, said before it comes.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Warden;
use crate::clock;
use crate::control::server::Call;
use crate::control::{Answer, report};
use crate::enforcement::Enforcement;
use crate::fields::millis;
use crate::firewall::Mode;
use crate::kept;
use crate::service;

/// How long callers may take to hear their answers.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What becomes of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It goes on.
    Running,
    /// It ends, and leaves shut what is shut.
    Ending,
    /// It ends, and has left nothing in the kernel.
    Opened,
}

/// Takes note that nothing is shut.
pub(super) fn note_open(run_dir: &Path) {
    if let Err(error) = kept::note_open(run_dir) {
        warn!(%error, "connections of now end when spad starts again");
    }
}

impl Warden {
    /// Ends after this turn. With `open`, the table is gone then; where that
    /// fails, everything stays as it is.
    pub(super) fn stop(&mut self, open: bool) -> Answer {
        let left = self.left_behind(open);
        if open && let Err(why) = self.remove_table() {
            return Answer::Failed(why);
        }
        self.course = if open { Course::Opened } else { Course::Ending };
        Answer::Stopped(left)
    }

    fn remove_table(&mut self) -> Result<(), String> {
        warn!("opening to everyone what was shut: an administrator wants it so");
        self.firewall.remove().map_err(|error| error.to_string())?;
        note_open(&self.config.run_dir);
        Ok(())
    }

    fn shuts(&self) -> bool {
        self.config.firewall.mode != Mode::Attach && self.enforcement.shuts()
    }

    fn left_behind(&mut self, open: bool) -> report::Stopped {
        let now = clock::monotonic();
        self.expire(now);
        let last = self.ledger.iter().map(|grant| grant.ends.since(now)).max();
        let shuts = self.shuts();
        let in_force = shuts && !open;
        report::Stopped {
            was_running: true,
            open,
            services: self.config.protected_ports(),
            shuts,
            grants: if in_force { self.ledger.iter().count() } else { 0 },
            grants_end_in_ms: if in_force { millis(last.unwrap_or_default()) } else { 0 },
        }
    }

    /// Lets those who have asked hear their answers, and says the last word.
    pub(super) async fn end(mut self, mut calls: mpsc::Receiver<Call>) {
        service::stopping();
        self.detach();
        self.last_knocks.write_last(&mut self.writer, |kid| self.clients.name_of(kid).is_some());
        self.save_bans_at_the_end().await;
        self.keeper = None;
        self.serving.abort();
        // Over when the last conversation is.
        let _ = timeout(LAST_WORDS, async { while calls.recv().await.is_some() {} }).await;
        match self.course {
            Course::Opened => info!("ended: nothing is shut any more"),
            _ if self.enforcement == Enforcement::NotInForce => {
                info!("ended: nothing was shut, and nothing is");
            }
            _ if self.config.firewall.mode == Mode::Attach => {
                info!("ended: our rule is out of the chains of others; what they shut stays shut");
            }
            _ => info!("ended: protected services stay closed, grants end in their time"),
        }
    }
}
