//! Mode `attach`: our rule in the chains of others, and what those would still
//! drop, with tables of all kinds made by `nft` and `iptables`.

#![allow(clippy::expect_used)]

mod firewall_lab;

use firewall_lab::{Host, Net, PATIENCE, at, element, isolated, network, plan, service};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use spad::firewall::plan::Target;
use spad::firewall::{
    AttachError, Attachment, Event, Firewall, Mode, Options, Plan, Protocol, Watch, rules,
};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// What `nft` shows of our rule, but for its counter.
const RULE: &str = "meta mark & 0x40000000 == 0x40000000 counter";

/// A hand-written ruleset that shuts all but what it names.
const SHUT: &str = "table inet filter {\n\
    chain input { type filter hook input priority filter; policy drop;\n\
    ct state established,related accept\n iif lo accept\n\
    ip protocol icmp accept\n meta l4proto ipv6-icmp accept\n }\n }\n";

fn attach_plan() -> Plan {
    Plan { mode: Mode::Attach, ..plan() }
}

fn to(chains: &[&str]) -> Attachment {
    let names = chains.iter().map(|name| name.parse().expect("a chain"));
    Attachment::new(names.collect(), attach_plan())
}

impl Place for Host {
    fn there(&self) -> Firewall {
        self.run(Firewall::open).expect("a firewall")
    }
}

trait Place {
    fn there(&self) -> Firewall;
}

/// Lines of a chain that are rules of ours.
fn ours(host: &Host, table: &str) -> usize {
    host.listed(table).iter().filter(|line| line.contains("spad: granted")).count()
}

/// The first rule of a chain, as `nft` lists it.
fn first(host: &Host, chain: &str) -> String {
    let text = host.sh(&format!("nft -s list chain {chain}"));
    let mut rules = text.lines().skip_while(|line| !line.contains("policy")).skip(1);
    rules.next().unwrap_or_default().trim().to_owned()
}

/// Which chains may drop which services: `chain: services`.
fn obstacles(host: &Host, plan: &Plan) -> Vec<String> {
    let survey = host.there().survey(plan).expect("a survey");
    let line = |o: &spad::firewall::Obstacle| {
        let services: Vec<_> = o.services.iter().map(ToString::to_string).collect();
        format!("{}: {}", o.chain, services.join(" "))
    };
    survey.obstacles.iter().map(line).collect()
}

/// Whether this chain on input drops ssh in mode guard.
fn drops_ssh(head: &str, rules: &str) -> bool {
    let host = Host::new();
    host.nft(&format!(
        "table inet t {{\n{rules}\n chain sub {{ }}\n chain in {{ type filter hook input priority 0; {head}\n }}\n }}\n"
    ));
    !obstacles(&host, &plan()).is_empty()
}

#[test]
fn granted_connections_pass_the_chains_of_others_and_nobody_elses() {
    isolated("granted_connections_pass_the_chains_of_others_and_nobody_elses", || {
        let net = Net::new();
        net.server.nft(SHUT);
        let before = net.server.listed("inet filter");
        let (mut firewall, _) =
            net.server.firewall(Options::default(), &rules::ruleset(&attach_plan()));
        let attachment = to(&["inet filter input"]);
        assert_eq!(firewall.attach(&attachment).expect("attached"), 1);
        for (source, server) in
            [("10.0.1.2", "10.0.1.1:22"), ("2001:db8:1::2", "[2001:db8:1::1]:22")]
        {
            assert!(net.client.shut_out(at(server)), "{server} before");
            firewall.grant(&element(source), MINUTE).expect("a grant");
            let session = net.client.connect(at(server)).expect("with a grant");
            assert!(
                net.stranger.shut_out(at(&server.replace("1.1", "2.1").replace(":1::", ":2::")))
            );
            firewall.withdraw(&[element(source)]).expect("withdrawn");
            assert!(net.client.shut_out(at(server)), "{server} afterwards");
            assert!(firewall_lab::alive(&session), "lives on");
        }
        assert_eq!(firewall.detach(&[]).expect("taken out"), 1);
        assert_eq!(net.server.listed("inet filter"), before);
    });
}

#[test]
fn a_foreign_mark_opens_nothing() {
    isolated("a_foreign_mark_opens_nothing", || {
        let net = Net::new();
        net.server.nft(SHUT);
        net.server.nft(
            "table inet marks { chain pre { type filter hook prerouting priority -160; \
             tcp dport 22 meta mark set 0x40000001 counter comment \"marked\"\n }\n\
             chain seen { type filter hook input priority 300; }\n\
             chain kept { type filter hook input priority -1; meta mark 0x1 counter comment \"kept\"\n }\n }\n",
        );
        let (firewall, _) =
            net.server.firewall(Options::default(), &rules::ruleset(&attach_plan()));
        firewall.attach(&to(&["inet filter input"])).expect("attached");
        assert!(net.client.shut_out(at("10.0.1.1:22")));
        assert!(net.server.counted("inet marks", "marked") > 0, "control: it was marked");
        assert!(net.server.counted("inet marks", "kept") > 0, "other bits stay");
    });
}

#[test]
fn trusted_networks_need_no_grant() {
    isolated("trusted_networks_need_no_grant", || {
        let net = Net::new();
        net.server.nft(SHUT);
        let trusted = vec![network("10.0.1.0", 24), network("2001:db8:1::", 64)];
        let ruleset = rules::ruleset(&Plan { trusted, ..attach_plan() });
        let (firewall, _) = net.server.firewall(Options::default(), &ruleset);
        firewall.attach(&to(&["inet filter input"])).expect("attached");
        for server in ["10.0.1.1", "[2001:db8:1::1]"] {
            assert!(net.client.reaches(at(&format!("{server}:22"))), "{server}");
            assert!(net.client.shut_out(at(&format!("{server}:80"))), "only what is protected");
        }
        assert!(net.stranger.shut_out(at("10.0.2.1:22")));
    });
}

#[test]
fn our_rule_is_there_once_and_at_the_head() {
    isolated("our_rule_is_there_once_and_at_the_head", || {
        let host = Host::new();
        host.nft(SHUT);
        let (firewall, attachment) = (host.there(), to(&["inet filter input"]));
        let attach = || firewall.attach(&attachment).expect("attached");
        assert_eq!((attach(), attach()), (1, 0));
        assert!(firewall.attached(&attachment).expect("looked"));
        assert!(first(&host, "inet filter input").starts_with(RULE));

        host.sh("nft insert rule inet filter input counter");
        assert_eq!(attach(), 0, "what only counts may stand before it");
        host.sh("nft insert rule inet filter input ip saddr 192.0.2.1 drop");
        assert_eq!(attach(), 0, "and somebody else's ban");
        host.sh("nft insert rule inet filter input tcp dport 22 drop");
        assert!(!firewall.attached(&attachment).expect("looked"));
        assert_eq!(attach(), 1, "but not what drops the service");
        assert!(first(&host, "inet filter input").starts_with(RULE));
        assert_eq!(ours(&host, "inet filter"), 1);

        host.sh("nft flush chain inet filter input");
        assert_eq!((attach(), ours(&host, "inet filter")), (1, 1));
        host.nft(&format!("add rule inet filter input {RULE} accept comment \"spad: granted\"\n"));
        assert_eq!((attach(), ours(&host, "inet filter")), (1, 1));
    });
}

#[test]
fn a_rule_that_says_something_else_is_replaced() {
    isolated("a_rule_that_says_something_else_is_replaced", || {
        for other in [
            "accept",
            "meta mark & 0x40000000 == 0x40000000 tcp dport 80 accept",
            "meta mark & 0x20000000 == 0x20000000 accept",
            "meta mark & 0x60000000 == 0x40000000 accept",
            "meta mark 0x40000000 accept",
            "meta mark & 0x40000000 == 0x40000000 ip saddr 192.0.2.1 accept",
            "meta mark & 0x40000000 == 0x40000000 drop",
        ] {
            let host = Host::new();
            host.nft(SHUT);
            host.nft(&format!("insert rule inet filter input {other} comment \"spad: granted\"\n"));
            let firewall = host.there();
            assert_eq!(firewall.attach(&to(&["inet filter input"])).expect(other), 1, "{other}");
            assert!(first(&host, "inet filter input").starts_with(RULE), "{other}");
            assert_eq!(ours(&host, "inet filter"), 1, "{other}");
        }
    });
}

#[test]
fn iptables_shows_saves_and_restores_our_rule() {
    isolated("iptables_shows_saves_and_restores_our_rule", || {
        let host = Host::new();
        host.sh("iptables -P INPUT DROP; ip6tables -P INPUT DROP; iptables -A INPUT -p tcp --dport 80 -j ACCEPT");
        let before = host.sh("iptables -S; ip6tables -S");
        let (firewall, attachment) = (host.there(), to(&["ip filter INPUT", "ip6 filter INPUT"]));
        assert_eq!(firewall.attach(&attachment).expect("attached"), 2);
        let line = "-A INPUT -m mark --mark 0x40000000/0x40000000 -m comment --comment \"spad: granted\" -j ACCEPT";
        assert!(host.sh("iptables -S").contains(line) && host.sh("ip6tables -S").contains(line));
        assert!(host.sh("iptables -L -vn").contains("mark match 0x40000000/0x40000000"));
        host.sh("iptables-save > /dev/shm/spad-saved.$$; iptables -F; iptables-restore < /dev/shm/spad-saved.$$; rm /dev/shm/spad-saved.$$");
        assert!(host.sh("iptables-save").contains(line));
        assert_eq!(firewall.attach(&attachment).expect("attached"), 0, "known again");
        assert_eq!(firewall.detach(&[]).expect("taken out"), 2);
        assert_eq!(host.sh("iptables -S; ip6tables -S"), before);
    });
}

#[test]
fn only_the_chains_that_stay_keep_our_rule() {
    isolated("only_the_chains_that_stay_keep_our_rule", || {
        let host = Host::new();
        host.nft(SHUT);
        host.nft(&SHUT.replace("inet filter", "ip other"));
        let firewall = host.there();
        firewall.attach(&to(&["inet filter input", "ip other input"])).expect("attached");
        let stays = to(&["ip other input"]);
        assert_eq!(firewall.detach(stays.chains()).expect("taken out"), 1);
        assert_eq!((ours(&host, "inet filter"), ours(&host, "ip other")), (0, 1));
        let guard = Attachment::new(stays.chains().to_vec(), plan());
        assert_eq!(guard.chains(), [], "in no other mode");
    });
}

#[test]
fn chains_that_cannot_be_used_are_named() {
    isolated("chains_that_cannot_be_used_are_named", || {
        let host = Host::new();
        let firewall = host.there();
        let refused = |chain| firewall.attachable(&to(&[chain])).expect_err(chain);
        let message = refused("ip filter INPUT").to_string();
        assert!(message.contains("no base chain 'ip filter INPUT'; there is none"), "{message}");
        host.nft(SHUT);
        host.nft(
            "table ip early { chain input { type filter hook input priority -150; }\n\
             chain sub { } \n chain out { type filter hook output priority 0; }\n }\n",
        );
        for chain in ["ip early sub", "ip early out", "ip filter input", "inet filter INPUT"] {
            let message = refused(chain).to_string();
            assert!(
                message.contains(chain) && message.contains("'inet filter input'"),
                "{message}"
            );
        }
        assert!(matches!(refused("ip early input"), AttachError::TooEarly { .. }));
        firewall.attachable(&to(&["inet filter input"])).expect("that one can");
    });
}

#[test]
fn a_table_that_a_process_owns_is_refused() {
    isolated("a_table_that_a_process_owns_is_refused", || {
        let host = Host::new();
        // `nft -i` keeps its socket, and with it the table.
        let mut owner = host.run(|| {
            std::process::Command::new("nft")
                .arg("-i")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("nft")
        });
        let input = owner.stdin.as_mut().expect("its input");
        let command = "add table inet firewalld { flags owner; }\n\
            add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy drop; }\n";
        std::io::Write::write_all(input, command.as_bytes()).expect("a table");
        let began = Instant::now();
        while !host.sh("nft list tables").contains("firewalld") {
            assert!(began.elapsed() < PATIENCE, "no table");
        }
        let firewall = host.there();
        let attachment = to(&["inet firewalld filter_INPUT"]);
        let began = Instant::now();
        let error = loop {
            match firewall.attachable(&attachment) {
                Err(AttachError::Missing { .. }) if began.elapsed() < PATIENCE => {}
                other => break other.expect_err("owned"),
            }
        };
        assert!(matches!(error, AttachError::Owned { .. }), "{error}");
        assert!(error.to_string().contains("NftablesTableOwner=no"), "{error}");
        firewall.attach(&attachment).expect_err("not put either");
        owner.kill().expect("its end");
        owner.wait().expect("its end");
    });
}

#[test]
fn changes_in_tables_that_we_are_attached_to_are_events() {
    isolated("changes_in_tables_that_we_are_attached_to_are_events", || {
        let host = Host::new();
        host.nft(SHUT);
        let (firewall, attachment) = (host.there(), to(&["inet filter input"]));
        let mut watch = host.run(|| Watch::open(&firewall)).expect("a watch");
        watch.follow(&attachment);
        firewall.attach(&attachment).expect("attached");
        host.nft("table ip filter {\n chain input { }\n }\n");
        assert_eq!(watch.events().expect("events"), [], "our own change, and somebody's elsewhere");
        for command in
            ["flush chain inet filter input", "delete table inet filter", "add table inet filter"]
        {
            host.sh(&format!("nft {command}"));
            let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(10_000_u16)).expect("poll");
            assert_eq!(watch.events().expect("events"), [Event::Attached], "{command}");
        }
    });
}

#[test]
fn what_may_drop_a_service_is_found() {
    isolated("what_may_drop_a_service_is_found", || {
        for (head, more) in [
            ("policy drop;", ""),
            ("policy drop; ct state established,related accept", ""),
            ("policy drop; tcp dport 80 accept", ""),
            ("policy drop; tcp dport { 80, 443 } accept", ""),
            ("policy drop; tcp dport 1-21 accept", ""),
            ("policy drop; udp dport 22 accept", ""),
            ("policy drop; iif lo accept", ""),
            ("policy drop; iifname \"lo\" accept", ""),
            ("policy drop; ip saddr 192.0.2.0/24 tcp dport 22 accept", ""),
            ("policy drop; meta nfproto ipv4 accept", ""),
            ("policy drop; tcp dport 22 ct state established accept", ""),
            ("policy drop; ct state vmap { established : accept, invalid : drop }", ""),
            ("policy drop; tcp dport 22 limit rate 3/minute accept", ""),
            ("policy drop; tcp dport 22 jump mine", "chain mine { ip saddr 192.0.2.1 accept\n }"),
            ("policy accept; tcp dport 22 drop", ""),
            ("policy accept; tcp dport vmap { 22 : drop }", ""),
            ("policy accept; iifname \"eth0\" tcp dport 22 drop", ""),
            ("policy accept; iifname != \"lo\" reject", ""),
            ("policy accept; jump mine", "chain mine { ip saddr 192.0.2.1 return\n drop\n }"),
            ("policy accept; goto mine; accept", "chain mine { reject\n }"),
            ("policy drop; jump mine", "chain mine { ip saddr 192.0.2.1 return\n accept\n }"),
            ("policy accept; tcp dport 22 goto mine", "chain mine { counter\n drop\n }"),
            ("policy drop; goto mine; accept", "chain mine { tcp dport 80 accept\n }"),
        ] {
            assert!(drops_ssh(&head.replace("; ", ";\n"), more), "{head} {more}");
        }
    });
}

#[test]
fn what_drops_nothing_of_it_is_not_named() {
    isolated("what_drops_nothing_of_it_is_not_named", || {
        for (head, more) in [
            ("policy accept;", ""),
            ("policy drop; tcp dport 22 accept", ""),
            ("policy drop; tcp dport { 22, 80 } accept", ""),
            ("policy drop; tcp dport { 20-30, 443 } accept", ""),
            (
                "policy drop; tcp dport @mine accept",
                "set mine { type inet_service\n elements = { 22 }\n }",
            ),
            ("policy drop; tcp dport != 80 accept", ""),
            ("policy drop; tcp dport 10-30 ct state new counter log accept", ""),
            ("policy drop; th dport 22 accept", ""),
            ("policy drop; iif != lo meta l4proto tcp accept", ""),
            ("policy drop; tcp dport vmap { 22 : accept, 80 : drop }", ""),
            ("policy drop; tcp dport vmap { 22 : jump mine }", "chain mine { accept\n }"),
            ("policy drop; ct state vmap { new : accept }", ""),
            ("policy drop; jump mine", "chain mine { tcp flags syn / fin,syn,rst,ack accept\n }"),
            ("policy accept; tcp dport 80 drop", ""),
            ("policy accept; ct state invalid drop", ""),
            ("policy accept; iif lo drop", ""),
            ("policy accept; ip saddr @mine drop", "set mine { type ipv4_addr\n }"),
            ("policy accept; fib daddr type != local drop", ""),
            ("policy accept; jump mine", "chain mine { tcp dport 22 return\n drop\n }"),
        ] {
            assert!(!drops_ssh(&head.replace("; ", ";\n"), more), "{head} {more}");
        }
    });
}

#[test]
fn matches_of_iptables_are_understood() {
    isolated("matches_of_iptables_are_understood", || {
        let named = |rules: &str| {
            let host = Host::new();
            host.sh("ip6tables -P INPUT ACCEPT; iptables -P INPUT DROP");
            host.sh(rules);
            !obstacles(&host, &plan()).is_empty()
        };
        let input = |matches: &str| named(&format!("iptables -A INPUT {matches} -j ACCEPT"));
        assert!(!input("-p tcp --dport 22 -m comment --comment x"));
        assert!(!input("-p tcp -m multiport --dports 80,20:25"));
        assert!(!input("-m conntrack --ctstate NEW -p tcp --dport 22"));
        assert!(!input("-m addrtype --dst-type LOCAL"));
        assert!(input("-p tcp -m multiport --dports 80,443"));
        assert!(input("-p tcp -m multiport ! --dports 22,443"));
        assert!(input("-m conntrack --ctstate RELATED,ESTABLISHED"));
        assert!(input("-m addrtype ! --dst-type LOCAL"));
        assert!(input("-p tcp --dport 22 -m recent --name x --set"));
        assert!(named(
            "iptables -P INPUT ACCEPT; iptables -A INPUT -p tcp -j LOG; iptables -A INPUT -j REJECT"
        ));
        assert!(!named(
            "iptables -P INPUT ACCEPT; iptables -A INPUT -m conntrack --ctstate INVALID -j DROP"
        ));
    });
}

#[test]
fn chains_are_named_for_the_services_that_pass_them() {
    isolated("chains_are_named_for_the_services_that_pass_them", || {
        let host = Host::new();
        host.nft(SHUT);
        host.nft(
            "table ip nat6 { chain forward { type filter hook forward priority 5; policy drop; } \n\
             chain input { type filter hook input priority 7; tcp dport 22 accept\n drop\n }\n }\n",
        );
        let mut nas = service("nas", Protocol::Tcp, &[(443, 443)]);
        let v4 = Some([10, 0, 0, 5].into());
        nas.target = Some(Target { v4, v6: None, port: Some(8443), source_nat: false });
        let services = vec![nas, service("ssh", Protocol::Tcp, &[(22, 22)])];
        let plan = Plan { services, ..plan() };
        // Over IPv6 it is a service of this host itself.
        assert_eq!(obstacles(&host, &plan), ["inet filter input: nas ssh", "ip nat6 forward: nas"]);
        host.sh("nft add rule ip nat6 forward ip daddr 10.0.0.5 tcp dport 8443 accept");
        assert_eq!(obstacles(&host, &plan), ["inet filter input: nas ssh"]);
    });
}

#[test]
fn in_mode_attach_our_rule_counts_and_what_nobody_shuts_is_named() {
    isolated("in_mode_attach_our_rule_counts_and_what_nobody_shuts_is_named", || {
        let host = Host::new();
        host.nft(
            &SHUT.replace("inet filter", "ip filter").replace("meta l4proto ipv6-icmp accept", ""),
        );
        let plan = attach_plan();
        assert_eq!(obstacles(&host, &plan), ["ip filter input: ssh"]);
        host.there().attach(&to(&["ip filter input"])).expect("attached");
        let survey = host.there().survey(&plan).expect("a survey");
        assert_eq!(survey.obstacles, []);
        let open: Vec<_> = survey.unguarded.iter().map(|(s, f)| format!("{s} {f}")).collect();
        assert_eq!(open, ["ssh IPv6"]);
    });
}

#[test]
fn an_orphan_takes_the_ruleset_of_another_mode() {
    isolated("an_orphan_takes_the_ruleset_of_another_mode", || {
        let host = Host::new();
        for plan in [attach_plan(), plan(), attach_plan()] {
            let (firewall, _) = host.firewall(Options::default(), &rules::ruleset(&plan));
            assert!(firewall.owned());
            firewall.verify().expect("no drift");
        }
    });
}
