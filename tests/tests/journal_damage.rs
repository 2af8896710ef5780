//! Damage to journal and lease, while the daemon is dead and while it runs: what is not whole is
//! not believed, and nothing that was used works again.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Clock, not_shown, unix_time};
use spa_tests::product::health::are_quiet;
use spa_tests::product::{Client, Health, SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

const MINUTE: i64 = 60;

/// What can happen to a file, as a shell script about `$1`; nothing of it is believed afterwards.
const DAMAGE: [(&str, &str); 9] = [
    ("cut", "truncate -s -128 $1"),
    ("cut within an entry", "truncate -s 200 $1"),
    ("emptied", "truncate -s 0 $1"),
    ("removed", "rm $1"),
    ("garbage at the end", "head -c 4096 /dev/urandom >> $1"),
    ("garbage instead", "head -c 65536 /dev/urandom > $1"),
    ("copied", "cp $1 $1.copy && mv $1.copy $1"),
    ("a link to a copy", "cp $1 $1.copy && ln -sf $1.copy $1"),
    ("a pipe", "rm $1 && mkfifo $1"),
];

/// A write that the death of its writer has torn: some bytes after the last entry.
const TORN: &str = "python3 -c 'import sys
file = open(sys.argv[1], \"r+b\")
data = file.read()
last = max(at for at in range(0, len(data), 128) if any(data[at:at + 128]))
file.seek(last + 128)
file.write(b\"torn\" * 19)' $1";

struct Scene<'site> {
    server: Server<'site>,
    alice: Client<'site>,
    health: Health<'site>,
    /// Descriptors before anything happened.
    open: [u64; 2],
    /// Of server and client.
    clock: Clock,
    /// By how much it is ahead.
    ahead: i64,
}

impl<'site> Scene<'site> {
    fn new(site: &'site Site) -> Result<Self> {
        let clock = site.lab.clock()?;
        let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
        server.start_by(&clock)?;
        let alice = site.client(&server, "alice")?.by(&clock);
        let health = Health::watch(site)?;
        health.served_at_once(&server, &alice, "alice")?;
        let open = server.descriptors()?;
        Ok(Self { server, alice, health, open, clock, ahead: 0 })
    }

    fn is_well(&self, why: &str) -> Result {
        self.health.all_is_well(&self.server, self.open, why)
    }

    fn is_served(&self) -> Result {
        self.health.served_at_once(&self.server, &self.alice, "alice")
    }

    /// A script about the only file of this kind: `/run/spad/journal-*`.
    fn to_file(&self, pattern: &str, script: &str) -> Result {
        self.server.host().sh(&format!("set -- {pattern}; {script}"))?.ok()?;
        Ok(())
    }

    fn lease(&self) -> String {
        format!("{}/state/lease-*", self.server.dir().display())
    }

    /// Uses a knock, damages the journal while the daemon is dead, and starts it while that knock
    /// is fresh.
    fn damaged_while_dead(&mut self, script: &str) -> Result {
        self.is_served()?;
        let used = unix_time()?;
        self.server.kill9()?;
        self.to_file("/run/spad/journal-*", script)?;
        self.start_at(used)
    }

    /// Starts the daemon, and has what was used at this moment fresh again.
    fn start_at(&mut self, used: Duration) -> Result {
        let moment = used + Duration::from_secs(self.ahead.unsigned_abs());
        self.clock.set_to(moment)?;
        self.server.start_by(&self.clock)?;
        self.clock.set_to(moment)
    }

    /// Two minutes later, beyond the lease and twice the tolerance.
    fn later(&mut self) -> Result {
        self.ahead += 2 * MINUTE;
        self.clock.set(self.ahead)
    }
}

#[test]
fn a_damaged_journal_is_another_start() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    for (name, script) in DAMAGE {
        scene.damaged_while_dead(script)?;
        scene.is_well(name)?;
        let judged = scene.server.counter("before-start")?;
        assert!(judged > 0, "{name}: what was used is not known");
        scene.later()?;
        scene.is_served()?;
    }
    Ok(())
}

/// The run directory is on a disk, against the advice: the journal is there after the power loss.
#[test]
fn a_journal_of_another_boot_is_none() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    site.server.new_boot_id()?;
    scene.damaged_while_dead("true")?;
    scene.is_well("another boot")?;
    assert!(scene.server.counter("before-start")? > 0, "what was used is not believed");
    scene.later()?;
    scene.is_served()
}

#[test]
fn a_torn_last_entry_costs_nothing() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    scene.damaged_while_dead(TORN)?;
    scene.is_well("torn")?;
    assert_eq!(scene.server.counter("before-start")?, 0, "the journal was read");
    scene.is_served()
}

#[test]
fn a_directory_in_place_of_the_journal_is_named_and_everything_stays_shut() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    scene.server.kill9()?;
    scene.to_file("/run/spad/journal-*", "rm $1 && mkdir $1")?;
    scene.server.launch()?;
    assert!(!scene.server.wait()?.success());
    assert!(
        scene.server.log().contains("cannot open /run/spad/journal-"),
        "{}",
        scene.server.log()
    );
    scene.health.strangers_stay_out("no daemon runs")?;
    scene.to_file("/run/spad/journal-*", "rmdir $1")?;
    scene.server.start_by(&scene.clock)?;
    scene.is_well("without a journal")?;
    scene.later()?;
    scene.is_served()
}

/// The daemon goes on with the file that it has open; the next one finds what is left of it.
#[test]
fn a_journal_damaged_under_a_running_daemon_revives_nothing() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    // Every other one: each takes a start and a restart.
    for (name, script) in DAMAGE.into_iter().step_by(2) {
        scene.to_file("/run/spad/journal-*", script)?;
        scene.is_served()?;
        scene.is_well(name)?;
        let used = unix_time()?;
        scene.server.kill9()?;
        scene.start_at(used)?;
        scene.is_well(name)?;
        assert!(scene.server.counter("before-start")? > 0, "{name}: what was used is not known");
        scene.later()?;
        scene.is_served()?;
    }
    Ok(())
}

#[test]
fn a_lease_that_says_nothing_stops_the_start_and_says_what_to_do() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    scene.server.reboot()?;
    for script in ["truncate -s 0 $1", "head -c 8192 /dev/urandom > $1", "rm $1 && mkdir $1"] {
        let lines = scene.server.log().lines().count();
        scene.to_file(&scene.lease(), script)?;
        scene.server.launch()?;
        assert!(!scene.server.wait()?.success(), "{script}");
        let said: Vec<_> = scene.server.log().lines().skip(lines).map(str::to_owned).collect();
        assert!(said.iter().any(|line| line.contains("both copies are damaged")), "{said:?}");
        scene.health.strangers_stay_out(script)?;
    }
    scene.to_file(&scene.lease(), "rmdir $1")?;
    scene.server.start_by(&scene.clock)?;
    scene.is_well("without a lease")?;
    scene.later()?;
    scene.is_served()
}

/// The lock is gone with the directory; the table is not.
#[test]
fn a_second_daemon_is_refused_also_where_the_run_directory_was_removed() -> Result {
    let site = Site::new()?;
    let mut scene = Scene::new(&site)?;
    if !scene.server.status()?["ruleset"]["owned"].as_bool().unwrap_or_default() {
        return not_shown("this kernel knows no owners that persist");
    }
    let pids = scene.server.pids()?;
    site.server.sh("rm -r /run/spad")?.ok()?;
    let second = scene.server.spad(&["run"])?;
    assert!(!second.success() && second.stderr.contains("is another spad running?"), "{second}");
    scene.health.strangers_stay_out("the first one is there")?;
    scene.alice.knock(&[])?.ok()?;
    until("the first one serves", SOON, || site.reaches(&site.client, 22))?;
    // Its control socket has gone with the directory.
    are_quiet(&site.server, &pids, "the first one")?;
    scene.server.kill9()?;
    scene.server.start_by(&scene.clock)?;
    scene.is_well("started again")?;
    scene.later()?;
    scene.is_served()
}
