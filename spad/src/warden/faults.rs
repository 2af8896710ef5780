//! What is wrong, and stays so until somebody or something mends it.

use super::Warden;

impl Warden {
    /// Each in a sentence; what has a place of its own in the report is not among them.
    pub(super) fn faults(&self) -> Vec<String> {
        let hooks = self
            .hooks_fault
            .as_ref()
            .map(|why| format!("no hooks are run; once that is mended, run spad reload: {why}"));
        let metrics = self.metrics_fault.as_ref().map(|why| {
            format!("nobody can collect metrics until that is mended, and spad is restarted: {why}")
        });
        let connections = self.connections.is_none().then(|| {
            "connections are neither recorded nor cut, since the kernel does not tell of them"
                .into()
        });
        let unsaved = self.bans.unsaved().map(|why| {
            format!("bans are not kept across a restart; tried again every 20 s: {why}")
        });
        let others = [hooks, metrics, connections, unsaved].into_iter().flatten();
        self.faults_of_files().into_iter().chain(others).collect()
    }

    /// Those of what is read, or written, again with the configuration.
    pub(super) fn faults_of_files(&self) -> Vec<String> {
        let kept = self.keeping.fault().map(|why| {
            format!(
                "the ruleset is NOT KEPT, and the next boot goes by what was kept before, if anything \
                 was; tried again every 20 s: {why}"
            )
        });
        let bans = self.bans.unread().map(|why| {
            format!("bans stay as the kernel has them; mend or remove the file, and run spad reload: {why}")
        });
        [kept, self.own.fault(), bans].into_iter().flatten().collect()
    }
}
