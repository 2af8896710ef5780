//! A table that somebody else has changed: noticed, whatever it is, and put back.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{Host, element, isolated, ssh_only, unowned};
use spad::firewall::{Drift, Origin};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn differences(drift: Result<(), Drift>) -> Vec<String> {
    match drift {
        Ok(()) => Vec::new(),
        Err(Drift::Changed(differences)) => differences,
        Err(Drift::Unreadable(why)) => panic!("{why}"),
    }
}

#[test]
fn every_foreign_change_is_noticed_and_put_back() {
    isolated("every_foreign_change_is_noticed_and_put_back", || {
        let host = Host::new();
        let (mut firewall, _) = host.firewall(unowned(), &ssh_only());
        assert!(!firewall.owned());
        for (change, noticed) in [
            ("insert rule inet spad guard accept", "'guard' has 10 rules instead of 9"),
            ("add rule inet spad knock_peer counter", "'knock_peer' has 3 rules"),
            ("flush chain inet spad granted_ssh", "'granted_ssh' has 0 rules"),
            ("flush table inet spad", "has 0 rules"),
            ("add chain inet spad theirs", "chain 'theirs' was added"),
            ("add set inet spad theirs '{ type ipv4_addr; }'", "set 'theirs' was added"),
            ("add table inet spad '{ flags dormant; }'", "flags are 0x1"),
            (
                "replace rule inet spad guard handle $(nft -a list chain inet spad guard | sed -n 's/.*103 counter.* accept # handle //p') ct label 105 counter accept",
                "rule 3 of chain 'guard' is another",
            ),
            ("delete table inet spad", "is gone"),
            ("flush ruleset", "is gone"),
        ] {
            firewall.grant(&element("192.0.2.1"), MINUTE).expect("a grant");
            host.sh(&format!("nft {change}"));
            let found = differences(firewall.verify()).join("; ");
            assert!(found.contains(noticed), "{change}: {found}");
            let installed = host.run(|| firewall.install(&ssh_only())).expect(change);
            let gone = noticed == "is gone";
            assert_eq!(installed.origin, if gone { Origin::Restored } else { Origin::Reloaded });
            assert_eq!(
                firewall.elements().expect("elements").len(),
                usize::from(!gone),
                "{change}"
            );
            firewall.verify().expect("all as it was");
        }
    });
}

/// Each word of each rule that can be another: what decides, where to, and each number.
#[test]
fn a_rule_that_is_another_in_one_word_is_noticed() {
    isolated("a_rule_that_is_another_in_one_word_is_noticed", || {
        let host = Host::new();
        let (firewall, _) = host.firewall(unowned(), &ssh_only());
        let listed = host.sh("nft -a -s list table inet spad");
        let mut chain = "";
        let mut altered = 0;
        for line in listed.lines() {
            match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                ["chain", name, ..] => chain = name,
                ["set", ..] => chain = "",
                _ => {}
            }
            let Some((rule, handle)) = line.split_once(" # handle ") else { continue };
            let is_rule = !chain.is_empty() && !rule.ends_with('{');
            for other in is_rule.then(|| others(rule.trim())).into_iter().flatten() {
                let change = format!("replace rule inet spad {chain} handle {handle} {other}");
                if host.try_sh(&format!("nft '{change}'")).is_err() {
                    continue;
                }
                let found = differences(firewall.verify()).join("; ");
                let noticed = format!("of chain '{chain}' is another");
                assert!(found.contains(&noticed), "{rule}\n{change}\n{found}");
                let back =
                    format!("replace rule inet spad {chain} handle {handle} {}", rule.trim());
                host.sh(&format!("nft '{back}'"));
                firewall.verify().expect("all as it was");
                altered += 1;
            }
        }
        // What nft does not take, as tcp flags of udp, is not counted.
        assert!(altered > 150, "{altered}");
    });
}

/// The limit that makes a set's elements count for one connection.
#[test]
fn a_set_whose_elements_count_otherwise_is_noticed_and_put_back() {
    isolated("a_set_whose_elements_count_otherwise_is_noticed_and_put_back", || {
        let host = Host::new();
        let (mut firewall, _) = host.firewall(unowned(), &ssh_only());
        let listed = host.sh("nft -s list table inet spad");
        let set = listed.find("set once4_ssh").expect("the set");
        let (before, rest) = listed.split_at(set);
        let other = |word, other| format!("{before}{}", rest.replacen(word, other, 1));
        for (table, noticed) in [
            (listed.clone(), ""),
            (other("rate 1/week", "rate 1000/second"), "set 'once4_ssh' is another"),
            (other("burst 1 packets", "burst 2 packets"), "set 'once4_ssh' is another"),
            (other("rate 1/week", "rate over 1/week"), "set 'once4_ssh' is another"),
        ] {
            host.nft(&format!("delete table inet spad\n{table}"));
            assert_eq!(differences(firewall.verify()).join("; "), noticed, "{table}");
            firewall.install(&ssh_only()).expect("a ruleset");
            firewall.verify().expect("all as it was");
        }
    });
}

/// A rule with one word that is another, for each of its words that can be.
fn others(rule: &str) -> Vec<String> {
    let (rule, comment) = rule.split_once(" comment ").unwrap_or((rule, ""));
    let words: Vec<_> = rule.split(' ').collect();
    let other = |before: &str, word: &str| {
        Some(match (before, word) {
            // Chains of ours that lead nowhere else, so that nothing goes round in circles.
            ("jump" | "goto", "spoofed") => "knock_peer".to_owned(),
            ("jump" | "goto", _) => "spoofed".to_owned(),
            (_, "accept") => "drop".to_owned(),
            (_, "drop") => "accept".to_owned(),
            (_, "jump") => "goto".to_owned(),
            (_, "tcp") => "udp".to_owned(),
            (_, "saddr") => "daddr".to_owned(),
            (_, "original") => "reply".to_owned(),
            (_, "reply") => "original".to_owned(),
            (_, "assured") => "seen-reply".to_owned(),
            (_, "local") => "broadcast".to_owned(),
            (_, "255.255.255.0") => "255.255.0.0".to_owned(),
            (_, set) if set.starts_with("@window") => set.replace("window", "once"),
            (_, set) if set.starts_with("@once") => set.replace("once", "window"),
            (_, set) if set.starts_with("@bans") => set.replace("bans", "window") + "_ssh",
            (_, number) => (number.parse::<u16>().ok()? + 1).to_string(),
        })
    };
    let all = words.iter().enumerate().filter_map(|(at, word)| {
        let mut changed: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        changed[at] = other(before, word)?;
        Some(changed.join(" "))
    });
    all.map(|rule| if comment.is_empty() { rule } else { format!("{rule} comment {comment}") })
        .collect()
}
