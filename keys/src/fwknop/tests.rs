use spa_keys::{AddressRule, date};
use spa_proto::Timestamp;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const CONFIG: &str = "[service.shell]\nport = 22\n[service.media]\nports = [443, 8443]\n\
                      [service.dns]\nport = 53\nprotocol = \"udp\"\n";

fn taken(text: &str) -> (Vec<(usize, spa_keys::NewClient)>, Vec<Note>, String) {
    let mut services = Services::parse(CONFIG).unwrap();
    let (stanzas, mut notes) = parse(text);
    let (clients, more) = take_over(&stanzas, &mut services, &[], NOW);
    notes.extend(more);
    (clients, notes, services.missing())
}

fn noted<'a>(notes: &'a [Note], variable: &str) -> &'a Note {
    notes
        .iter()
        .find(|note| note.variable == variable)
        .unwrap_or_else(|| panic!("{variable}: {notes:?}"))
}

#[test]
fn takes_over_what_has_a_counterpart_and_says_what_has_not() {
    let text = "# remark\n%include /etc/fwknop/more.conf;\n\nSOURCE 192.168.10.5/24, 10.1.1.123;\n\
                OPEN_PORTS              tcp/22, udp/53,tcp/8080;  # remark\n\
                REQUIRE_USERNAME        Bob\nREQUIRE_SOURCE_ADDRESS  Y;\nFW_ACCESS_TIMEOUT 60\n\
                MAX_FW_TIMEOUT 45;\nACCESS_EXPIRE_EPOCH 1900000000\nKEY_BASE64 c2VjcmV0;\n\
                HMAC_KEY_BASE64 aHVzaA==\nCMD_CYCLE_OPEN /bin/open $SRC\nFORCE_SNAT 10.0.0.5\n\
                GPG_DECRYPT_PW hush\nDESTINATION 1.2.3.4\nWHATEVER 1\n";
    let (clients, notes, missing) = taken(text);
    let (line, bob) = &clients[0];
    assert_eq!((clients.len(), *line, bob.name.as_str()), (1, 4, "bob"));
    let policy = &bob.policy;
    let services: Vec<_> = policy.services.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["shell", "dns", "tcp-8080"]);
    let sources: Vec<_> = policy.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["192.168.10.0/24", "10.1.1.123/32"]);
    let seconds = |time: Option<std::time::Duration>| time.unwrap().as_secs();
    assert_eq!(
        (seconds(policy.ttl), seconds(policy.max_ttl)),
        (45, 45),
        "never longer than it was"
    );
    assert_eq!(policy.address, AddressRule::This);
    assert_eq!(date::format(bob.expires.unwrap()), "2030-03-17T17:46:40Z");
    assert!(bob.key.is_none());
    assert_eq!(missing, "[service.tcp-8080]\nport = 8080\n");
    for (variable, line, part) in [
        ("%include", 2, "import-fwknop"),
        ("SOURCE", 4, "let in"),
        ("REQUIRE_USERNAME", 6, "called bob"),
        ("KEY_BASE64", 11, "makes its own key"),
        ("HMAC_KEY_BASE64", 12, "makes its own key"),
        ("CMD_CYCLE_OPEN", 13, "spad opens"),
        ("FORCE_SNAT", 14, "source-nat"),
        ("GPG_DECRYPT_PW", 15, "signed"),
        ("DESTINATION", 16, "knocked at"),
        ("WHATEVER", 17, "unknown"),
    ] {
        let note = noted(&notes, variable);
        assert!(note.line == line && note.note.contains(part), "{note:?}");
    }
    let all = format!("{notes:?} {:?}", parse(text));
    assert!(!["c2VjcmV0", "aHVzaA", "hush"].iter().any(|secret| all.contains(secret)), "{all}");
}

#[test]
fn what_could_let_in_more_than_before_is_left_out() {
    for (text, why) in [
        ("SOURCE ANY", "any port that it asks for"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nRESTRICT_PORTS tcp/22", "it opens nothing"),
        ("SOURCE ANY\nOPEN_PORTS tcp/0", "is no port"),
        ("SOURCE ANY\nOPEN_PORTS icmp/1", "is no port"),
        ("SOURCE gw.example\nOPEN_PORTS tcp/22", "is not a network"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nACCESS_EXPIRE 12/31/2020", "has expired"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nACCESS_EXPIRE 31.12.2040", "is no date"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nACCESS_EXPIRE_EPOCH soon", "is no number"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nFORCE_NAT 10.0.0.5 22", "not those of this machine"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nDISABLE_DNAT Y", "not those of this machine"),
        ("SOURCE:ANY\nOPEN_PORTS tcp/22", "line 1 is no variable"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nREQUIRE_SOURCE=Y", "line 3 is no variable"),
        ("SOURCE ANY\nOPEN_PORTS tcp/22\nRESTRICT_PORTS", "line 3 is no variable"),
    ] {
        let (clients, notes, _) = taken(text);
        assert!(
            clients.is_empty() && notes.iter().any(|note| note.note.contains(why)),
            "{notes:?}"
        );
    }
    let ssh = ["ssh".parse().unwrap()];
    let (stanzas, _) = parse("SOURCE ANY");
    let (clients, _) = take_over(&stanzas, &mut Services::default(), &ssh, NOW);
    assert_eq!(clients[0].1.policy.services, ssh, "as --service says");
}

#[test]
fn a_stanza_without_its_line_feeds_nothing_to_the_one_before() {
    let (clients, ..) = taken("SOURCE 10.0.0.1\nOPEN_PORTS tcp/22\nSOURCE:ANY\nOPEN_PORTS tcp/80");
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].1.policy.services[0].to_string(), "shell");
}

#[test]
fn keys_without_white_space_are_not_shown() {
    for line in ["KEY_BASE64=c2VjcmV0", "KEY:c2VjcmV0", "c2VjcmV0", "C2VJ", "HMAC_KEY;c2VjcmV0 x"] {
        let text = format!("{line}\nSOURCE ANY\nOPEN_PORTS tcp/22\n{line}\n");
        let (clients, notes, _) = taken(&text);
        let shown = format!("{notes:?} {:?}", parse(&text)).to_lowercase();
        assert!(clients.is_empty() && !shown.contains("c2vj"), "{shown}");
    }
}

#[test]
fn named_services_are_restricted_as_well() {
    let (stanzas, _) = parse("SOURCE ANY\nRESTRICT_PORTS tcp/22, tcp/8443");
    let mut services = Services::parse(CONFIG).unwrap();
    let named = ["shell", "media", "dns", "unknown"].map(|name| name.parse().unwrap());
    let (clients, _) = take_over(&stanzas, &mut services, &named, NOW);
    assert_eq!(clients[0].1.policy.services, named[2..3], "of which it is known");
    let (clients, _) = take_over(&stanzas, &mut services, &named[..2], NOW);
    assert!(clients.is_empty());
}

#[test]
fn a_service_of_an_inner_host_is_no_port_of_this_machine() {
    let inner = "[service.inner]\nport = 22\ntarget = \"10.0.0.5:22\"\n";
    let mut services = Services::parse(inner).unwrap();
    let port = ports::Port::parse("tcp/22").unwrap();
    assert_eq!(services.of(port).unwrap().to_string(), "ssh");
}

#[test]
fn a_port_of_a_wider_service_gets_one_of_its_own() {
    let (clients, _, missing) =
        taken("SOURCE ANY\nOPEN_PORTS tcp/443,tcp/22\nSOURCE ANY\nOPEN_PORTS tcp/443");
    assert_eq!(clients[0].1.policy.services[0].to_string(), "https");
    assert_eq!(clients[1].1.policy.services, clients[0].1.policy.services[..1]);
    assert_eq!(missing, "[service.https]\nport = 443\n");
}

#[test]
fn names_differ_and_are_names() {
    let stanza = |user: &str| format!("SOURCE ANY\nOPEN_PORTS tcp/22\nREQUIRE_USERNAME {user}\n");
    let text: String = ["bob", "bob", "../x", "a/b", "Eve"].map(stanza).concat();
    let names: Vec<_> = taken(&text).0.iter().map(|(_, client)| client.name.to_string()).collect();
    assert_eq!(names, ["bob", "fwknop-2", "fwknop-3", "fwknop-4", "eve"]);
}

#[test]
fn services_are_read_as_spad_has_them() {
    let text = "[service.a]\nports = [\"udp/5000\"]\n[service.b]\nports = [\"5000-5010\"]\n[service.c]\n\
                protocol = \"udp\"\nports = [\"53\"]\n";
    let mut services = Services::parse(text).unwrap();
    let of = |services: &mut Services, text| {
        services.of(ports::Port::parse(text).unwrap()).unwrap().to_string()
    };
    assert_eq!(of(&mut services, "udp/5000"), "a");
    assert_eq!(of(&mut services, "udp/53"), "c");
    assert_eq!(of(&mut services, "tcp/5000"), "tcp-5000");
    assert!(Services::parse("no toml").is_err());
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic_or_lets_a_key_out(
        lines in "((SOURCE|OPEN_PORTS|RESTRICT_PORTS|FW_ACCESS_TIMEOUT|ACCESS_EXPIRE|REQUIRE_USERNAME|%include)[ :;]{0,2}[a-zA-Z0-9/,.; ]{0,20}\n){0,8}",
        any in ".{0,60}", config in ".{0,40}",
    ) {
        let text = format!("{lines}{any}\nSOURCE ANY\nKEY s3cr3t-of-mine\n");
        let mut services = Services::parse(&config).unwrap_or_default();
        let (stanzas, notes) = parse(&text);
        let (clients, more) = take_over(&stanzas, &mut services, &[], NOW);
        proptest::prop_assert!(clients.iter().all(|(_, client)| client.check().is_ok()));
        let kept = format!("{stanzas:?}{notes:?}{more:?}");
        proptest::prop_assert!(!kept.contains("s3cr3t"));
    }
}
