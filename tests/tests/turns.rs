//! The warden under as many requests as it can take: what else happens has its turn.

use spa_tests::Result;
use spa_tests::product::health::open_sources;
use spa_tests::product::{Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// How many requests the warden has judged by now: this gatekeeper counts none itself.
fn judged(server: &Server) -> Result<u64> {
    let status = server.status()?;
    let counters = status["counters"].as_object();
    Ok(counters.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum())
}

fn beginnings(server: &Server) -> usize {
    server.log().lines().filter(|line| line.contains("session began")).count()
}

/// Seen from outside: a question to the daemon would be one more thing for it to look at.
#[test]
fn in_a_flood_of_knocks_connections_are_heard_tables_put_back_and_grants_revoked() -> Result {
    let site = Site::new()?;
    let more = "[firewall]\nown-table = false\n".to_owned();
    let mut server = site.spad_with(&Settings { more, ..Settings::default() })?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    server.stop()?;
    server.start_hostile("flood")?;
    alice.knock(&["--ttl", "5m"])?.ok()?;
    until("it is a flood", SOON * 10, || Ok(judged(&server)? > 2_000))?;

    let before = beginnings(&server);
    let mut held = site.client.hold((site.address(), 22))?;
    let heard = until("the connection is heard of", SOON, || Ok(beginnings(&server) > before))?;
    site.server.nft("delete table inet spad\n")?.ok()?;
    let put_back = until("the table is back", SOON, || Ok(server.kernel_table().is_ok()))?;
    until("and her grant in it", SOON, || Ok(!open_sources(&server)?.is_empty()))?;
    server.keys(&["revoke", "alice"])?.ok()?;
    let revoked = until("the grant is gone", SOON, || Ok(open_sources(&server)?.is_empty()))?;
    assert!(!held.is_alive("after"), "and the connection with it");
    println!("heard within {heard:?}, put back {put_back:?}, revoked {revoked:?}");
    let then = judged(&server)?;
    until("it is a flood still", SOON, || Ok(judged(&server)? > then + 100))?;
    server.stop()?;
    Ok(())
}
