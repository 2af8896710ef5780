//! `spa knock --wait`, and what its exit status says.

use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::program;
use spa_tests::product::{SERVER_NAME, Site};

#[test]
fn waiting_ends_when_the_service_answers() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let start = Instant::now();
    alice.knock(&["--wait"])?.ok()?;
    assert!(site.reaches(&site.client, 22)?, "open when the command ends");
    println!("open after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5));
    Ok(())
}

#[test]
fn waiting_knocks_again_if_nobody_heard_the_first() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    server.stop()?;
    let (spa, dir) = (program("spa")?, alice.dir().to_string_lossy().into_owned());
    let mut knocking = site.client.spawn([
        &*spa.to_string_lossy(),
        "knock",
        SERVER_NAME,
        "--wait=20",
        "--config-dir",
        &dir,
    ])?;
    std::thread::sleep(Duration::from_millis(1500));
    server.start()?;
    let status = knocking.wait(Duration::from_secs(20))?;
    assert!(status.success(), "{}", knocking.stderr());
    assert!(site.reaches(&site.client, 22)?);
    Ok(())
}

#[test]
fn waiting_in_vain_is_status_1_in_time() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    server.stop()?;
    let start = Instant::now();
    let said = alice.knock(&["--wait=2"])?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn wrong_usage_is_status_2() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    for options in [&["--ttl", "soon"][..], &["-4", "-6"], &["--source", "somewhere"], &["--hurry"]]
    {
        assert_eq!(alice.knock(options)?.code(), Some(2), "{options:?}");
    }
    Ok(())
}

#[test]
fn a_knock_can_be_reported_as_json() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let said = alice.knock(&["--json"])?.ok()?;
    let report: serde_json::Value = serde_json::from_str(&said.stdout)?;
    assert!(
        report.is_object() && report.to_string().contains(&site.address().to_string()),
        "{report}"
    );
    Ok(())
}

#[test]
fn a_host_that_cannot_be_reached_is_told_from_one_that_is_silent() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let reject = "table inet t { chain o { type filter hook output priority 0; \
                  tcp dport 22 reject with icmpx host-unreachable; }; }";
    site.client.nft(reject)?.ok()?;
    let said = alice.knock(&["--wait=2"])?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stderr.contains("an answer says that it cannot be reached"), "{said}");
    assert!(!said.stderr.contains("it stays silent"), "{said}");
    Ok(())
}
