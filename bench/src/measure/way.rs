//! Where the time of one knock goes: each step of its way, as the kernel traced it in knocks like
//! those of [`super::latency`].

use libc::{SYS_pwrite64, SYS_recvfrom, SYS_recvmsg, SYS_sendmsg, SYS_sendto};
use spa_tests::Result;
use spa_tests::lab::fail;

use super::latency::keep_awake;
use super::{fresh, probe, quiet_probe};
use crate::Options;
use crate::inside::probe::Probe;
use crate::ours::{Choice, Ours};
use crate::results::Row;
use crate::site::{Family, Site};
use crate::stats::percentile;
use crate::trace::{Event, Trace, What};

/// Knocks that are followed, on a processor that sleeps in between, and on one that does not.
const TRIES: usize = 100;
/// Of an IPv4 packet with a datagram.
const HEADERS: usize = 28;
/// A SYN's answer: IPv4, TCP, one option.
const ANSWER: u32 = 44;

/// The steps in their order, and the micro-benchmark of what a step is made of.
pub(crate) const STEPS: [(&str, Option<&str>); 9] = [
    ("the processor is told of the packet, and switches to the gatekeeper", None),
    ("the gatekeeper's poll returns, and it asks for the packet", None),
    (
        "it has the packet; gate: pseudonym, HMAC, time, replay, budget, X25519, \
         ChaCha20-Poly1305, body",
        Some("admit_a_knock 1"),
    ),
    ("a frame to the warden; the processor switches to it", Some("pass_a_frame")),
    ("the warden's poll returns, its event loop turns, and it has the frame", None),
    (
        "the client's record, Ed25519, replay, budget, policy",
        Some("verify_a_request_with_a_prepared_key"),
    ),
    (
        "journal: the knock and the grant; the message to the kernel is made",
        Some("write_to_the_journal"),
    ),
    ("netlink: the element is in the kernel", Some("grant_a_new_element")),
    ("the next SYN, one comes every 20 µs, and its answer", None),
];

/// The name of the row for all of it.
pub(crate) const ALL: &str = "from the knock on the wire to the answer on it";
/// The number with the p50 on a processor that does not sleep, in microseconds.
pub(crate) const AWAKE: &str = "awake, p50 µs";

/// Microseconds of each step, one list for each knock that was seen from end to end.
type Ways = Vec<[f64; STEPS.len()]>;

pub(crate) fn run(options: &Options) -> Result<Vec<Row>> {
    let Some(trace) = Trace::new()? else {
        eprintln!("way: left out, this kernel has no traces");
        return Ok(Vec::new());
    };
    let tries = options.tries.unwrap_or(TRIES);
    let site = Site::new(&["spa"])?;
    let mut ours = Ours::start(&site.servers[0], &Choice::default())?;
    let asleep = follow(&site, &mut ours, &trace, tries)?;
    let _busy = keep_awake(&site.servers[0])?;
    let awake = follow(&site, &mut ours, &trace, tries)?;
    let row = |name: &str, of: &dyn Fn(&[f64; STEPS.len()]) -> f64| {
        let awake: Vec<_> = awake.iter().map(of).collect();
        Row::new(name)
            .number(AWAKE, percentile(&awake, 0.5).unwrap_or(f64::NAN))
            .samples("µs", asleep.iter().map(of).collect())
    };
    let steps = STEPS.iter().enumerate().map(|(at, (name, _))| row(name, &move |way| way[at]));
    Ok(steps.chain([row(ALL, &|way| way.iter().sum())]).collect())
}

fn follow(site: &Site, ours: &mut Ours<'_>, trace: &Trace, tries: usize) -> Result<Ways> {
    let family = ours.processes()?;
    let [warden, gatekeeper] = family.members() else { return fail("not two processes") };
    let (warden, gatekeeper) = (warden.as_raw(), gatekeeper.as_raw());
    let job = quiet_probe(site, 0, ours.tries(&fresh(site, Family::V4, tries), 0..20)?)?;
    let knock = u32::try_from(length(&job))?;
    let theirs = |field: &str| format!("{field} == {warden} || {field} == {gatekeeper}");
    trace.watch("sched/sched_switch", &theirs("next_pid"))?;
    trace.watch("raw_syscalls/sys_enter", &theirs("common_pid"))?;
    trace.watch("raw_syscalls/sys_exit", &theirs("common_pid"))?;
    // On a host, not on the bridge between them.
    let packets = format!("name == \"eth0\" && (len == {knock} || len == {ANSWER})");
    trace.watch("net/netif_receive_skb", &packets)?;
    trace.take()?;
    probe(site, &job)?;
    let ways = ways(&trace.take()?, knock, warden, gatekeeper);
    match ways.len() * 2 > tries {
        true => Ok(ways),
        false => fail(format!("of {tries} knocks {} were seen from end to end", ways.len())),
    }
}

/// Of a knock's packet.
fn length(job: &Probe) -> usize {
    job.tries.first().map_or(0, |one| HEADERS + one.payload.len() / 2)
}

/// Takes knocks apart; one whose steps did not come in their order is left out.
fn ways(events: &[Event], knock: u32, warden: i32, gatekeeper: i32) -> Ways {
    let begin = |event: &Event| event.what == What::Packet(knock);
    // Who runs then, where that is to be asked, and what happens.
    let ends: [(Option<i32>, What); STEPS.len()] = [
        (None, What::Switch(gatekeeper)),
        (Some(gatekeeper), What::Enter(SYS_recvfrom)),
        (Some(gatekeeper), What::Enter(SYS_sendmsg)),
        (None, What::Switch(warden)),
        (Some(warden), What::Exit(SYS_recvmsg)),
        (Some(warden), What::Enter(SYS_pwrite64)),
        (Some(warden), What::Enter(SYS_sendto)),
        (Some(warden), What::Exit(SYS_sendto)),
        (None, What::Packet(ANSWER)),
    ];
    let is = |event: &Event, (pid, what): (Option<i32>, What)| {
        event.what == what && pid.is_none_or(|pid| pid == event.pid)
    };
    let begins = events.iter().enumerate().filter(|(_, event)| begin(event));
    let way = |(at, first): (usize, &Event)| {
        let mut rest = events[at + 1..].iter().take_while(|event| !begin(event));
        let mut way = [0.0; STEPS.len()];
        let mut last = first.at_us;
        for (took, end) in way.iter_mut().zip(ends) {
            let event = rest.find(|event| is(event, end))?;
            *took = event.at_us - last;
            last = event.at_us;
        }
        Some(way)
    };
    begins.filter_map(way).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOCK: u32 = 364;
    const WARDEN: i32 = 7;
    const GATEKEEPER: i32 = 8;

    /// A knock whose steps take 1, 2, 3 … µs.
    fn events(from: f64) -> Vec<Event> {
        let what = [
            (9, What::Packet(KNOCK)),
            (0, What::Switch(GATEKEEPER)),
            (GATEKEEPER, What::Enter(SYS_recvfrom)),
            (GATEKEEPER, What::Enter(SYS_sendmsg)),
            (GATEKEEPER, What::Switch(WARDEN)),
            (WARDEN, What::Exit(SYS_recvmsg)),
            (WARDEN, What::Enter(SYS_pwrite64)),
            (WARDEN, What::Enter(SYS_sendto)),
            (WARDEN, What::Exit(SYS_sendto)),
            (9, What::Packet(ANSWER)),
        ];
        let mut at_us = from;
        let event = |(step, (pid, what))| {
            at_us += f64::from(step);
            Event { at_us, pid, what }
        };
        (0..).zip(what).map(event).collect()
    }

    #[test]
    fn a_way_is_taken_apart_and_one_that_is_not_whole_is_left_out() {
        let whole = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let found = |events: &[Event]| ways(events, KNOCK, WARDEN, GATEKEEPER);
        let one = events(100.0);
        assert_eq!(found(&one), [whole]);
        let mut two = events(100.0);
        two.extend(events(1_000.0));
        assert_eq!(found(&two), [whole, whole]);
        let without = |at: usize| {
            let mut events = two.clone();
            events.remove(at);
            events
        };
        // Any but the first packet, without which there is no knock.
        for at in 1..one.len() {
            assert_eq!(found(&without(at)), [whole], "without {at}");
        }
        let others: Vec<_> =
            one.iter().map(|event| Event { pid: event.pid + 50, ..*event }).collect();
        assert!(found(&others).is_empty(), "somebody else's system calls");
    }
}
