//! `spad status`, for people and for programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::program;
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};
use spa_tests::wait::until;

#[test]
fn the_page_and_the_json_show_a_grant_and_who_knocked() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "60s"])?;
    site.refused(&server, &alice, &["--service", "web"], "unknown-service")?;
    let source = site.client.v4()?.to_string();

    let status = server.status()?;
    let next = &status["next_to_end"][0];
    assert_eq!((&next["client"], &next["lasts_ms"]), (&"alice".into(), &60_000.into()), "{status}");
    let knocks = &status["last_knocks"];
    assert_eq!(
        (&knocks[0]["event"], &knocks[1]["event"]),
        (&"knock-refused".into(), &"knock-accepted".into())
    );
    assert_eq!(status["audit"]["to"], serde_json::json!(["stderr"]));
    for (at, capabilities, seccomp) in [(0, 5, false), (1, 0, true)] {
        let process = &status["processes"][at];
        assert_eq!(
            process["capabilities"].as_array().map(Vec::len),
            Some(capabilities),
            "{process}"
        );
        assert_eq!(process["seccomp"], seccomp, "{process}");
        assert!(process["resident_bytes"].as_u64() > Some(1_000_000), "{process}");
    }
    let text = server.spad(&["status"])?.ok()?.stdout;
    for words in [
        "listening on any".to_owned(),
        "granted 1".into(),
        "unknown-service 1".into(),
        "1 in force".into(),
        format!("alice  ssh  {source}  "),
        "s left of 60 s".into(),
        "knock refused  alice        unknown-service".into(),
    ] {
        assert!(text.contains(&words), "{words:?} is missing: {text}");
    }
    assert!(
        text.is_ascii() && !text.contains('\u{1b}') && !text.contains("##"),
        "for a pipe: {text}"
    );

    // On a terminal, with bars in its letters and colours.
    let config = server.config_path().display().to_string();
    let command = format!("{} status --config {config}", program("spad")?.display());
    let on_terminal = |environment: &str| -> Result<String> {
        let line =
            format!("TERM=xterm {environment} script -qec 'stty cols 80; {command}' /dev/null");
        Ok(site.server.sh(&line)?.ok()?.stdout)
    };
    let shown = on_terminal("LC_ALL=C.UTF-8")?;
    assert!(shown.contains("█") && shown.contains("\u{1b}[32m"), "{shown}");
    let shown = on_terminal("LC_ALL=C NO_COLOR=1")?;
    assert!(shown.contains("###") && shown.is_ascii() && !shown.contains('\u{1b}'), "{shown}");
    Ok(())
}

#[test]
fn a_clock_that_nothing_keeps_right_is_told_once() -> Result {
    let site = Site::new()?;
    for (kept, synchronised) in [("yes", true), ("no", false)] {
        site.server.sh("rm -rf spad")?.ok()?;
        let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
        let clock = site.lab.clock()?;
        let setting = format!("SPA_LAB_KEPT={kept}");
        let words = clock.words();
        let words: Vec<_> = words.iter().map(String::as_str).chain([setting.as_str()]).collect();
        server.start_as(&words)?;
        assert_eq!(server.status()?["clock"]["synchronised"], synchronised);
        let text = server.spad(&["status"])?.ok()?.stdout;
        assert_eq!(text.contains("NOT SYNCHRONISED"), !synchronised, "{text}");
        let log = server.log();
        let told = log.matches("nothing keeps this host's clock right").count();
        assert_eq!(told, usize::from(!synchronised), "{log}");
        server.stop()?;
    }
    Ok(())
}

#[test]
fn metrics_that_nobody_can_collect_are_a_fault_until_the_next_start() -> Result {
    let site = Site::new()?;
    let top = |path: &str| format!("metrics = \"unix:{path}\"\n");
    let wrong = Settings { top: top("/nowhere/metrics.sock"), ..Settings::default() };
    let mut server = site.spad_with(&wrong)?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    let told = server.spad(&["status"])?.ok()?.stdout;
    assert!(told.contains("nobody can collect metrics") && told.contains("/nowhere"), "{told}");
    assert_eq!(server.status()?["faults"].as_array().map(Vec::len), Some(1));
    server.configure(&Settings { top: top("/run/spad/metrics.sock"), ..Settings::default() })?;
    server.restart()?;
    assert_eq!(server.status()?["faults"].as_array().map(Vec::len), Some(0));
    Ok(())
}

/// What spad cannot see to by itself: the next boot would tell, and shut less or let nobody in.
#[test]
fn what_the_next_start_would_find_is_told_before() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let web = format!("{}\n[service.web]\nport = 443\n", server.config());
    server.write_config(&web)?;
    let ruleset = server.dir().join("state/ruleset.new");
    fs::create_dir(&ruleset)?;
    let said = server.spad(&["reload"])?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(
        said.stderr.contains("is read again, and in force; but\nthe ruleset is NOT KEPT"),
        "{said}"
    );
    let faults = || -> Result<Vec<String>> {
        Ok(serde_json::from_value(server.status()?["faults"].clone())?)
    };
    assert!(faults()?.iter().any(|fault| fault.contains("NOT KEPT")), "{:?}", faults()?);
    assert_eq!(server.status()?["ruleset"]["in_force"], true);
    assert!(server.spad(&["status"])?.stdout.contains("NOT KEPT"));
    fs::remove_dir(&ruleset)?;
    until("it is kept by itself", Duration::from_secs(60), || Ok(faults()?.is_empty()))?;

    let keys = server.dir().join("keys/server.toml");
    let mode = |mode| fs::set_permissions(&keys, fs::Permissions::from_mode(mode));
    mode(0o640)?;
    let said = server.spad(&["reload"])?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(
        said.stderr.contains("the next start would end: ") && said.stderr.contains("chmod 600")
    );
    assert_eq!(faults()?.len(), 1, "{:?}", faults()?);
    mode(0o600)?;
    server.spad(&["reload"])?.ok()?;
    assert!(faults()?.is_empty());

    // What was kept by itself is what was read last.
    let mut close = || -> Result<String> {
        server.kill9()?;
        site.server.nft("delete table inet spad")?.ok()?;
        server.spad(&["close"])?.ok()?;
        server.kernel_table()
    };
    let table = close()?;
    assert!(table.contains("443"), "{table}");
    Ok(())
}
