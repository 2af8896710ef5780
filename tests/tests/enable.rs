//! Installed from a package, spad shuts nothing until an administrator says so; and
//! what was put in force on trial is open again by itself, whatever becomes of spad.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::{Doing, Hold, Output, Running};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::until;

/// How long trials last that are to end: longer than looking at them takes.
const TRIAL: Duration = Duration::from_secs(10);
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A spad as the package starts it: it hears knocks, and shuts nothing.
fn not_enabled<'site>(site: &'site Site, firewall: &str) -> Result<Server<'site>> {
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let top = "enforce = \"when-enabled\"\nmetrics = \"127.0.0.1:9743\"\n";
    let config = format!("{top}{}{firewall}", server.config());
    server.write_config(&config)?;
    launch(&mut server)?;
    Ok(server)
}

/// What monitoring is told of the ruleset.
fn in_force_by_metrics(server: &Server) -> Result<bool> {
    let text = server.host().sh("curl -sS -m 5 http://127.0.0.1:9743/metrics")?.ok()?.stdout;
    Ok(text.lines().any(|line| line == "spad_ruleset_in_force 1"))
}

/// Waits until knocks are heard; status says 1 as long as nothing is shut.
fn launch(server: &mut Server) -> Result {
    server.launch()?;
    until("knocks are heard", PATIENCE, || {
        let status = server.spad(&["status"])?;
        Ok(status.stdout.contains("listening on") && !status.stdout.contains("NOT LISTENING"))
    })?;
    Ok(())
}

/// Begins a trial of [`TRIAL`].
fn try_out(server: &Server) -> Result<Instant> {
    let begun = Instant::now();
    server.spad(&["enable", "--confirm-within", "10s"])?.ok()?;
    Ok(begun)
}

fn is_shut(site: &Site) -> Result<bool> {
    Ok(!site.reaches(&site.stranger, 22)?)
}

/// What a stranger and the tables of others see.
fn assert_open(site: &Site, why: &str) -> Result {
    assert!(!is_shut(site)?, "{why}");
    Ok(())
}

fn refused(said: &Output, part: &str) {
    assert!(said.code() == Some(1) && said.stderr.contains(part), "{said}");
}

#[test]
fn nothing_is_shut_until_it_is_enabled_and_from_then_on_it_stays() -> Result {
    for own in [true, false] {
        let site = Site::new()?;
        let firewall = format!("[firewall]\nown-table = {own}\n");
        let mut server = not_enabled(&site, &firewall)?;
        assert_open(&site, "not enabled")?;
        let status = server.spad(&["status"])?;
        assert!(status.code() == Some(1) && status.stdout.contains("NOT IN FORCE"), "{status}");
        assert!(!in_force_by_metrics(&server)?, "and whoever is on call hears of it");
        assert!(server.spad(&["close"])?.success());
        refused(&server.spad(&["enable"])?, "no client");
        assert_open(&site, "refused")?;

        let alice = site.client(&server, "alice")?;
        let mut session = site.stranger.hold((site.address(), 22))?;
        server.spad(&["enable"])?.ok()?;
        assert!(is_shut(&site)? && session.is_alive("from before"), "who is in stays");
        assert!(in_force_by_metrics(&server)?);
        server.spad(&["status"])?.ok()?;
        site.open(&server, &alice, &["--ttl", "2s"])?;
        let again = server.spad(&["enable", "--confirm-within", "1s", "--json"])?.ok()?;
        assert!(
            again.stdout.contains("\"already\": true"),
            "no trial for what is confirmed: {again}"
        );
        server.spad(&["confirm"])?.ok()?;

        server.restart()?;
        assert!(is_shut(&site)?, "after a restart");
        server.reboot()?;
        assert_open(&site, "control: a machine without rules")?;
        server.spad(&["close"])?.ok()?;
        assert!(is_shut(&site)?, "before spad runs");
        server.start()?;
        assert!(is_shut(&site)?, "after a reboot");
    }
    Ok(())
}

/// A knock is heard before anything is shut, so that it can be tried first.
#[test]
fn a_knock_can_be_tried_before_anything_is_shut() -> Result {
    let site = Site::new()?;
    let server = not_enabled(&site, "")?;
    let alice = site.client(&server, "alice")?;
    let said = server.spad(&["enable", "--confirm-within", "1s"])?.ok()?;
    assert!(said.stderr.contains("no knock has been granted"), "{said}");
    until("it is open again", PATIENCE, || Ok(!is_shut(&site)?))?;
    site.grant(&server, &alice, &["--ttl", "5m"])?;
    let said = server.spad(&["enable", "--confirm-within", "1h"])?.ok()?;
    assert_eq!(said.stderr, "");
    assert!(site.reaches(&site.client, 22)? && is_shut(&site)?, "what was granted before counts");
    server.spad(&["confirm"])?.ok()?;
    assert!(site.reaches(&site.client, 22)?, "grants live on");
    Ok(())
}

#[test]
fn unconfirmed_it_is_open_again_and_can_be_tried_once_more() -> Result {
    let site = Site::new()?;
    let server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    let before = server.kernel_table()?;
    let begun = try_out(&server)?;
    let status = server.spad(&["status"])?;
    let shut = is_shut(&site)? && status.success() && status.stdout.contains("OPEN AGAIN in");
    assert!(shut || begun.elapsed() > TRIAL, "{status}");
    until("it is open again", PATIENCE, || Ok(!is_shut(&site)?))?;
    until("the table is as before", PATIENCE, || {
        Ok(rules(&server.kernel_table()?) == rules(&before))
    })?;
    refused(&server.spad(&["confirm"])?, "nothing to confirm");
    server.spad(&["enable", "--confirm-within", "1h"])?.ok()?;
    assert!(is_shut(&site)?);
    server.spad(&["confirm"])?.ok()?;
    assert!(!server.spad(&["status"])?.ok()?.stdout.contains("OPEN AGAIN"));
    Ok(())
}

/// Without what counts, and without connections.
fn rules(table: &str) -> Vec<String> {
    let counted = |word: &&str| word.parse::<u64>().is_err();
    let line = |line: &str| line.split(' ').filter(counted).collect::<Vec<_>>().join(" ");
    table.lines().filter(|line| line.contains("counter")).map(line).collect()
}

/// Nobody is left to see to it but the kernel.
#[test]
fn unconfirmed_it_is_open_again_though_spad_is_dead() -> Result {
    for own in [true, false] {
        let site = Site::new()?;
        let mut server = not_enabled(&site, &format!("[firewall]\nown-table = {own}\n"))?;
        site.client(&server, "alice")?;
        let begun = try_out(&server)?;
        server.kill9()?;
        assert!(is_shut(&site)? || begun.elapsed() > TRIAL, "shut as long as the trial lasts");
        until("it is open again", PATIENCE, || Ok(!is_shut(&site)?))?;
        launch(&mut server)?;
        assert_open(&site, "and a new start shuts nothing")?;
    }
    Ok(())
}

#[test]
fn a_trial_goes_on_in_a_spad_that_is_started_meanwhile() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable", "--confirm-within", "1h"])?.ok()?;
    server.kill9()?;
    launch(&mut server)?;
    assert!(is_shut(&site)?);
    let status = server.spad(&["status"])?.ok()?;
    assert!(status.stdout.contains("OPEN AGAIN in"), "{status}");
    server.spad(&["confirm"])?.ok()?;
    server.kill9()?;
    server.start()?;
    assert!(is_shut(&site)?, "confirmed");
    Ok(())
}

#[test]
fn a_reboot_ends_a_trial() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable", "--confirm-within", "1h"])?.ok()?;
    server.reboot()?;
    let said = server.spad(&["close"])?.ok()?;
    assert!(said.stdout.contains("nothing to shut"), "{said}");
    launch(&mut server)?;
    assert_open(&site, "nobody has confirmed it")?;
    Ok(())
}

/// A trial is for what was open: it never opens what was confirmed once.
#[test]
fn what_was_confirmed_is_not_opened_by_a_trial() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable"])?.ok()?;
    server.spad(&["stop", "--open"])?.ok()?;
    server.wait()?;
    assert_open(&site, "an administrator wanted it so")?;
    server.start()?;
    server.spad(&["enable", "--confirm-within", "1s"])?.ok()?;
    std::thread::sleep(Duration::from_secs(2));
    assert!(is_shut(&site)?);
    Ok(())
}

/// The reverse of enable: open, also after a restart and a reboot, and nothing is lost.
#[test]
fn disabled_it_is_as_before_it_was_enabled() -> Result {
    for own in [true, false] {
        let site = Site::new()?;
        let mut server = not_enabled(&site, &format!("[firewall]\nown-table = {own}\n"))?;
        let alice = site.client(&server, "alice")?;
        server.spad(&["enable"])?.ok()?;
        refused(&server.spad(&["disable"])?, "opens to everybody: ssh (tcp/22)");
        assert!(is_shut(&site)?, "nobody was there to be asked");

        let said = server.spad(&["disable", "--yes"])?.ok()?;
        assert!(said.stdout.contains("ssh (tcp/22) open to everybody"), "{said}");
        assert_open(&site, "disabled")?;
        let status = server.spad(&["status"])?;
        assert!(status.code() == Some(1) && status.stdout.contains("NOT IN FORCE"), "{status}");
        let again = server.spad(&["disable", "--yes", "--json"])?.ok()?;
        assert!(again.stdout.contains("\"already\": true"), "{again}");
        server.kill9()?;
        launch(&mut server)?;
        assert_open(&site, "after a restart")?;

        let mut session = site.stranger.hold((site.address(), 22))?;
        site.grant(&server, &alice, &["--ttl", "5m"])?;
        server.spad(&["enable"])?.ok()?;
        assert!(is_shut(&site)? && session.is_alive("from meanwhile"), "who is in stays");
        assert!(site.reaches(&site.client, 22)?, "what was granted meanwhile counts");

        server.spad(&["disable", "--yes"])?.ok()?;
        server.reboot()?;
        let said = server.spad(&["close"])?.ok()?;
        assert!(said.stdout.contains("nothing to shut"), "{said}");
        launch(&mut server)?;
        assert_open(&site, "after a reboot")?;
    }
    Ok(())
}

#[test]
fn a_trial_can_be_ended_before_its_time() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable", "--confirm-within", "1h"])?.ok()?;
    assert!(is_shut(&site)?);
    server.spad(&["disable", "--yes"])?.ok()?;
    assert_open(&site, "the trial is over")?;
    refused(&server.spad(&["confirm"])?, "nothing to confirm");
    server.kill9()?;
    launch(&mut server)?;
    assert_open(&site, "and no spad goes on with it")?;
    Ok(())
}

/// As when spad does not start, and somebody has to get in.
#[test]
fn it_is_disabled_also_where_no_spad_runs() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable"])?.ok()?;
    server.kill9()?;
    assert!(is_shut(&site)?);
    let said = server.spad(&["disable", "--yes"])?.ok()?;
    assert!(said.stdout.contains("no spad is running"), "{said}");
    assert_open(&site, "disabled")?;
    assert!(server.spad(&["close"])?.ok()?.stdout.contains("nothing to shut"));
    launch(&mut server)?;
    assert_open(&site, "and a new start shuts nothing")?;
    Ok(())
}

/// Holds what a spad holds while it starts, until it is dropped.
fn turn_taken(site: &Site) -> Result<Running> {
    let held = site.server.spawn(["flock", "--no-fork", "/run/spad/turn", "sleep", "600"])?;
    until("somebody else holds it", PATIENCE, || {
        Ok(!site.server.sh("flock --nonblock /run/spad/turn true")?.success())
    })?;
    Ok(held)
}

#[test]
fn one_that_starts_and_one_that_disables_wait_for_each_other() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable"])?.ok()?;
    server.kill9()?;
    let held = turn_taken(&site)?;
    refused(&server.spad(&["disable", "--yes"])?, "nothing has changed: another spad");
    assert!(is_shut(&site)? && server.dir().join("state/ruleset").exists());
    // To be shut is worth more than to be alone.
    launch(&mut server)?;
    assert!(is_shut(&site)? && server.log().contains("another spad"), "{}", server.log());
    drop(held);
    server.spad(&["disable", "--yes"])?.ok()?;
    assert_open(&site, "disabled by the one that runs")
}

/// Whenever it comes: either all is open, and stays so, or all is as it was.
#[test]
fn what_disable_says_holds_also_while_a_spad_starts() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    for delay in [0, 10, 20, 30, 40, 50, 70, 100] {
        server.spad(&["enable"])?.ok()?;
        server.kill9()?;
        server.launch()?;
        std::thread::sleep(Duration::from_millis(delay));
        let said = server.spad(&["disable", "--yes"])?;
        until("one spad runs", PATIENCE, || Ok(server.spad(&["status"])?.code() != Some(3)))?;
        let kept = server.dir().join("state/ruleset").exists();
        let shut = is_shut(&site)?;
        assert_eq!((shut, kept), (!said.success(), !said.success()), "after {delay} ms: {said}");
    }
    Ok(())
}

/// As on a disk that fails: what is renamed and removed there is, but nobody knows for how long.
fn cannot_be_flushed(server: &Server, so: bool) -> Result {
    let mode = if so { 0o300 } else { 0o700 };
    fs::set_permissions(server.dir().join("state"), fs::Permissions::from_mode(mode))
        .doing("changing what may be done in state-dir")
}

#[test]
fn what_cannot_be_forgotten_for_certain_is_kept_again() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable"])?.ok()?;
    cannot_be_flushed(&server, true)?;
    refused(&server.spad(&["disable", "--yes"])?, "whether a reboot opens is not certain");
    cannot_be_flushed(&server, false)?;
    assert!(is_shut(&site)?);
    server.spad(&["status"])?.ok()?;
    server.reboot()?;
    server.spad(&["close"])?.ok()?;
    assert!(is_shut(&site)?, "after a reboot too");
    Ok(())
}

#[test]
fn what_cannot_be_kept_for_certain_is_forgotten_again() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    let kept = server.dir().join("state/ruleset");
    for trial in [false, true] {
        if trial {
            server.spad(&["enable", "--confirm-within", "1h"])?.ok()?;
        }
        cannot_be_flushed(&server, true)?;
        let command = if trial { "confirm" } else { "enable" };
        refused(&server.spad(&[command])?, "whether a reboot shuts is not certain");
        cannot_be_flushed(&server, false)?;
        assert!(is_shut(&site)? == trial && !kept.exists(), "as before");
    }
    server.spad(&["disable", "--yes"])?.ok()?;

    // One that is there all the same goes, whatever this spad thinks.
    fs::write(&kept, "not a ruleset").doing("writing state/ruleset")?;
    let said = server.spad(&["disable", "--yes", "--json"])?.ok()?;
    assert!(said.stdout.contains("\"already\": true") && !kept.exists(), "{said}");
    server.kill9()?;
    launch(&mut server)?;
    assert_open(&site, "after a restart")
}

#[test]
fn it_stays_shut_though_what_was_kept_of_it_is_gone() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    server.spad(&["enable"])?.ok()?;
    let kept = ["ruleset", "ruleset.previous"].map(|name| server.dir().join("state").join(name));
    let lose = || kept.iter().for_each(|file| drop(fs::remove_file(file)));
    lose();
    server.spad(&["reload"])?.ok()?;
    assert!(is_shut(&site)? && kept[0].exists(), "after a reload, and it is kept again");
    lose();
    server.kill9()?;
    launch(&mut server)?;
    assert!(is_shut(&site)? && kept[0].exists(), "after a restart");
    lose();
    server.spad(&["disable", "--yes"])?.ok()?;
    assert_open(&site, "by an administrator's word")?;
    server.spad(&["reload"])?.ok()?;
    assert_open(&site, "and stays so")
}

/// A restart that is told to shut, as `spad enable` is: nobody's own session ends by it.
#[test]
fn who_is_in_stays_where_a_restart_shuts() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    let session = site.stranger.hold((site.address(), 22))?;
    server.stop()?;
    assert_lives_on(&site, &mut server, session)
}

/// A start with a configuration that shuts, and who came in before it.
fn assert_lives_on(site: &Site, server: &mut Server, mut session: Hold) -> Result {
    // Without the line that leaves it to an administrator.
    server.write_config(&server.config())?;
    server.start()?;
    assert!(is_shut(site)? && session.is_alive("from before"));
    Ok(())
}

/// As well where it was on trial, and has opened again by itself since.
#[test]
fn who_came_in_after_a_trial_stays_where_a_start_shuts() -> Result {
    let site = Site::new()?;
    let mut server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    let begun = try_out(&server)?;
    assert!(is_shut(&site)?);
    server.kill9()?;
    until("the trial is over", TRIAL * 3, || Ok(begun.elapsed() > TRIAL && !is_shut(&site)?))?;
    let session = site.stranger.hold((site.address(), 22))?;
    assert_lives_on(&site, &mut server, session)
}

/// It shuts nothing, and is no administrator's word.
#[test]
fn mode_attach_before_does_not_enable() -> Result {
    let site = Site::new()?;
    site.server.sh("nft add table inet filter")?.ok()?;
    let chain = "'{ type filter hook input priority 0; policy accept; }'";
    site.server.sh(&format!("nft add chain inet filter input {chain}"))?.ok()?;
    let attach = "[firewall]\nmode = \"attach\"\nattach = [\"inet filter input\"]\n";
    let mut server = not_enabled(&site, attach)?;
    let config = fs::read_to_string(server.config_path()).doing("reading spad.toml")?;
    assert!(!server.dir().join("state/ruleset").exists(), "nothing is kept for the next boot");
    let guard = config.replace(attach, "");
    server.write_config(&guard)?;
    server.spad(&["reload"])?.ok()?;
    assert_open(&site, "after a reload")?;
    server.write_config(&config)?;
    server.spad(&["reload"])?.ok()?;
    server.kill9()?;
    server.write_config(&guard)?;
    launch(&mut server)?;
    assert_open(&site, "after a restart")?;
    assert_eq!(server.spad(&["status"])?.code(), Some(1), "and it says so");
    Ok(())
}

#[test]
fn what_is_always_in_force_cannot_be_disabled() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    refused(&server.spad(&["disable", "--yes"])?, "enforce = \"when-enabled\"");
    assert!(is_shut(&site)?);
    let unasked = server.spad(&["disable"])?;
    refused(&unasked, "enforce = \"when-enabled\"");
    assert!(!unasked.stderr.contains("opens to everybody"), "{unasked}");
    for words in [&["enable"][..], &["enable", "--confirm-within", "5s"], &["confirm"]] {
        let said = server.spad(words)?.ok()?.stdout;
        assert!(said.starts_with("in force already: ssh (tcp/22) shut") && said.contains("always"));
        assert!(!said.contains("spad disable"), "no way back from here: {said}");
    }
    server.stop()?;
    refused(&server.spad(&["disable", "--yes"])?, "enforce = \"when-enabled\"");
    assert!(is_shut(&site)?);
    Ok(())
}

#[test]
fn what_nobody_listens_on_and_ssh_elsewhere_are_told() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let config =
        format!("enforce = \"when-enabled\"\n{}[service.nas]\nport = 4443\n", server.config());
    server.write_config(&config)?;
    launch(&mut server)?;
    site.client(&server, "alice")?;
    let spad = spa_tests::lab::program("spad")?;
    let said = site.server.sh(&format!(
        "SSH_CONNECTION='192.0.2.9 50000 192.0.2.1 2222' {} enable --config {}",
        spad.display(),
        server.config_path().display()
    ))?;
    assert!(said.stderr.contains("nobody listens on tcp/4443"), "{said}");
    assert!(!said.stderr.contains("tcp/22 "), "somebody listens there: {said}");
    assert!(said.stderr.contains("ssh is on port 2222, which no service has"), "{said}");
    Ok(())
}

#[test]
fn the_callers_own_session_is_spoken_of() -> Result {
    let site = Site::new()?;
    let server = not_enabled(&site, "")?;
    site.client(&server, "alice")?;
    let mut session = site.client.hold((site.address(), 22))?;
    let from = site.client.v4()?.to_string();
    let spad = spa_tests::lab::program("spad")?;
    let said = site.server.sh(&format!(
        "SSH_CONNECTION='{from} 50000 {} 22' {} enable --confirm-within 1h --config {}",
        site.address(),
        spad.display(),
        server.config_path().display()
    ))?;
    assert!(
        said.stderr.contains(&format!("your session from {from} to port 22 lives on")),
        "{said}"
    );
    assert!(session.is_alive("from before"));
    Ok(())
}
