//! Which flows are open, by what the kernel has told (pure). Its word that a
//! connection has ended does not say what labels it had: we have to know.

use super::entry::{Entry, Handle};
use super::flow::Flow;
use super::watch::FlowEvent;
use std::collections::{HashMap, HashSet};

/// The flows that are open.
pub(super) struct OpenFlows {
    flows: HashMap<Handle, Flow>,
    limit: usize,
    unrecorded: u64,
}

impl OpenFlows {
    /// None yet, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { flows: HashMap::new(), limit, unrecorded: 0 }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    pub(super) fn contains(&self, handle: &Handle) -> bool {
        self.flows.contains_key(handle)
    }

    /// How many there was no room for.
    pub(super) fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// A granted entry was seen.
    pub(super) fn seen(&mut self, entry: Entry) -> Option<FlowEvent> {
        if self.contains(&entry.handle) {
            return None;
        }
        let flow = entry.into_flow()?;
        if self.flows.len() >= self.limit {
            self.unrecorded += 1;
            return None;
        }
        self.flows.insert(flow.handle.clone(), flow.clone());
        Some(FlowEvent::Opened(flow))
    }

    /// An entry, not necessarily ours, has ended or was cut.
    pub(super) fn ended(&mut self, entry: Entry) -> Option<FlowEvent> {
        let known = self.flows.remove(&entry.handle)?;
        let last = entry.into_flow()?;
        Some(FlowEvent::Closed(Flow { started: last.started.or(known.started), ..last }))
    }

    /// These and no others are open.
    pub(super) fn reconcile(&mut self, granted: Vec<Entry>) -> Vec<FlowEvent> {
        let open: HashSet<Handle> = granted.iter().map(|entry| entry.handle.clone()).collect();
        let gone = self.flows.extract_if(|handle, _| !open.contains(handle));
        let mut events: Vec<_> = gone.map(|(_, flow)| FlowEvent::Vanished(flow)).collect();
        events.extend(granted.into_iter().filter_map(|entry| self.seen(entry)));
        events
    }
}
