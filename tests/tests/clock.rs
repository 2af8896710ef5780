//! Clocks that differ: accepted within the tolerance of 30 seconds, refused outside.

use spa_tests::Result;
use spa_tests::product::Site;

#[test]
fn a_client_29_seconds_off_gets_in() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    for offset in ["+29s", "-29s"] {
        site.close(&server, "alice")?;
        site.open(&server, &alice.with_clock(offset), &[])?;
    }
    Ok(())
}

#[test]
fn a_client_31_seconds_off_stays_out() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    for offset in ["+31s", "-31s"] {
        site.refused(&server, &alice.with_clock(offset), &[], "stale")?;
        site.assert_shut(&server, &site.client, offset)?;
    }
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn an_enrolment_with_a_clock_that_is_off_is_refused_and_works_once_it_is_right() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.refused(&server, &alice.with_clock("+5m"), &[], "stale")?;
    site.assert_shut(&server, &site.client, "five minutes ahead")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}
