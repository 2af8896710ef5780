//! `spad rules`: what is in force, and what it has counted.

use serde_json::Value;
use spa_tests::Result;
use spa_tests::product::{Server, Site};

/// Packets that the last rule of this chain has counted, and its text.
fn last(server: &Server, chain: &str) -> Result<(u64, String)> {
    let said = server.spad(&["rules", "--json"])?.ok()?;
    let chains: Value = serde_json::from_str(&said.stdout)?;
    let mut all = chains.as_array().into_iter().flatten();
    let rules = all.find(|found| found["name"] == chain).map(|found| &found["rules"]);
    let rule = rules.and_then(|rules| rules.as_array()?.last()).cloned().unwrap_or_default();
    let text = rule["text"].as_str().unwrap_or_default().to_owned();
    Ok((rule["packets"].as_u64().unwrap_or_default(), text))
}

#[test]
fn packets_are_counted_by_the_rule_that_decides() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let (before, text) = last(&server, "guard")?;
    assert_eq!(text, "drop");
    site.assert_shut(&server, &site.client, "nobody has knocked")?;
    assert!(last(&server, "guard")?.0 > before, "what is dropped is counted");

    site.open(&server, &alice, &[])?;
    let text = server.spad(&["rules"])?.ok()?.stdout;
    let granted =
        text.lines().find(|line| line.contains("@window4_ssh ct label set")).unwrap_or("");
    let packets = granted.split_whitespace().next().unwrap_or("0");
    assert!(packets.parse::<u64>()? > 0, "{text}");
    assert!(text.contains("chain guard_prerouting (type filter hook prerouting priority -150"));
    Ok(())
}
