//! After a reboot: shut before the first interface is up, whatever else is broken.

use std::fs;
use std::path::Path;

use spa_tests::Result;
use spa_tests::lab::{Host, Output, Stormed, not_shown, program};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// A host that has just booted: spad has run here, no interface is up, the table is gone.
fn booted(site: &Site) -> Result<Server<'_>> {
    let mut server = site.spad()?;
    site.server.ip("link set eth0 down\n")?;
    server.reboot()?;
    Ok(server)
}

fn network_comes_up(host: &Host) -> Result {
    let v6 = host.v6()?;
    // The kernel has forgotten the IPv6 address with the link.
    host.ip(&format!("link set eth0 up\naddress add {v6}/64 dev eth0 nodad\n"))
}

fn break_configuration(server: &Server) -> Result {
    server.write_config(&format!("broken = true\n{}[[\n", server.config()))
}

fn spoil(file: &Path) -> Result {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(file, bytes)?)
}

#[test]
fn shut_from_the_first_packet_with_a_broken_configuration_and_no_keys() -> Result {
    let site = Site::new()?;
    let mut server = booted(&site)?;
    break_configuration(&server)?;
    let keys = server.dir().join("keys");
    fs::rename(&keys, server.dir().join("away"))?;
    let before = site.server.passive_opens()?;
    let storms = [site.server.v4()?, site.server.v6()?]
        .map(|address| site.stranger.storm((address, 22)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;

    let said = server.spad(&["close"])?.ok()?;
    assert!(said.stdout.contains("last in force"), "{said}");
    network_comes_up(&site.server)?;
    until("the network is there", SOON * 3, || {
        Ok(site.stranger.run(["ping", "-c1", "-W1", &site.address().to_string()])?.success())
    })?;
    server.launch()?;
    assert!(!server.wait()?.success(), "the configuration is broken");
    fs::rename(server.dir().join("away"), &keys)?;
    server.write_config(&server.config())?;
    server.start()?;
    assert!(server.log().contains("origin=Adopted existing=0"), "{}", server.log());
    for storm in storms {
        let stormed = storm.finish()?;
        println!("{stormed:?}");
        assert_eq!(stormed.open, 0, "{stormed:?}");
        assert!(stormed.tries > 1000, "{stormed:?}");
    }
    assert_eq!(site.server.passive_opens()?, before, "the server's own count");

    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

/// The control: without `spad close` the same packets come in.
#[test]
fn without_it_the_port_is_open_until_spad_starts() -> Result {
    let site = Site::new()?;
    let mut server = booted(&site)?;
    let storm = site.stranger.storm((site.server.v4()?, 22))?;
    network_comes_up(&site.server)?;
    until("it is open", SOON * 3, || site.reaches(&site.stranger, 22))?;
    server.start()?;
    let Stormed { open, .. } = storm.finish()?;
    assert!(open > 0, "{open} came in");
    Ok(())
}

#[test]
fn what_is_kept_needs_no_program_beside_spad() -> Result {
    let site = Site::new()?;
    let server = booted(&site)?;
    let spad = program("spad")?;
    let config = server.config_path();
    let words =
        ["env", "-i", &*spad.to_string_lossy(), "close", "--config", &*config.to_string_lossy()];
    site.server.run(words)?.ok()?;
    network_comes_up(&site.server)?;
    assert!(!site.reaches(&site.stranger, 22)?);
    Ok(())
}

/// What `spad close` does after things were spoiled: what it said, and whether the port is shut.
fn close_after(spoil: impl Fn(&Server, &Path) -> Result) -> Result<(Output, bool)> {
    let site = Site::new()?;
    let mut server = site.spad()?;
    // A second ruleset, so that there is one before the last.
    let more = "[firewall]\nmax-grants = 1000\n".to_owned();
    server.configure(&Settings { more, ..Settings::default() })?;
    server.spad(&["reload"])?.ok()?;
    server.reboot()?;
    spoil(&server, &server.dir().join("state"))?;
    let said = server.spad(&["close"])?;
    Ok((said, !site.reaches(&site.stranger, 22)?))
}

#[test]
fn a_damaged_ruleset_is_made_up_for_by_the_configuration() -> Result {
    let (said, shut) = close_after(|_, state| spoil(&state.join("ruleset")))?;
    assert!(shut && said.clone().ok()?.stdout.contains("configuration asks for"), "{said}");
    assert!(said.stderr.contains("state/ruleset cannot be used"), "{said}");
    Ok(())
}

#[test]
fn a_damaged_ruleset_and_a_broken_configuration_are_made_up_for_by_the_one_before() -> Result {
    let (said, shut) = close_after(|server, state| {
        break_configuration(server)?;
        spoil(&state.join("ruleset"))
    })?;
    assert!(shut && said.clone().ok()?.stdout.contains("before the last"), "{said}");
    Ok(())
}

#[test]
fn nothing_to_go_by_is_a_clear_failure() -> Result {
    let (said, shut) = close_after(|server, state| {
        break_configuration(server)?;
        spoil(&state.join("ruleset"))?;
        spoil(&state.join("ruleset.previous"))
    })?;
    assert!(!shut && said.code() == Some(1), "{said}");
    for part in ["NOTHING IS SHUT", "spad.toml:", "state/ruleset cannot", "ruleset.previous cannot"]
    {
        assert!(said.stderr.contains(part), "{part}: {said}");
    }
    Ok(())
}

#[test]
fn a_ruleset_that_others_can_write_is_not_used() -> Result {
    use std::os::unix::fs::PermissionsExt;
    let (said, shut) = close_after(|_, state| {
        Ok(fs::set_permissions(state.join("ruleset"), fs::Permissions::from_mode(0o666))?)
    })?;
    assert!(shut && said.stderr.contains("others can write"), "{said}");
    Ok(())
}

#[test]
fn a_configuration_that_is_gone_is_no_hindrance() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    server.reboot()?;
    fs::remove_file(server.config_path())?;
    // Without the file, spad looks where the packages put things.
    let script = format!(
        "mount -t tmpfs tmpfs /var/lib && ln -s {}/state /var/lib/spad && exec {} close --config {}",
        server.dir().display(),
        program("spad")?.display(),
        server.config_path().display()
    );
    let said = site.server.run(["unshare", "--mount", "sh", "-c", &script])?.ok()?;
    assert!(said.stdout.contains("last in force"), "{said}");
    assert!(!site.reaches(&site.stranger, 22)?);
    Ok(())
}

#[test]
fn where_spad_has_never_run_there_is_nothing_to_shut() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let said = server.spad(&["close"])?.ok()?;
    assert!(said.stdout.contains("nothing was in force here for good"), "{said}");
    assert!(site.reaches(&site.stranger, 22)?);
    Ok(())
}

#[test]
fn a_configuration_that_cannot_be_read_hides_nothing() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    fs::remove_file(server.config_path())?;
    // Not even root can read a directory as a file.
    fs::create_dir(server.config_path())?;
    let said = server.spad(&["close"])?;
    assert!(said.code() == Some(1) && said.stderr.contains("NOTHING IS SHUT"), "{said}");
    Ok(())
}

#[test]
fn a_running_spad_is_left_alone() -> Result {
    let site = Site::new()?;
    let more = "[firewall]\nown-table = false\n".to_owned();
    let server = site.spad_with(&Settings { more, ..Settings::default() })?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "1m"])?;
    let said = server.spad(&["close"])?.ok()?;
    assert!(said.stdout.contains("spad is running"), "{said}");
    assert_eq!(server.grants()?.len(), 1);
    assert!(site.reaches(&site.client, 22)?);
    Ok(())
}

/// Somebody's boot script loads what `nft list ruleset` printed before: with our table in it, and
/// the grants of then.
#[test]
fn grants_in_a_restored_ruleset_go() -> Result {
    for closed_first in [false, true] {
        let site = Site::new()?;
        let mut server = site.spad()?;
        let alice = site.client(&server, "alice")?;
        site.open(&server, &alice, &["--ttl", "5m"])?;
        // nft 1.0.6 prints flags of tables that it cannot read again.
        let saved = site.server.sh("nft list ruleset | grep -v -P '^\\tflags'")?.ok()?.stdout;
        server.reboot()?;
        site.server.nft(&saved)?.ok()?;
        assert!(site.reaches(&site.client, 22)?, "control: the grant is back");
        if closed_first {
            server.spad(&["close"])?.ok()?;
            assert!(!site.reaches(&site.client, 22)?, "no grant outlives a boot");
        }
        server.start()?;
        assert!(server.log().contains("origin=Adopted"), "{}", server.log());
        site.assert_shut(&server, &site.client, "the journal does not know it")?;
        assert!(!site.reaches(&site.stranger, 22)?);
    }
    Ok(())
}

#[test]
fn without_the_privilege_nothing_starts_half_way() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    for (command, code) in [("run", 1), ("close", 0), ("stop --open", 1)] {
        let said = without_privilege(&site.server, &server, command)?;
        assert_eq!(said.code(), Some(code), "{said}");
        let named = said.stderr.contains("CAP_NET_ADMIN is missing");
        assert_eq!(named, code == 1, "{said}");
    }
    let left = site.server.sh("ls /run/spad | grep -vx turn; nft list ruleset")?;
    assert_eq!(left.stdout, "", "{left}");
    assert!(!server.dir().join("state").exists(), "nothing was kept");
    Ok(())
}

fn without_privilege(host: &Host, server: &Server, command: &str) -> Result<Output> {
    let (spad, config) = (program("spad")?, server.config_path());
    let drop = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin";
    host.sh(&format!("{drop} {} {command} --config {}", spad.display(), config.display()))
}

/// Our units, with the programs of this build in place of the installed ones.
#[test]
fn the_unit_shuts_nothing_twice_and_never_gives_up() -> Result {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/spad.service");
    let unit = fs::read_to_string(unit)?;
    assert!(!unit.contains("Wants=spad-close"), "a start by hand must not run spad close");
    assert!(unit.contains("StartLimitIntervalSec=0"), "it tries for as long as it takes");
    Ok(())
}

/// Copies of our units with the programs of this build, or `None` where systemd is not there to ask.
fn units(site: &Site) -> Result<Option<Vec<String>>> {
    if !site.server.sh("command -v systemd-analyze")?.success() {
        not_shown("there is no systemd-analyze here")?;
        return Ok(None);
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let copies = site.server.dir().join("units");
    fs::create_dir(&copies)?;
    let mut files = Vec::new();
    for name in ["spad.service", "spad-close.service"] {
        let text = fs::read_to_string(units.join(name))?;
        let spad = program("spad")?.display().to_string();
        fs::write(copies.join(name), text.replace("/usr/bin/spad", &spad))?;
        files.push(copies.join(name).display().to_string());
    }
    Ok(Some(files))
}

#[test]
fn systemd_understands_the_units() -> Result {
    let site = Site::new()?;
    let Some(files) = units(&site)? else { return Ok(()) };
    let said = site.server.sh(&format!("systemd-analyze verify --man=no {}", files.join(" ")))?;
    assert!(said.success() && !said.stderr.contains("/units/"), "{said}");
    Ok(())
}

/// In tenths; what is left is what spad is for: packets, the firewall, another user.
#[test]
fn the_units_give_up_what_they_do_not_need() -> Result {
    let site = Site::new()?;
    let Some(files) = units(&site)? else { return Ok(()) };
    for (file, most) in files.iter().zip([20, 14]) {
        let judge = format!("systemd-analyze security --offline=yes --threshold={most} {file}");
        let said = site.server.sh(&judge)?;
        assert!(said.success(), "{said}");
    }
    Ok(())
}
