//! Flows of which there is no more than a first packet (pure). Whoever knows a
//! granted address can begin as many as they like in its name: there is room for
//! so many, and nothing is told of them.

use super::entry::Handle;
use super::flow::Flow;
use std::collections::{BTreeMap, HashMap};

/// Those that are half open, and which came first.
pub(super) struct HalfOpen {
    flows: HashMap<Handle, (u64, Flow)>,
    by_age: BTreeMap<u64, Handle>,
    next: u64,
    room: usize,
}

impl HalfOpen {
    pub(super) fn new(room: usize) -> Self {
        Self { flows: HashMap::new(), by_age: BTreeMap::new(), next: 0, room }
    }

    pub(super) fn contains(&self, handle: &Handle) -> bool {
        self.flows.contains_key(handle)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values().map(|(_, flow)| flow)
    }

    /// Puts one in, and returns the oldest where that is one too many: of those
    /// who mean it, few have to wait for an answer as long.
    pub(super) fn insert(&mut self, flow: Flow) -> Option<Flow> {
        self.by_age.insert(self.next, flow.handle.clone());
        self.flows.insert(flow.handle.clone(), (self.next, flow));
        self.next += 1;
        if self.flows.len() <= self.room {
            return None;
        }
        let oldest = self.by_age.first_key_value()?.1.clone();
        self.remove(&oldest)
    }

    pub(super) fn remove(&mut self, handle: &Handle) -> Option<Flow> {
        let (age, flow) = self.flows.remove(handle)?;
        self.by_age.remove(&age);
        Some(flow)
    }

    /// Takes out those that are not among `there`.
    pub(super) fn retain(&mut self, there: impl Fn(&Handle) -> bool) -> Vec<Flow> {
        let gone: Vec<_> = self.flows.keys().filter(|handle| !there(handle)).cloned().collect();
        gone.iter().filter_map(|handle| self.remove(handle)).collect()
    }
}
