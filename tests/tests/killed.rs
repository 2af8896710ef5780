//! `kill -9` at random moments, while knocks are on their way: whatever was in the middle of what,
//! no knock opens twice, and the next fresh one is served.
//!
//! `SPA_KILLS` says how often (30), `SPA_SEED` at which moments.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use spa_proto::Timestamp;
use spa_tests::Result;
use spa_tests::lab::{Datagram, Doing, Running, Sender, program};
use spa_tests::product::health::open_sources;
use spa_tests::product::{
    Client, Health, KNOCK_PORT, Knocker, Server, Service, Settings, Site, knocker,
};
use spa_tests::wait::{SOON, until};

/// Clients whose knocks are on their way when it happens, and knocks of each.
const KNOCKERS: u32 = 3;
const KNOCKS: u32 = 3;
/// The kill comes within this time after the knocks, in microseconds. It is adapted to the machine:
/// most kills should come when some of them are served and others not.
const WITHIN: u64 = 30_000;
/// How many knocks of earlier rounds are played back as well.
const OLDER: u64 = 6;
/// In one round of so many somebody knocks for the first time, whose record is being written then; in
/// one of so many a reload is under way. In some it is both.
const NEWCOMER: u32 = 3;
const RELOAD: u32 = 4;
/// After so many rounds everything is played back twice.
const ROUNDS: u32 = 5;
/// A dead gatekeeper's successor waits longer each time: after some of them the daemon is started
/// anew, and so begins with the shortest pause again.
const GATEKEEPERS: u32 = 3;
/// How long a gatekeeper that follows on that many others may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Warden,
    Gatekeeper,
}

/// Numbers that look random, the same for the same seed (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn new() -> Result<Self> {
        let seed = std::env::var("SPA_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(knocker::now()?.as_millis()).max(1);
        println!("SPA_SEED={seed}");
        Ok(Self(seed))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound.max(1)
    }
}

/// What came of all rounds.
#[derive(Default, Debug)]
struct Tally {
    rounds: u32,
    sent: u64,
    /// Rounds in which some, but not all, of the knocks were granted before it died.
    in_the_middle: u32,
    granted_before: usize,
    /// First knocks, and those of them that were granted before it died, and after it.
    first: u32,
    first_before: u32,
    first_later: u32,
    /// Reloads that were under way.
    reloads: u32,
    /// Knocks that were lost with it, and granted when they were sent again.
    granted_later: usize,
    played_back: u64,
    /// Times that a knock opened again. Must stay 0.
    opened_twice: usize,
    /// Fresh knocks of a client after it, and those that were granted.
    fresh: u64,
    fresh_granted: u64,
    /// Longest time between the kill and the grant of a fresh knock.
    longest: Duration,
}

struct Siege<'site> {
    site: &'site Site,
    server: Server<'site>,
    alice: Client<'site>,
    knockers: Vec<Knocker>,
    sender: Sender,
    health: Health<'site>,
    dice: Dice,
    /// See [`WITHIN`].
    within: u64,
    /// All knocks so far, each for an address of its own.
    knocks: Vec<(IpAddr, Datagram)>,
    /// How many of them are of this round.
    fresh: usize,
    /// Whose first knock is the first of this round, and its number.
    newcomer: Option<(u32, Knocker)>,
    /// What has ever been open.
    opened: BTreeSet<IpAddr>,
    tally: Tally,
}

impl<'site> Siege<'site> {
    fn new(site: &'site Site) -> Result<Self> {
        let ssh = Service { ttl: "1h", max_ttl: "1h", ..Service::SSH };
        let server = site.spad_with(&Settings::with_services(&[ssh]))?;
        let alice = site.client(&server, "alice")?;
        let knockers = (0..KNOCKERS).map(|n| Knocker::new(&server, n)).collect::<Result<_>>()?;
        let health = Health::watch(site)?;
        health.served_at_once(&server, &alice, "alice")?;
        Ok(Self {
            site,
            server,
            alice,
            knockers,
            sender: site.client.sender()?,
            health,
            dice: Dice::new()?,
            within: WITHIN,
            knocks: Vec::new(),
            fresh: 0,
            newcomer: None,
            opened: BTreeSet::new(),
            tally: Tally::default(),
        })
    }

    /// A client that has never knocked, in some rounds.
    fn invite(&mut self) -> Result {
        self.newcomer = None;
        if self.tally.rounds.is_multiple_of(NEWCOMER) {
            let number = KNOCKERS + self.tally.first;
            self.tally.first += 1;
            let known = self.server.status()?["clients"].as_u64().unwrap_or_default();
            self.newcomer = Some((number, Knocker::new(&self.server, number)?));
            until("it is known", SOON, || Ok(self.server.status()?["clients"] == known + 1))?;
        }
        Ok(())
    }

    /// One knock after the other of each client, for addresses that nobody has had.
    fn fresh_knocks(&mut self) -> Result<Vec<Datagram>> {
        self.invite()?;
        let (now, before) = (knocker::now()?, self.knocks.len());
        let newcomer = self.newcomer.iter().map(|(_, knocker)| knocker);
        for knocker in newcomer.chain((0..KNOCKS).flat_map(|_| &self.knockers)) {
            let knock = self.fresh_knock(knocker, now)?;
            self.knocks.push(knock);
        }
        self.fresh = self.knocks.len() - before;
        Ok(self.knocks[before..].iter().map(|(_, knock)| knock.clone()).collect())
    }

    fn fresh_knock(&self, knocker: &Knocker, now: Timestamp) -> Result<(IpAddr, Datagram)> {
        let to = SocketAddr::new(self.site.address(), KNOCK_PORT);
        let number = u32::try_from(self.knocks.len())?;
        let source = Ipv4Addr::from(0x0b00_0001 + number);
        Ok((source.into(), knocker.knock(source, to, now, number)?))
    }

    /// Whatever became of the newcomer's first knock, the next one is granted.
    fn newcomer_is_served(&mut self) -> Result {
        let Some((number, newcomer)) = &self.newcomer else { return Ok(()) };
        let (source, knock) = self.fresh_knock(newcomer, knocker::now()?)?;
        self.sender.send(std::slice::from_ref(&knock))?;
        let served = || Ok(open_sources(&self.server)?.contains(&source));
        let what = format!("{} is served when it knocks anew", Knocker::name(*number));
        until(&what, SOON, served)
            .doing(format!("counters: {}", self.server.status()?["counters"]))?;
        self.opened.insert(source);
        self.knocks.push((source, knock));
        self.fresh += 1;
        Ok(())
    }

    /// In some rounds the daemon is told to reload, and what came of that is not waited for.
    fn begin_reload(&mut self) -> Result<Option<Running>> {
        if !self.tally.rounds.is_multiple_of(RELOAD) {
            return Ok(None);
        }
        self.tally.reloads += 1;
        self.server.begin(&["reload"]).map(Some)
    }

    /// Sends knocks and kills within some milliseconds.
    fn kill_while_knocking(&mut self, victim: Victim) -> Result<Instant> {
        let knocks = self.fresh_knocks()?;
        let [warden, gatekeeper] = self.server.pids()?;
        let pid = if victim == Victim::Warden { warden } else { gatekeeper };
        let mut killer =
            self.site.server.spawn(["sh", "-c", &format!("echo aims; read go; kill -9 {pid}")])?;
        killer.wait_for("aims", SOON)?;
        let reload = self.begin_reload()?;
        self.sender.send(&knocks)?;
        self.tally.sent += knocks.len() as u64;
        sleep(Duration::from_micros(self.dice.below(self.within)));
        killer.write_line("go")?;
        let killed = Instant::now();
        killer.wait(SOON)?;
        // Whatever it says: its daemon may be dead.
        reload.map(|mut reload| reload.wait(PATIENCE)).transpose()?;
        Ok(killed)
    }

    /// Until it listens again.
    fn recover(&mut self, victim: Victim) -> Result {
        if victim == Victim::Warden {
            self.server.wait()?;
            self.note_opened(true)?;
            return self.server.start();
        }
        until("another gatekeeper listens", PATIENCE, || {
            let status = self.server.status()?;
            Ok(status["capture"]["in_force"] == true && status["processes"][1]["pid"].is_u64())
        })?;
        self.note_opened(true)
    }

    /// Notes what is open, none of which may have been open before this round.
    fn note_opened(&mut self, before_death: bool) -> Result {
        let open = open_sources(&self.server)?;
        let (again, new): (Vec<IpAddr>, Vec<IpAddr>) =
            open.into_iter().partition(|source| self.opened.contains(source));
        self.tally.opened_twice += again.len();
        let first = self.newcomer.as_ref().map(|_| self.knocks[self.knocks.len() - self.fresh].0);
        let first = u32::from(first.is_some_and(|first| new.contains(&first)));
        assert_eq!(again, Vec::<IpAddr>::new(), "open again in round {}", self.tally.rounds);
        if before_death {
            self.tally.granted_before += new.len();
            self.tally.first_before += first;
            match new.len() {
                0 => self.within += self.within / 3,
                all if all == self.fresh => self.within -= self.within / 4,
                _ => self.tally.in_the_middle += 1,
            }
        } else {
            self.tally.granted_later += new.len();
            self.tally.first_later += first;
        }
        self.opened.extend(new);
        Ok(())
    }

    fn revoke_all(&self) -> Result {
        let (spad, config) = (program("spad")?, self.server.config_path());
        let revoke = format!("{} revoke --config {}", spad.display(), config.display());
        let newcomer = self.newcomer.as_ref().map(|(number, _)| *number);
        let names: Vec<_> = (0..KNOCKERS).chain(newcomer).map(Knocker::name).collect();
        let all = format!("for name in {}; do {revoke} $name || exit 1; done", names.join(" "));
        self.site.server.sh(&all)?.ok()?;
        assert_eq!(open_sources(&self.server)?, BTreeSet::new(), "nothing is open between rounds");
        Ok(())
    }

    /// Sends this round's knocks again, and some older ones, from two addresses.
    fn play_back(&mut self) -> Result {
        let this = self.knocks.len() - self.fresh;
        let mut copies: Vec<_> = self.knocks[this..].to_vec();
        for _ in 0..OLDER.min(this as u64) {
            let at = usize::try_from(self.dice.below(this as u64))?;
            copies.push(self.knocks[at].clone());
        }
        let copies: Vec<_> = copies.into_iter().map(|(_, knock)| knock).collect();
        self.tally.played_back += self.health.play(&self.server, &copies)?;
        self.note_opened(false)
    }

    fn round(&mut self, victim: Victim) -> Result {
        self.tally.rounds += 1;
        let killed = self.kill_while_knocking(victim)?;
        self.recover(victim)?;
        let served = self.health.served_within(PATIENCE, &self.server, &self.alice, "alice")?;
        self.tally.longest = self.tally.longest.max(killed.elapsed());
        self.tally.fresh += u64::from(served.knocks);
        self.tally.fresh_granted += 1;
        assert_eq!(served.knocks, 1, "at once: {served}");
        self.newcomer_is_served()?;
        self.revoke_all()?;
        self.play_back()?;
        self.revoke_all()?;
        if self.tally.rounds.is_multiple_of(ROUNDS) {
            // By now all of them are used.
            self.play_back()?;
            assert!(open_sources(&self.server)?.is_empty(), "what is used is used");
            // Its capture has grown.
            self.health = Health::watch(self.site)?;
        }
        Ok(())
    }
}

/// After so many rounds some kills must have come in the middle: else nothing was shown.
const ENOUGH: u32 = 30;

fn rounds() -> u32 {
    std::env::var("SPA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

fn killed_at_any_moment(victim: Victim) -> Result {
    let site = Site::new()?;
    let mut siege = Siege::new(&site)?;
    siege.round(victim)?;
    let open = siege.server.descriptors()?;
    for round in 1..rounds() {
        if victim == Victim::Gatekeeper && round % GATEKEEPERS == 0 {
            siege.server.restart()?;
        }
        siege.round(victim)?;
        if round % 50 == 0 {
            println!("{victim:?} killed, so far: {:?}", siege.tally);
        }
    }
    siege.health.served_at_once(&siege.server, &siege.alice, "alice")?;
    siege.health.all_is_well(&siege.server, open, "after all rounds")?;
    println!("{victim:?} killed: {:#?}", siege.tally);
    let Tally { rounds, in_the_middle, .. } = siege.tally;
    assert!(
        in_the_middle > 0 || rounds < ENOUGH,
        "no kill of {rounds} came while knocks were served"
    );
    Ok(())
}

#[test]
fn the_warden_killed_at_any_moment_forgets_nothing() -> Result {
    killed_at_any_moment(Victim::Warden)
}

#[test]
fn the_gatekeeper_killed_at_any_moment_lets_nothing_through_twice() -> Result {
    killed_at_any_moment(Victim::Gatekeeper)
}
