use std::path::PathBuf;

use std::sync::Arc;

use super::*;
use spa_proto::{GrantMode, SigningKey};

fn pending() -> ClientRecord {
    ClientRecord {
        name: "alice".parse().unwrap(),
        kid: Kid::from_bytes([0xab; 16]),
        psk: Psk::from_bytes([0xcd; 32]),
        verifier: Verifier::Pending {
            secret: EnrolHash::from_bytes([0xef; 32]),
            expires: Timestamp::from_millis(1_800_000_000_000),
        },
        knocked: false,
        created: Timestamp::from_millis(1_799_000_000_000),
        expires: Some(Timestamp::from_millis(1_900_000_000_000)),
        disabled: Some(Timestamp::from_millis(1_850_000_000_000)),
        policy: policy().into(),
        person: None,
        former: None,
        former_kids: vec![Kid::from_bytes([0xba; 16])],
    }
}

fn policy() -> Policy {
    Policy {
        services: ["web", "ssh"].map(|name| name.parse().unwrap()).to_vec(),
        ttl: Some(Duration::from_secs(30)),
        max_ttl: Some(Duration::from_secs(300)),
        sources: ["10.0.0.0/8", "2001:db8::/32"]
            .map(|cidr| crate::cidr::parse(cidr).unwrap())
            .to_vec(),
        hours: vec!["mon-fri 08:00-18:00 Europe/Berlin".parse().unwrap()],
        address: AddressRule::Seen,
        modes: [GrantMode::Bound, GrantMode::Once].into_iter().collect(),
        widest: Widest { v4: 24, v6: 56 },
    }
}

fn bound() -> ClientRecord {
    let key = SigningKey::from_seed(&[1; 32]).verifying_key();
    let verifier = Verifier::Bound(key);
    ClientRecord {
        verifier,
        knocked: true,
        expires: None,
        disabled: None,
        policy: Policy { services: policy().services, ..Policy::default() }.into(),
        ..pending()
    }
}

fn path() -> PathBuf {
    "/keys/clients/alice.toml".into()
}

fn text(record: &ClientRecord) -> Zeroizing<String> {
    RecordFile::from(record).to_text()
}

fn read(text: &str) -> Result<ClientRecord, Malformed> {
    RecordFile::parse(&path(), text)?.into_client(&path())
}

fn complain(text: &str) -> String {
    read(text).err().map_or_else(|| "nothing".to_owned(), |error| error.to_string())
}

#[test]
fn clients_read_what_they_write() {
    for record in [pending(), bound()] {
        let written = text(&record);
        let read = read(&written).ok().unwrap();
        assert!(*text(&read) == *written, "nothing is lost");
        assert_eq!(read.verifier, record.verifier);
        assert_eq!((read.name, read.kid, read.knocked), (record.name, record.kid, record.knocked));
        assert!(read.psk.expose() == record.psk.expose());
        assert_eq!((read.created, read.expires), (record.created, record.expires));
        assert_eq!((read.disabled, read.policy), (record.disabled, record.policy));
    }
}

#[test]
fn the_revoked_read_what_they_write_and_have_no_secrets() {
    for record in [pending(), bound()] {
        let secrets = [to_base64(record.psk.expose()), to_base64(&[0xef; 32])];
        let policy = record.policy.clone();
        let client = record.without_secrets(Timestamp::from_millis(1_850_000_000_000));
        assert_eq!(client.policy, *policy);
        let written = RecordFile::from(&client).to_text();
        assert!(secrets.iter().all(|secret| !written.contains(secret.as_str())));
        let path = Path::new("/keys/revoked/alice-abababab.toml");
        let read = RecordFile::parse(path, &written).and_then(|file| file.into_revoked(path));
        assert_eq!(*RecordFile::from(&read.unwrap()).to_text(), *written, "nothing is lost");
    }
}

#[test]
fn buffers_are_large_enough_from_the_start() {
    let mut record = pending();
    record.name = "a".repeat(64).parse().unwrap();
    Arc::make_mut(&mut record.policy).services =
        ('a'..='z').map(|letter| letter.to_string().repeat(16).parse().unwrap()).collect();
    let longest: std::net::IpAddr = "2001:db8:1111:1111:1111:1111:1111:1111".parse().unwrap();
    Arc::make_mut(&mut record.policy).hours =
        vec!["mon-fri 08:00-18:00 America/Argentina/ComodRivadavia".parse().unwrap(); 9];
    Arc::make_mut(&mut record.policy).sources =
        (64..=128).map(|len| Prefix::of(longest, len)).collect();
    let file = RecordFile::from(&record);
    let room = Text::with_room_for(&file).0.capacity();
    assert!(file.to_text().len() <= room);
    assert_eq!(file.to_text().capacity(), room);
}

#[test]
fn people_may_write_dates_with_or_without_quotes_and_leave_lists_out() {
    let text = text(&pending());
    let edited = text
        .replace("2030-03-17T17:46:40Z", "\"2030-03-17T18:46:40+01:00\"")
        .replace("sources", "# sources");
    let read = read(&edited).ok().unwrap();
    assert_eq!(read.expires, pending().expires);
    assert_eq!(read.policy.sources, []);
}

/// As all records were before there were modes and widths.
#[test]
fn records_without_modes_and_widths_allow_every_mode_for_one_address() {
    let text = text(&pending());
    let keys = ["modes", "widest", "hours", "disabled"];
    let new = |line: &&str| !keys.iter().any(|key| line.starts_with(key));
    let old = text.lines().filter(new).collect::<Vec<_>>().join("\n");
    assert_eq!(old.lines().count(), text.lines().count() - 5);
    let read = read(&old).ok().unwrap();
    assert_eq!((read.policy.modes, read.policy.widest), (Modes::ALL, Widest::ADDRESS));
    assert_eq!((&read.policy.hours, read.disabled), (&Vec::new(), None));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let (pending, bound) = (text(&pending()), text(&bound()));
    let key = bound.lines().find(|line| line.starts_with("key = ")).unwrap();
    let without = |text: &str, key: &str| {
        text.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n")
    };
    let cases = [
        (
            pending.replace("\nttl =", "\ntttl ="),
            "/keys/clients/alice.toml:6: unknown field `tttl`",
        ),
        (pending.replace("\"alice\"", "\"bob\""), "named for another client"),
        (pending.replace("\"alice\"", "\"Alice\""), ":2: \"Alice\" is not a client's name"),
        (pending.replace("[\"web\", \"ssh\"]", "[]"), "services is empty"),
        (pending.replace("\"web\"", "\"ssh\""), "services names one twice"),
        (pending.replace("\"web\"", "\"tcp/22\""), ":5: \"tcp/22\" is not the name of a service"),
        (pending.replace("\"30s\"", "\"6m\""), "ttl is longer than max-ttl"),
        (pending.replace("\"30s\"", "30"), ":6: "),
        (pending.replace("10.0.0.0/8", "10.0.0.1/8"), ":8: \"10.0.0.1/8\" has bits set"),
        (pending.replace("seen", "sean"), ":10: \"sean\" is none of"),
        (pending.replace("\"once\"", "\"twice\""), ":11: \"twice\" is none of"),
        (pending.replace("\"once\", \"bound\"", ""), "modes is empty"),
        (pending.replace("ipv4 = 24", "ipv4 = 0"), "widest-ipv4 is a prefix length from 8"),
        (pending.replace("ipv4 = 24", "ipv4 = \"/24\""), ":12: "),
        (pending.replace("ipv6 = 56", "ipv6 = 24"), "widest-ipv6 is a prefix length from 32"),
        (pending.replace("2030-03-17T17:46:40Z", "2030-03-17"), ":4: \"2030-03-17\" is not a date"),
        (pending.replace("ababababab", "ababab"), "expected 16 bytes in hexadecimal"),
        (pending.replace("knocked = false", "knocked = true"), "knocked, but no key is bound"),
        (format!("{}\n{key}\n", &*pending), "expected either key, or enrolment-hash"),
        (without(&pending, "enrolment-hash"), "expected either key, or enrolment-hash"),
        (without(&pending, "enrolment-expires"), "expected either key, or enrolment-hash"),
        (without(&bound, "key"), "expected either key, or enrolment-hash"),
        (without(&pending, "psk"), "missing field `psk`"),
        (without(&pending, "kid"), "missing field `kid`"),
        (without(&pending, "knocked"), "missing field `knocked`"),
        (without(&pending, "address"), "missing field `address`"),
        (pending.replace("Berlin", "Nowhere"), ":9: \"Europe/Nowhere\" is no time zone"),
        (
            pending.replace("fri 08:00", "fri 8:00"),
            ":9: \"mon-fri 8:00-18:00 Europe/Berlin\" is no time",
        ),
        (format!("revoked = 2026-01-01T00:00:00Z\n{}", &*pending), "lets nobody in"),
        (format!("{}\npsk = \"\"\n", &*pending), "duplicate key"),
        (
            bound.replace(key, &format!("key = \"{}\"", *to_base64(&[0; 32]))),
            "not a usable Ed25519 key",
        ),
    ];
    for (text, complaint) in cases {
        let said = complain(&text);
        assert!(said.contains(complaint), "{complaint:?}: {said}");
    }
}

/// Whatever is wrong with a file, nobody reads the psk in a log.
#[test]
fn complaints_never_quote_secrets() {
    let text = text(&pending());
    let psk = to_base64(&[0xcd; 32]);
    let (head, tail) = (&psk[..40], &psk[4..]);
    for broken in [
        text.replace("psk = \"", "psk = "),
        text.replace("psk = ", "pks = "),
        text.replace("psk = ", "psk == "),
        text.replace(psk.as_str(), &psk[1..]),
        text.replace(psk.as_str(), &psk[..43]),
        text.replace(psk.as_str(), &format!("!{}", &psk[1..])),
        text.replace(psk.as_str(), &format!("{}\n", &*psk)),
        text.replace("psk", "enrolment-hash"),
    ] {
        let said = complain(&broken);
        assert!(said != "nothing" && !said.contains(head) && !said.contains(tail), "{said}");
    }
}

fn person() -> Person {
    Person {
        name: "alice".parse().unwrap(),
        created: Timestamp::from_millis(1_799_000_000_000),
        expires: Some(Timestamp::from_millis(1_900_000_000_000)),
        disabled: Some(Timestamp::from_millis(1_850_000_000_000)),
        policy: policy(),
    }
}

#[test]
fn people_read_what_they_write_and_have_no_keys() {
    let path = Path::new("/keys/clients/alice+.toml");
    let free = Person::new("alice".parse().unwrap(), Timestamp::ZERO);
    for person in [person(), free] {
        assert_eq!(Person::parse(path, &person.to_text()).ok().unwrap(), person);
    }
    let text = person().to_text();
    for (broken, complaint) in [
        (format!("{}kid = \"{}\"\n", &*text, "ab".repeat(16)), "are a device's"),
        (text.replace("\"alice\"", "\"alice/laptop\""), "named for another person"),
        (text.replace("\"web\"", "\"ssh\""), "services names one twice"),
    ] {
        let said = Person::parse(path, &broken).unwrap_err().to_string();
        assert!(said.contains(complaint), "{said}");
    }
    assert!(read(&text).is_err(), "and is no client");
}

#[test]
fn each_name_has_a_file_of_its_own() {
    let name = |text: &str| text.parse::<ClientName>().unwrap();
    for (text, file) in [("alice", "alice.toml"), ("alice/laptop.old", "alice+laptop.old.toml")] {
        assert_eq!(client_file_name(&name(text)), file);
        assert_eq!(name_in(file), Some(FileOf::Client(name(text))));
    }
    assert_eq!(person_file_name(&name("alice")), "alice+.toml");
    assert_eq!(name_in("alice+.toml"), Some(FileOf::Person(name("alice"))));
    for file in ["alice", "+.toml", "+alice.toml", "a+b+c.toml", "a++.toml", "a+b+.toml", "A.toml"]
    {
        match name_in(file) {
            Some(FileOf::Person(person)) => assert_ne!(person_file_name(&person), "alice+.toml"),
            found => assert_eq!(found, None, "{file}"),
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_damage_makes_it_panic(at in 0_usize..500, len in 0_usize..80, other in ".{0,40}") {
        let text = text(&pending());
        let (head, rest) = text.split_at(at.min(text.len()));
        let damaged = format!("{head}{other}{}", rest.get(len..).unwrap_or_default());
        if let Ok(record) = read(&damaged) {
            proptest::prop_assert!(read(&RecordFile::from(&record).to_text()).is_ok());
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(other in proptest::prelude::any::<String>()) {
        let _ = (crate::duration::parse(&other), crate::cidr::parse(&other));
        let _ = (crate::date::parse(&other), crate::date::parse_end(&other));
        let _ = (crate::check_host(&other), other.parse::<ClientName>());
        let _ = read(&other);
    }
}
