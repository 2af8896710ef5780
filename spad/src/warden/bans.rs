//! Bans: taken from the administrator, kept on disk, held in the kernel.

mod peers;
mod saving;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use spa_proto::{Prefix, Reason, Timestamp};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Warden;
use super::operators::Asker;
use super::upkeep::PAUSE;
use super::worker::Worker;
use crate::bans::{Ban, BanFile, Bans, MOST, covers, overlap};
use crate::clock::Reading;
use crate::control::{Answer, report};
use crate::fields::millis;
use crate::firewall::{FirewallError, Interval};
use crate::policy::Judgement;
use saving::{Outcome, Promise, Saving};

/// How long the reason may be, in bytes.
const LONGEST_WHY: usize = 200;
/// The longest time that is not better said as "until it is lifted".
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);
/// The widest networks: a wider one shuts out whoever made a mistake in it.
const WIDEST: (u8, u8) = (8, 12);
/// By how much the kernel's time for a ban may be off.
const SLACK: Duration = Duration::from_secs(1);

/// Nobody's addresses, or needed to talk to anybody at all.
const NEVER: [(IpAddr, u8); 7] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 127),
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// The bans, and where they are kept.
pub(super) struct Register {
    list: Bans,
    /// Those that are over by a clock that was just set. They are kept in the file.
    past: Vec<Ban>,
    saving: Saving,
    /// What is wrong with the file. While it is, nothing is known of the bans,
    /// and the kernel keeps those that it has.
    fault: Option<String>,
    /// When the kernel was last told how long they have left.
    told: Reading,
}

/// What an administrator asks for.
pub(super) struct Order {
    pub(super) network: String,
    pub(super) seconds: Option<u64>,
    pub(super) why: Option<String>,
    pub(super) by: Option<u32>,
}

impl Register {
    /// Reads the bans that are kept in `state_dir`.
    pub(super) fn open(state_dir: &Path, now: Reading) -> Self {
        let saving = Saving::to(BanFile::new(state_dir));
        let list = Bans::default();
        let mut register = Self { list, past: Vec::new(), saving, fault: None, told: now };
        register.read();
        register
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    fn read(&mut self) {
        match self.saving.file.read() {
            Ok(list) => (self.list, self.fault) = (list, None),
            Err(fault) => {
                error!(%fault, "bans stay as the kernel has them: mend or remove the file, and run spad reload");
                self.fault = Some(fault.to_string());
            }
        }
    }

    /// Why the file is not used.
    pub(super) fn unread(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Why the last write has failed, if it has.
    pub(super) fn unsaved(&self) -> Option<&str> {
        self.saving.fault_of_last()
    }

    /// Looks again at a file that could not be used.
    pub(super) fn read_again(&mut self) {
        if self.fault.is_some() {
            self.read();
        }
    }

    /// Whether the clock was set since the kernel was told how long they have left.
    fn is_set_anew(&mut self, now: Reading) -> bool {
        let set = now.drift(&self.told) > SLACK;
        if set && self.fault.is_some() {
            // It is told nothing: what it has goes by its own clock.
            self.told = now;
            return false;
        }
        set
    }

    fn usable(&self) -> Result<(), String> {
        self.fault.as_ref().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// What the kernel is to hold; `None` for what it holds.
    pub(super) fn intervals(&self, trusted: &[Prefix], now: Reading) -> Option<Vec<Interval>> {
        self.fault.is_none().then(|| self.list.intervals(trusted, now.wall))
    }

    /// Whether some ban is of this address.
    pub(super) fn is_banned(&self, address: IpAddr) -> bool {
        self.list.covering(&Prefix::of(address, u8::MAX)).is_some()
    }

    /// Refuses a knock whose grant would open nothing.
    pub(super) fn admit(
        &self,
        judgement: Judgement,
        trusted: &[Prefix],
    ) -> Result<Judgement, Reason> {
        let banned = |source: &Prefix| self.list.holds_against(source, trusted);
        match judgement.grants().iter().any(|grant| banned(&grant.element.source)) {
            true => Err(Reason::SourceNotAllowed),
            false => Ok(judgement),
        }
    }

    /// Begins to write the list down, if the file does not say the same.
    fn save(&mut self, writer: &mut Worker) {
        self.saving.begin(|| kept(&self.past, &self.list), writer);
    }

    /// Lets go of those whose time is over; for good, and told, only by a `steady` clock.
    /// Whether others that were over are not any more, since the clock went back.
    fn expire(&mut self, now: Timestamp, steady: bool) -> (Vec<Ban>, bool) {
        self.past.extend(self.list.expire(now));
        let past = std::mem::take(&mut self.past);
        let (back, past): (Vec<_>, _) = past.into_iter().partition(|ban| !ban.is_over(now));
        let came_back = !back.is_empty();
        if came_back {
            // What was said of a network since counts.
            self.list = kept(&back, &self.list);
        }
        if !steady {
            self.past = past;
            return (Vec::new(), came_back);
        }
        if !past.is_empty() {
            self.saving.owe();
        }
        (past, came_back)
    }

    /// Lifts what is over already, so that it does not come back either.
    fn forget_past(&mut self, network: &Prefix) {
        let before = self.past.len();
        self.past.retain(|ban| !covers(network, &ban.network));
        if self.past.len() < before {
            self.saving.owe();
        }
    }

    /// Sleeps until it is written, or could not be: then [`Warden::bans_written`] must be called.
    pub(super) async fn written(&mut self) -> Outcome {
        self.saving.done().await
    }

    /// When that has taken too long for somebody: then [`Warden::bans_are_late`] must be called.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.saving.late_at()
    }
}

impl Warden {
    pub(super) fn ban(&mut self, order: &Order, asker: Asker) {
        match self.try_to_ban(order) {
            Ok(promise) => self.save_bans(promise, asker),
            Err(why) => self.conclude(asker, Answer::Failed(why)),
        }
    }

    fn try_to_ban(&mut self, order: &Order) -> Result<Promise, String> {
        self.bans.usable()?;
        let now = Reading::now();
        let ban = order.ban(now)?;
        self.may_be_banned(&ban.network)?;
        self.change_bans(now, |list| list.put(ban.clone()))?;
        // From here on nothing new comes in; now what is in already.
        let grants =
            self.end_grants("banned", |grant| overlap(&grant.element.source, &ban.network));
        let connections = self.cut_off(&ban.network);
        self.audit.banned(&ban, grants);
        let network = ban.network;
        let answer = match connections {
            Ok(connections) => {
                Answer::Banned(report::Banned { ban: describe(&ban, now), grants, connections })
            }
            Err(error) => Answer::Failed(format!(
                "{network} is banned, but connections from before may live on: {error}"
            )),
        };
        let otherwise = format!("{network} is banned, but would not be after a restart");
        Ok(Promise { answer, otherwise })
    }

    fn may_be_banned(&mut self, network: &Prefix) -> Result<(), String> {
        let never = NEVER.map(|(address, len)| Prefix::of(address, len));
        let widest = if network.address().is_ipv4() { WIDEST.0 } else { WIDEST.1 };
        if let Some(never) = never.iter().find(|never| overlap(never, network)) {
            return Err(format!("{network} cannot be banned: {never} is nobody's in particular"));
        }
        if network.prefix_len() < widest {
            return Err(format!(
                "{network} is too wide: /{widest} is the widest that can be banned"
            ));
        }
        if let Some(trusted) = self.config.trusted.iter().find(|net| overlap(net, network)) {
            return Err(format!("{network} cannot be banned: {trusted} is trusted"));
        }
        if let Some(own) = self.host.own_in(network) {
            return Err(format!("{network} cannot be banned: {own} is this host's own"));
        }
        match self.bans.list.len() + self.bans.past.len() {
            MOST.. => Err(format!("there are {MOST} bans already: ban whole networks instead")),
            _ => Ok(()),
        }
    }

    pub(super) fn unban(&mut self, network: &str, by: Option<u32>, asker: Asker) {
        match self.try_to_unban(network, by) {
            Ok(promise) => self.save_bans(promise, asker),
            Err(why) => self.conclude(asker, Answer::Failed(why)),
        }
    }

    fn try_to_unban(&mut self, text: &str, by: Option<u32>) -> Result<Promise, String> {
        self.bans.usable()?;
        let network = spa_keys::cidr::parse(text).map_err(|error| error.to_string())?;
        let now = Reading::now();
        self.expire_bans(now);
        let mut lifted = Vec::new();
        self.change_bans(now, |list| lifted = list.lift(&network))?;
        self.bans.forget_past(&network);
        if lifted.is_empty() {
            return Err(match self.bans.list.covering(&network) {
                Some(ban) => format!("{network} is banned as part of {0}: lift {0}", ban.network),
                None => format!("{network} is not banned"),
            });
        }
        lifted.iter().for_each(|ban| self.audit.ban_ended(ban, "lifted", by));
        self.free(&lifted);
        let answer = Answer::Unbanned(lifted.iter().map(|ban| describe(ban, now)).collect());
        let otherwise = format!("{network} is lifted, but would be banned again after a restart");
        Ok(Promise { answer, otherwise })
    }

    pub(super) fn list_bans(&mut self) -> Answer {
        let now = Reading::now();
        self.expire_bans(now);
        match self.bans.usable() {
            Ok(()) => Answer::Bans(self.bans.list.iter().map(|ban| describe(ban, now)).collect()),
            Err(fault) => Answer::Failed(fault),
        }
    }

    /// Changes the list and the kernel, or neither.
    fn change_bans(&mut self, now: Reading, change: impl FnOnce(&mut Bans)) -> Result<(), String> {
        let before = self.bans.list.clone();
        change(&mut self.bans.list);
        self.tell_bans(now).map_err(|error| {
            self.bans.list = before;
            error.to_string()
        })
    }

    pub(super) fn tell_bans(&mut self, now: Reading) -> Result<(), FirewallError> {
        let Some(intervals) = self.bans.intervals(&self.config.trusted, now) else { return Ok(()) };
        self.firewall.set_banned(&intervals)?;
        self.bans.told = now;
        Ok(())
    }

    /// The ruleset that is installed next brings the bans with it.
    pub(super) fn stage_bans(&mut self, trusted: &[Prefix]) {
        let now = Reading::now();
        if let Some(intervals) = self.bans.intervals(trusted, now) {
            self.firewall.stage_banned(intervals);
            self.bans.told = now;
        }
    }

    /// Makes the kernel hold what the list says.
    pub(super) fn align_bans(&mut self) -> Result<(), FirewallError> {
        let now = Reading::now();
        let Some(wanted) = self.bans.intervals(&self.config.trusted, now) else { return Ok(()) };
        if is_same(&wanted, &self.firewall.banned()?) {
            return Ok(());
        }
        warn!("somebody has changed the bans: putting them back");
        self.tell_bans(now)
    }

    /// Every 20 seconds.
    pub(super) fn look_after_bans(&mut self, now: Reading) {
        self.expire_bans(now);
        if self.bans.is_set_anew(now) {
            info!("the clock was set: bans end by the new time");
            if let Err(error) = self.tell_bans(now) {
                error!(%error, "the bans could not be set right: tried again");
            }
        }
        self.bans.save(&mut self.ban_writer);
    }

    /// The kernel has let go of them by itself.
    fn expire_bans(&mut self, now: Reading) {
        let steady = self.steady.is(now);
        let (over, came_back) = self.bans.expire(now.wall, steady);
        over.iter().for_each(|ban| self.audit.ban_ended(ban, "its time is over", None));
        if !over.is_empty() {
            self.free(&over);
        }
        if came_back && let Err(error) = self.tell_bans(now) {
            error!(%error, "bans that have not ended after all are not in force: tried again");
            self.repair_at = Some(Instant::now() + PAUSE);
        }
    }
}

impl Order {
    fn ban(&self, now: Reading) -> Result<Ban, String> {
        let network = spa_keys::cidr::parse(&self.network).map_err(|error| error.to_string())?;
        let why = self.why.clone().unwrap_or_default();
        if why.len() > LONGEST_WHY || why.chars().any(char::is_control) {
            return Err(format!("the reason must be one line of {LONGEST_WHY} bytes at most"));
        }
        let lasts = self.seconds.map(Duration::from_secs);
        if lasts.is_some_and(|lasts| lasts.is_zero() || lasts > LONGEST) {
            return Err("a ban lasts from 1s to 3650d, or without --for until it is lifted".into());
        }
        Ok(Ban { network, since: now.wall, lasts, why, by: self.by })
    }
}

/// All of them; of one network the one in force.
fn kept(past: &[Ban], list: &Bans) -> Bans {
    let mut all = Bans::default();
    past.iter().chain(list.iter()).for_each(|ban| all.put(ban.clone()));
    all
}

/// Whether both ban the same, for the same time; what is about to end may be
/// missing in either.
fn is_same(wanted: &[Interval], found: &[Interval]) -> bool {
    let lasting = |i: &&Interval| i.left.is_none_or(|left| left > SLACK);
    let pairs = wanted.iter().filter(lasting).zip(found.iter().filter(lasting));
    let near = |a: Duration, b: Duration| a.abs_diff(b) <= SLACK;
    let same = |a: &Interval, b: &Interval| {
        let times = match (a.left, b.left) {
            (Some(a), Some(b)) => near(a, b),
            (a, b) => a == b,
        };
        (a.first, a.last) == (b.first, b.last) && times
    };
    let count = |list: &[Interval]| list.iter().filter(lasting).count();
    count(wanted) == count(found) && pairs.into_iter().all(|(a, b)| same(a, b))
}

fn describe(ban: &Ban, now: Reading) -> report::Ban {
    report::Ban {
        network: ban.network.to_string(),
        since: spa_keys::date::format(ban.since),
        expires_in_ms: ban.left(now.wall).map(millis),
        why: ban.why.clone(),
        by_uid: ban.by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_that_are_not_known_have_no_time_that_a_clock_could_change() {
        let dir = tempfile::tempdir().unwrap();
        let now = Reading::now();
        let mut later = now;
        later.wall = later.wall.plus(Duration::from_secs(3600));
        let mut bans = Register::open(dir.path(), now);
        assert!(!bans.is_set_anew(now) && bans.is_set_anew(later));
        assert!(bans.is_set_anew(later), "until the kernel was told");
        std::fs::write(dir.path().join("bans.json"), "not a list").unwrap();
        let mut bans = Register::open(dir.path(), now);
        assert!(!bans.is_set_anew(later));
        std::fs::remove_file(dir.path().join("bans.json")).unwrap();
        bans.read_again();
        assert!(bans.usable().is_ok() && !bans.is_set_anew(later));
    }

    fn ban(network: &str, now: Reading, lasts: u64) -> Ban {
        let network = spa_keys::cidr::parse(network).unwrap();
        let lasts = Some(Duration::from_secs(lasts));
        Ban { network, since: now.wall, lasts, why: String::new(), by: None }
    }

    #[test]
    fn what_a_clock_that_is_ahead_ends_is_kept_until_that_is_sure() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Reading::now());
        let mut bans = Register::open(dir.path(), now);
        let [one, other] = [ban("192.0.2.1", now, 60), ban("192.0.2.2", now, 60)];
        [&one, &other].into_iter().for_each(|ban| bans.list.put(ban.clone()));
        let ahead = now.wall.plus(Duration::from_secs(3600));
        assert_eq!(bans.expire(ahead, false), (Vec::new(), false));
        assert_eq!((bans.len(), kept(&bans.past, &bans.list).len()), (0, 2), "over, and kept");

        // Of one something else is said meanwhile.
        let newer = ban("192.0.2.1", now, 600);
        bans.list.put(newer.clone());
        assert_eq!(bans.expire(now.wall, false), (Vec::new(), true), "the clock went back");
        assert!(bans.list.iter().eq([&newer, &other]) && bans.past.is_empty());

        assert_eq!(bans.expire(ahead, false), (Vec::new(), false));
        bans.forget_past(&newer.network);
        assert_eq!(bans.expire(ahead, true), (vec![other], false), "for good");
        assert_eq!(bans.expire(now.wall, true), (Vec::new(), false));
        assert!(bans.list.is_empty() && bans.past.is_empty());
    }
}
