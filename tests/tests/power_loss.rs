//! The power fails: the run directory is gone, the boot is another one, the disk is as it was last
//! flushed, and the clock says anything. Nothing that was used works again, whatever the clock says
//! then, and who has the right time is served as docs/protocol.md §7 says.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Clock, not_shown, unix_time};
use spa_tests::product::{Client, Health, SERVER_NAME, Server, Settings, Site};

const HOUR: i64 = 3600;
const MINUTE: i64 = 60;

/// Short, so that what takes twice as long is over soon.
const TOLERANCE: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    Settings { tolerance: "10s", ..Settings::default() }
}

/// What the server's clock says when the power is back, an hour later.
#[derive(Clone, Copy, Debug)]
enum Wakes {
    Right,
    In1970,
    /// Where knocks of before the power loss are fresh again.
    HourBack,
    HourAhead,
}

impl Wakes {
    fn set(self, clock: &Clock, used: Duration) -> Result {
        match self {
            Self::Right => clock.set(HOUR),
            Self::In1970 => clock.set_to(Duration::from_secs(60)),
            Self::HourBack => clock.set_to(used),
            Self::HourAhead => clock.set(2 * HOUR),
        }
    }
}

/// A daemon by the first clock, with a client by the second that has used two knocks.
struct Scene<'site> {
    server: Server<'site>,
    alice: Client<'site>,
    health: Health<'site>,
    /// When the last knock was used.
    used: Duration,
}

impl<'site> Scene<'site> {
    fn new(site: &'site Site, own: &Clock, right: &Clock) -> Result<Self> {
        let mut server = Server::new(&site.server, SERVER_NAME, &settings())?;
        server.start_by(own)?;
        Self::with(site, server, right)
    }

    fn with(site: &'site Site, server: Server<'site>, right: &Clock) -> Result<Self> {
        let alice = site.client(&server, "alice")?.by(right);
        let health = Health::watch(site)?;
        for _ in 0..2 {
            health.served_at_once(&server, &alice, "alice")?;
        }
        Ok(Self { server, alice, health, used: unix_time()? })
    }

    /// Puts the clock back to where the used knocks are fresh: they are refused because they were
    /// used, for the reason that a start without memory has.
    fn are_refused_when_fresh(&self, own: &Clock, why: &str) -> Result {
        own.set_to(self.used)?;
        let before = self.server.counter("before-start")?;
        self.health.nothing_opens(&self.server, why)?;
        let refused = self.server.counter("before-start")? - before;
        assert!(refused >= 2, "{why}: judged by what was used, not by the time");
        Ok(())
    }

    /// All that is promised after the power is back.
    fn is_well(&mut self, own: &Clock, right: &Clock, wakes: Wakes) -> Result {
        if !matches!(wakes, Wakes::HourBack) {
            self.health.nothing_opens(&self.server, "started")?;
        }
        self.are_refused_when_fresh(own, "as fresh as they ever were")?;

        [own, right].into_iter().try_for_each(|clock| clock.set(HOUR + MINUTE))?;
        let served =
            self.health.served_within(TOLERANCE * 2, &self.server, &self.alice, "alice")?;
        println!("{wakes:?}: a minute later, set right: served {served}");
        if !matches!(wakes, Wakes::HourAhead) {
            assert_eq!(served.knocks, 1, "{wakes:?}: {served}");
        }

        // The next process finds a journal: in it is what the first has found on the disk.
        own.set_to(self.used)?;
        self.server.kill9()?;
        self.server.start_by(own)?;
        self.are_refused_when_fresh(own, "after kill -9")?;
        own.set(HOUR + MINUTE)?;
        self.health.served_at_once(&self.server, &self.alice, "alice")
    }
}

fn the_power_fails(wakes: Wakes) -> Result {
    let site = Site::new()?;
    let (own, right) = (site.lab.clock()?, site.lab.clock()?);
    let mut scene = Scene::new(&site, &own, &right)?;
    let bob = site.client(&scene.server, "bob")?.by(&own);
    let open = scene.server.descriptors()?;
    scene.server.reboot()?;
    right.set(HOUR)?;
    wakes.set(&own, scene.used)?;
    scene.server.start_by(&own)?;
    // Whoever has never knocked before has nothing that could be a replay.
    scene.health.served_at_once(&scene.server, &bob, "bob")?;
    scene.is_well(&own, &right, wakes)?;
    scene.health.all_is_well(&scene.server, open, "afterwards")
}

#[test]
fn the_clock_is_right_afterwards() -> Result {
    the_power_fails(Wakes::Right)
}

#[test]
fn the_clock_is_in_1970_afterwards() -> Result {
    the_power_fails(Wakes::In1970)
}

#[test]
fn the_clock_is_an_hour_back_afterwards() -> Result {
    the_power_fails(Wakes::HourBack)
}

#[test]
fn the_clock_is_an_hour_ahead_afterwards() -> Result {
    the_power_fails(Wakes::HourAhead)
}

/// With a real file system whose unflushed pages are lost. Where the clock says 1970, nothing but
/// what is on the disk can tell what was used.
fn the_power_fails_and_what_was_not_flushed_is_lost(wakes: Wakes) -> Result {
    let site = Site::new()?;
    let (own, right) = (site.lab.clock()?, site.lab.clock()?);
    let mut server = Server::new(&site.server, SERVER_NAME, &settings())?;
    let Some(disk) = site.server.disk(server.dir())? else {
        return not_shown("this user cannot mount a disk");
    };
    server.start_by(&own)?;
    let mut scene = Scene::with(&site, server, &right)?;
    let open = scene.server.descriptors()?;
    let unflushed = scene.server.dir().join("unflushed");
    site.server.sh(&format!("echo lost > {}", unflushed.display()))?.ok()?;
    scene.server.reboot()?;
    disk.cut()?;
    let left = site.server.sh(&format!("cat {}", unflushed.display()))?;
    assert_ne!(left.text(), "lost", "control: what nobody flushed is gone");
    right.set(HOUR)?;
    wakes.set(&own, scene.used)?;
    scene.server.start_by(&own)?;
    scene.is_well(&own, &right, wakes)?;
    scene.health.all_is_well(&scene.server, open, "afterwards")
}

#[test]
fn what_was_not_flushed_is_lost_and_the_clock_is_right_afterwards() -> Result {
    the_power_fails_and_what_was_not_flushed_is_lost(Wakes::Right)
}

#[test]
fn what_was_not_flushed_is_lost_and_the_clock_is_in_1970_afterwards() -> Result {
    the_power_fails_and_what_was_not_flushed_is_lost(Wakes::In1970)
}

#[test]
fn what_was_not_flushed_is_lost_and_the_clock_is_an_hour_back_afterwards() -> Result {
    the_power_fails_and_what_was_not_flushed_is_lost(Wakes::HourBack)
}

#[test]
fn what_was_not_flushed_is_lost_and_the_clock_is_an_hour_ahead_afterwards() -> Result {
    the_power_fails_and_what_was_not_flushed_is_lost(Wakes::HourAhead)
}

/// What protocol §7 says of server and client that were wrong alike: the lease has gone where they
/// were, and after a power loss that client waits, or gets a new record.
#[test]
fn who_was_an_hour_ahead_with_the_server_needs_a_new_record_after_a_power_loss() -> Result {
    let site = Site::new()?;
    let clock = site.lab.clock()?;
    let mut scene = Scene::new(&site, &clock, &clock)?;
    clock.set(HOUR)?;
    scene.health.served_at_once(&scene.server, &scene.alice, "alice")?;
    clock.set(0)?;
    scene.health.served_at_once(&scene.server, &scene.alice, "alice")?;
    scene.server.reboot()?;
    scene.server.start_by(&clock)?;
    clock.set(10 * MINUTE)?;
    scene.health.nothing_opens(&scene.server, "started")?;
    site.refused(&scene.server, &scene.alice, &[], "before-start")?;
    let anew = site.client(&scene.server, "alice-anew")?.by(&clock);
    scene.health.served_at_once(&scene.server, &anew, "alice-anew")?;
    clock.set(HOUR + 3 * MINUTE)?;
    scene.health.served_at_once(&scene.server, &scene.alice, "alice")
}

/// As it is with the default tolerance and clocks that are right, in full length: served again
/// within this time after a power loss.
fn served_again(limit: Duration, loses: &str) -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let health = Health::watch(&site)?;
    health.served_at_once(&server, &alice, "alice")?;
    server.reboot()?;
    site.server.sh(&format!("cd {} && {loses}", server.dir().display()))?.ok()?;
    server.start()?;
    health.nothing_opens(&server, "started")?;
    let served = health.served_within(limit, &server, &alice, "alice")?;
    println!("power loss, {loses}: served {served}");
    health.nothing_opens(&server, "served")
}

#[test]
#[ignore = "takes a minute and a half: make soak"]
fn after_a_power_loss_a_client_is_served_within_ninety_seconds() -> Result {
    served_again(Duration::from_secs(90), "true")
}

#[test]
#[ignore = "takes half a minute: make soak"]
fn after_the_state_directory_was_lost_a_client_is_served_within_a_minute() -> Result {
    served_again(Duration::from_secs(60), "rm -r state")
}
