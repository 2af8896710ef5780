//! Which flows are open, by what the kernel has told (pure). Its word that a
//! connection has come about or has ended does not say what labels it has: we
//! have to know.

use super::entry::{Entry, Handle};
use super::flow::Flow;
use super::half_open::HalfOpen;
use super::watch::{FlowEvent, News};
use std::collections::{HashMap, HashSet};

/// How many flows are kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections that have come about.
    pub open: usize,
    /// Those that were begun and have not.
    pub half_open: usize,
}

impl Default for Room {
    /// About 60 MB if it is full.
    fn default() -> Self {
        Self { open: 65_536, half_open: 16_384 }
    }
}

/// The flows that are open, and those that may become so.
pub(super) struct OpenFlows {
    flows: HashMap<Handle, Flow>,
    half_open: HalfOpen,
    limit: usize,
}

impl OpenFlows {
    /// None yet, and never more than there is room for.
    pub(super) fn new(room: Room) -> Self {
        Self { flows: HashMap::new(), half_open: HalfOpen::new(room.half_open), limit: room.open }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    pub(super) fn half_open(&self) -> impl Iterator<Item = &Flow> {
        self.half_open.iter()
    }

    /// Whether it was granted something, by what is known.
    pub(super) fn contains(&self, handle: &Handle) -> bool {
        self.flows.contains_key(handle) || self.is_half_open(handle)
    }

    pub(super) fn is_half_open(&self, handle: &Handle) -> bool {
        self.half_open.contains(handle)
    }

    pub(super) fn is_full(&self) -> bool {
        self.flows.len() >= self.limit
    }

    /// A granted entry was seen.
    pub(super) fn seen(&mut self, entry: Entry, news: &mut News) {
        if self.flows.contains_key(&entry.handle) {
            return;
        }
        let established = entry.established;
        match entry.into_flow() {
            Some(flow) if established => self.opened(flow, news),
            Some(flow) => self.begun(flow, news),
            None => {}
        }
    }

    fn opened(&mut self, flow: Flow, news: &mut News) {
        let begun = self.half_open.remove(&flow.handle);
        if self.is_full() {
            // Who is not known could not be cut when the grant is taken back.
            news.events.extend(begun.map(FlowEvent::Failed));
            return news.crowded.push(flow);
        }
        let started = begun.and_then(|begun| begun.started).or(flow.started);
        let flow = Flow { started, ..flow };
        self.flows.insert(flow.handle.clone(), flow.clone());
        news.events.push(FlowEvent::Opened(flow));
    }

    fn begun(&mut self, flow: Flow, news: &mut News) {
        if self.is_half_open(&flow.handle) {
            return;
        }
        news.events.push(FlowEvent::Begun(flow.clone()));
        if let Some(oldest) = self.half_open.insert(flow) {
            news.events.push(FlowEvent::Failed(oldest.clone()));
            news.crowded.push(oldest);
        }
    }

    /// An entry, not necessarily ours, has ended or was cut.
    pub(super) fn ended(&mut self, entry: Entry, news: &mut News) {
        let begun = self.half_open.remove(&entry.handle);
        if let Some(begun) = begun.as_ref().filter(|_| !entry.established) {
            return news.events.push(FlowEvent::Failed(begun.clone()));
        }
        // It came about and ended before that was heard.
        news.events.extend(begun.clone().map(FlowEvent::Opened));
        let known = begun.or_else(|| self.flows.remove(&entry.handle));
        if let Some((known, last)) = known.zip(entry.into_flow()) {
            let started = last.started.or(known.started);
            news.events.push(FlowEvent::Closed(Flow { started, ..last }));
        }
    }

    /// There is no such entry any more, and nobody has said so.
    pub(super) fn vanished(&mut self, handle: &Handle, news: &mut News) {
        let begun = self.half_open.remove(handle).map(FlowEvent::Failed);
        let open = self.flows.remove(handle).map(FlowEvent::Vanished);
        news.events.extend(begun.into_iter().chain(open));
    }

    /// These and no others are there, of which some may be over.
    pub(super) fn reconcile(&mut self, granted: Vec<Entry>, news: &mut News) {
        let there: HashSet<_> = granted.iter().map(|entry| entry.handle.clone()).collect();
        let failed = self.half_open.retain(|handle| there.contains(handle));
        news.events.extend(failed.into_iter().map(FlowEvent::Failed));
        let (over, alive): (Vec<_>, Vec<_>) = granted.into_iter().partition(|entry| entry.over);
        let open: HashSet<_> = alive.iter().map(|entry| &entry.handle).collect();
        let gone = self.flows.extract_if(|handle, _| !open.contains(handle));
        news.events.extend(gone.map(|(_, flow)| FlowEvent::Vanished(flow)));
        for entry in over.into_iter().filter(|entry| entry.established) {
            self.ended(entry, news);
        }
        alive.into_iter().for_each(|entry| self.seen(entry, news));
    }
}
