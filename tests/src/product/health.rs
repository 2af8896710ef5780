//! What has to hold after every fault: nothing is open that should not be, a fresh knock is
//! served, nobody spins, nothing leaks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Client, Grant, KNOCK_PORT, Server, Site};
use crate::lab::{Capture, Datagram, Host, Result, fail};
use crate::wait::{self, SOON};

/// For how long processor time is counted.
const QUIET: Duration = Duration::from_secs(1);
/// How many hundredths of a second of it both processes together may take: one that spins takes
/// all hundred.
const IDLE_TICKS: u64 = 15;
/// How many recorded knocks are played back at once: a client's budget lets 20 through, and the
/// fresh knock that comes after them needs some of it.
const PLAYED: usize = 8;
/// Pause of a client between a refusal and its next attempt to get in.
const RETRY: Duration = Duration::from_millis(300);
/// Pause between two looks for a verdict.
const LOOK: Duration = Duration::from_millis(20);

/// Records the client's knocks, and looks after the daemon.
pub struct Health<'site> {
    site: &'site Site,
    capture: Capture,
    /// Recorded knocks that were granted. One that was refused for its time may still work once,
    /// later: docs/known-attacks.md.
    used: RefCell<Vec<Datagram>>,
    /// How many copies were played back.
    played: Cell<u64>,
}

/// What it took a client to be served.
#[derive(Clone, Debug)]
pub struct Served {
    /// From the first attempt to the grant.
    pub took: Duration,
    /// How many knocks were sent.
    pub knocks: u32,
    /// What became of those that were not granted.
    pub refused: BTreeMap<String, u64>,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.1?}, by knock {}", self.took, self.knocks)?;
        self.refused.iter().try_for_each(|(reason, count)| write!(f, ", {count} {reason}"))
    }
}

impl<'site> Health<'site> {
    /// Records what the client sends from now on.
    pub fn watch(site: &'site Site) -> Result<Self> {
        Ok(Self {
            site,
            capture: site.client.capture()?,
            used: RefCell::default(),
            played: Cell::new(0),
        })
    }

    /// The knocks that were granted while this was watching.
    pub fn used(&self) -> Vec<Datagram> {
        self.used.borrow().clone()
    }

    /// Notes that the last knock that was sent was granted.
    fn note_used(&self) -> Result {
        let mut seen = 0;
        let all = wait::until_some("the knock is recorded", SOON, || {
            let all = self.capture.udp_to(KNOCK_PORT)?;
            let before = std::mem::replace(&mut seen, all.len());
            // What was sent before it is recorded before it; nothing is on its way any more.
            let is_new = all.last().is_some_and(|last| !self.used.borrow().contains(last));
            Ok((is_new && all.len() == before).then_some(all))
        })?;
        self.used.borrow_mut().extend(all.last().cloned());
        Ok(())
    }

    /// All that has to hold after a fault, beside that a fresh knock is served: nothing opens, nobody
    /// spins, and as many descriptors are open as before it.
    pub fn all_is_well(&self, server: &Server, open: [u64; 2], why: &str) -> Result {
        self.nothing_opens(server, why)?;
        self.is_quiet(server, why)?;
        assert_eq!(server.descriptors()?, open, "{why}: descriptors of warden and gatekeeper");
        Ok(())
    }

    /// Nothing opens: strangers stay out over both families, what is listed is what the kernel
    /// has, and playing back the last used knocks, from the client's and from another address, changes
    /// nothing.
    pub fn nothing_opens(&self, server: &Server, why: &str) -> Result {
        agree(server, why)?;
        let (before, counted) = (server.grants()?, counts(server)?);
        let played = self.play_back(server)?;
        let after = counts(server)?;
        assert_eq!(after.get("granted"), counted.get("granted"), "{why}: of {played} copies");
        assert!(is_no_more(&before, &server.grants()?), "{why}: {before:?}, {:?}", server.grants());
        agree(server, why)?;
        self.strangers_stay_out(why)
    }

    /// Over both families.
    pub fn strangers_stay_out(&self, why: &str) -> Result {
        for address in self.site.server.addresses() {
            assert!(!self.site.stranger.connects((address, 22))?, "{why}: {address} is open");
        }
        Ok(())
    }

    /// Sends the last used knocks again; how many copies that were.
    fn play_back(&self, server: &Server) -> Result<u64> {
        let used = self.used();
        self.play(server, &used[used.len().saturating_sub(PLAYED)..])
    }

    /// Sends knocks, each of them once from the client's and once from the stranger's address, and
    /// waits until all of them are judged; how many copies that were.
    pub fn play(&self, server: &Server, knocks: &[Datagram]) -> Result<u64> {
        let (before, count) = (total(server)?, 2 * knocks.len() as u64);
        // The first copy is the one that goes all the way: here of one half of them, there of the
        // other.
        let (some, others) = knocks.split_at(knocks.len() / 2);
        for (here, there) in [(some, others), (others, some)] {
            self.send_as(&self.site.client, here)?;
            self.send_as(&self.site.stranger, there)?;
        }
        let what = format!("{count} copies are judged");
        wait::until(&what, SOON * 10, || Ok(total(server)? >= before + count))?;
        self.played.set(self.played.get() + count);
        Ok(count)
    }

    /// To where the server is now.
    fn send_as(&self, host: &Host, knocks: &[Datagram]) -> Result {
        let server = &self.site.server;
        let own = |knock: &Datagram| -> Result<Datagram> {
            let (source, to) = match knock.to.is_ipv4() {
                true => (host.v4()?, server.v4()?),
                false => (host.v6()?, server.v6()?),
            };
            let knock = knock.from((source, knock.from.port()).into());
            Ok(knock.to((to, knock.to.port()).into()))
        };
        host.send_forged(&knocks.iter().map(own).collect::<Result<Vec<_>>>()?)
    }

    /// The client's first knock is granted and lets it in; its grant is ended again.
    pub fn served_at_once(&self, server: &Server, client: &Client, name: &str) -> Result {
        self.site.open(server, client, &[])?;
        self.note_used()?;
        end_grants(server, name)
    }

    /// A client that has no grant and knocks every now and then gets in within this time; its grant
    /// is ended again.
    pub fn served_within(
        &self,
        limit: Duration,
        server: &Server,
        client: &Client,
        name: &str,
    ) -> Result<Served> {
        let (before, start) = (counts(server)?, Instant::now());
        let mut knocks = 0;
        let took = loop {
            let known = total(server)?;
            let knocked_after = start.elapsed();
            client.knock(&[])?.ok()?;
            knocks += 1;
            if is_granted(server, name, known, SOON.min(limit / 4))? {
                break knocked_after;
            }
            if knocked_after > limit {
                let now = counts(server)?;
                return fail(format!("{name} not served within {limit:?}: {before:?}, {now:?}"));
            }
        };
        let after = counts(server)?;
        let own = server.grants()?.into_iter().rfind(|grant| grant.client == name);
        let to = own.and_then(|grant| grant.destination).unwrap_or(self.site.address());
        assert!(client.host().connects((to, 22))?, "{name} has a grant for {to}");
        self.note_used()?;
        end_grants(server, name)?;
        let mut refused = after;
        for (reason, count) in &mut refused {
            *count -= before.get(reason).copied().unwrap_or(0).min(*count);
        }
        refused.retain(|reason, count| *count > 0 && reason != "granted");
        Ok(Served { took, knocks, refused })
    }

    /// Nobody spins.
    pub fn is_quiet(&self, server: &Server, why: &str) -> Result {
        are_quiet(server.host(), &server.pids()?, why)
    }
}

impl Drop for Health<'_> {
    fn drop(&mut self) {
        println!("copies of knocks played back: {}", self.played.get());
    }
}

/// Ends a client's grants, and nobody else's.
fn end_grants(server: &Server, name: &str) -> Result {
    server.spad(&["revoke", name])?.ok()?;
    assert!(server.grants()?.iter().all(|grant| grant.client != name), "{name} has none");
    Ok(())
}

/// Counters by reason.
type Counts = BTreeMap<String, u64>;

fn counts(server: &Server) -> Result<Counts> {
    let status = server.status()?;
    let counters = status["counters"].as_object().into_iter().flatten();
    Ok(counters.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0))).collect())
}

/// Of all verdicts.
fn total(server: &Server) -> Result<u64> {
    Ok(counts(server)?.values().sum())
}

/// Waits for the verdict on a knock; whether it was granted. `known` verdicts are older, and others'
/// may come beside it: it is refused when a while has passed since the last of them. One
/// that has none within `patience` was not heard.
fn is_granted(server: &Server, name: &str, known: u64, patience: Duration) -> Result<bool> {
    let (mut last, mut changed) = (known, Instant::now());
    loop {
        let now = total(server)?;
        if now != last {
            if server.grants()?.iter().any(|grant| grant.client == name) {
                return Ok(true);
            }
            (last, changed) = (now, Instant::now());
        }
        if changed.elapsed() > if last == known { patience } else { RETRY } {
            return Ok(false);
        }
        sleep(LOOK);
    }
}

/// Whether no grant came, and none was prolonged.
fn is_no_more(before: &[Grant], after: &[Grant]) -> bool {
    let known = |after: &Grant| {
        before.iter().any(|before| before.id == after.id && before.expires_in >= after.expires_in)
    };
    after.iter().all(known)
}

/// The sources that `spad grants` lists are those that the kernel lets in.
fn agree(server: &Server, why: &str) -> Result {
    // A grant may end between two looks.
    let mut seen = Default::default();
    let same = wait::until("grants listed and in the kernel are the same", SOON, || {
        let listed: BTreeSet<_> = server.grants()?.iter().map(|grant| grant.source).collect();
        seen = (listed, open_sources(server)?);
        Ok(seen.0 == seen.1)
    });
    assert!(same.is_ok(), "{why}: listed and in the kernel: {seen:?}");
    Ok(())
}

/// Sources that the kernel has a grant for.
pub fn open_sources(server: &Server) -> Result<BTreeSet<IpAddr>> {
    let table = server.kernel_table()?;
    let elements = table.split("elements = {").skip(1).filter_map(|rest| rest.split('}').next());
    let with_time = elements.flat_map(|elements| elements.split(','));
    let grants = with_time.filter(|element| element.contains("expires"));
    Ok(grants.filter_map(|grant| grant.split_whitespace().next()?.parse().ok()).collect())
}

impl Server<'_> {
    /// Process numbers of warden and gatekeeper, as its host knows them.
    pub fn pids(&self) -> Result<[u64; 2]> {
        let status = self.status()?;
        let pid = |at: usize| status["processes"][at]["pid"].as_u64();
        match (pid(0), pid(1)) {
            (Some(warden), Some(gatekeeper)) => Ok([warden, gatekeeper]),
            _ => fail(format!("not two processes: {status}")),
        }
    }

    /// How many descriptors warden and gatekeeper have open, beside those of callers that are just
    /// leaving.
    pub fn descriptors(&self) -> Result<[u64; 2]> {
        let [warden, gatekeeper] = self.pids()?;
        let count = |pid: u64| -> Result<u64> {
            // The fewest of some looks, between which such callers, and threads that look up a name, go.
            let look = format!(
                "for i in 1 2 3 4 5; do ls /proc/{pid}/fd | wc -l; sleep 0.05; done | sort -n"
            );
            let counts = self.host().sh(&look)?.ok()?.stdout;
            Ok(counts.lines().next().unwrap_or_default().parse()?)
        };
        Ok([count(warden)?, count(gatekeeper)?])
    }
}

/// Of these processes of a host nobody spins: for a daemon that cannot be asked who they are.
pub fn are_quiet(host: &Host, pids: &[u64], why: &str) -> Result {
    let before = ticks(host, pids)?;
    sleep(QUIET);
    let used = ticks(host, pids)?.saturating_sub(before);
    assert!(used <= IDLE_TICKS, "{why}: {used} hundredths of a second of processor time");
    Ok(())
}

/// Processor time of all these processes so far, in hundredths of a second.
fn ticks(host: &Host, pids: &[u64]) -> Result<u64> {
    let stat: Vec<_> = pids.iter().map(|pid| format!("/proc/{pid}/stat")).collect();
    let sum = "{ sum += $14 + $15; read++ } END { if (read == processes) print sum }";
    let awk = format!("awk -v processes={} '{sum}' {}", pids.len(), stat.join(" "));
    Ok(host.sh(&awk)?.ok()?.text().parse()?)
}
