use super::*;
use spa_keys::{AddressRule, ClientName, Person};
use spa_proto::{
    Arrival, ClientKeys, Cloak, Credentials, Entropy, Gate, GateSettings, Kid, Kind, Monotonic,
    Prefix, Psk, ServerSecret, Services, SigningKey, Tolerance, Verifier, seal,
};
use std::num::NonZeroU32;
use std::sync::Arc;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SEEN: &str = "198.51.100.7";

fn config() -> Config {
    let text = "[service.ssh]\nport = 22\nttl = \"30s\"\nmax-ttl = \"5m\"\n\
                [service.web]\nport = 443\nttl = \"10s\"\nmax-ttl = \"20s\"\n[service.db]\nport = 5432\n\
                [service.long]\nport = 7\nmax-ttl = \"30d\"\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    Config::load(file.path()).unwrap()
}

fn record() -> ClientRecord {
    ClientRecord {
        name: "alice".parse::<ClientName>().unwrap(),
        kid: Kid::from_bytes([1; 16]),
        psk: Psk::from_bytes([2; 32]),
        verifier: Verifier::Bound(SigningKey::from_seed(&[3; 32]).verifying_key()),
        knocked: true,
        created: Timestamp::ZERO,
        expires: None,
        disabled: None,
        policy: policy().into(),
        person: None,
        former: None,
        former_kids: Vec::new(),
    }
}

fn policy() -> Policy {
    let services = ["ssh", "web"].map(|name| name.parse().unwrap()).to_vec();
    Policy { services, ..Policy::default() }
}

/// The same client with other rights.
fn allowed(policy: Policy) -> ClientRecord {
    ClientRecord { policy: policy.into(), ..record() }
}

fn request(services: &[&str]) -> Request {
    Request {
        kind: Kind::Knock,
        mode: Mode::Default,
        address: Address::Seen,
        width: None,
        seconds: None,
        services: Services::new(services.iter().map(|text| text.parse().unwrap())).unwrap(),
    }
}

/// The only way to a verified knock: seal it, pass the gate, verify it.
fn verified(request: &Request, seen: IpAddr) -> VerifiedKnock {
    let secret = ServerSecret::from_bytes([4; 32]);
    let (server, cloak, record) = (secret.public(), Cloak::from_bytes([5; 16]), record());
    let keys = ClientKeys::derive(&record.psk, &server, &record.kid);
    let signing = SigningKey::from_seed(&[3; 32]);
    let credentials =
        Credentials { server, kid: record.kid, cloak: cloak.clone(), keys: keys.clone(), signing };
    let datagram = seal(&credentials, request, NOW, &Entropy::from_bytes([6; 32])).unwrap();
    let clock = Monotonic::new(Duration::ZERO);
    let mut gate = Gate::new(secret, cloak, GateSettings::default(), clock);
    gate.insert(record.kid, keys);
    let destination = if seen.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
    let arrival = Arrival { source: seen, destination: destination.parse().unwrap() };
    let signed = gate.admit(&datagram, arrival, NOW, clock).unwrap();
    signed.verify(&server, &record.verifier, NOW, Tolerance::DEFAULT).ok().unwrap()
}

fn judged(request: &Request, record: &ClientRecord) -> Result<Vec<Approved>, Reason> {
    let knock = verified(request, SEEN.parse().unwrap());
    let own = |address: IpAddr| address.to_string() == "192.0.2.1";
    judge(&knock, record, &config(), NOW, own).map(|judgement| judgement.grants().to_vec())
}

fn asking_for(address: &str) -> Request {
    Request { address: Address::Explicit(address.parse().unwrap()), ..request(&["ssh"]) }
}

fn seconds(approved: Result<Vec<Approved>, Reason>) -> u64 {
    approved.unwrap()[0].lasts.as_secs()
}

#[test]
fn opens_what_is_asked_for_and_nothing_else() {
    let both = judged(&request(&["web", "tcp/22"]), &record()).unwrap();
    let opened: Vec<_> = both.iter().map(|one| one.element.service.to_string()).collect();
    assert_eq!(opened, ["ssh", "web"]);
    assert!(both.iter().all(|one| one.element.source.to_string() == format!("{SEEN}/32")));
}

#[test]
fn a_service_named_twice_is_opened_once() {
    let both = judged(&request(&["ssh", "tcp/22"]), &record()).unwrap();
    assert_eq!(both, judged(&request(&["ssh"]), &record()).unwrap());
}

#[test]
fn one_service_too_many_refuses_the_knock() {
    assert_eq!(judged(&request(&["ssh", "db"]), &record()), Err(Reason::ServiceNotAllowed));
    assert_eq!(judged(&request(&["tcp/5432"]), &record()), Err(Reason::ServiceNotAllowed));
    assert_eq!(judged(&request(&["ftp"]), &record()), Err(Reason::UnknownService));
    assert_eq!(judged(&request(&["udp/22"]), &record()), Err(Reason::UnknownService));
}

#[test]
fn durations_stay_within_record_and_service() {
    let asking = |asked| Request { seconds: NonZeroU32::new(asked), ..request(&["ssh"]) };
    let with = |ttl: Option<u64>, most: Option<u64>| {
        let duration = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        allowed(Policy { ttl: duration(ttl), max_ttl: duration(most), ..policy() })
    };
    for (asked, ttl, most, given) in [
        (0, None, None, 30),
        (45, None, None, 45),
        (u32::MAX, None, None, 300),
        (0, Some(60), None, 60),
        (0, Some(900), None, 300),
        (0, None, Some(10), 10),
        (200, Some(60), Some(100), 100),
        (200, None, Some(900), 200),
    ] {
        assert_eq!(
            seconds(judged(&asking(asked), &with(ttl, most))),
            given,
            "{asked} {ttl:?} {most:?}"
        );
    }
    let ending = |millis| ClientRecord {
        expires: Some(NOW.plus(Duration::from_millis(millis))),
        ..record()
    };
    assert_eq!(seconds(judged(&asking(0), &ending(7000))), 7, "not beyond the record");
    assert_eq!(judged(&asking(0), &ending(0)), Err(Reason::ClientExpired));
}

#[test]
fn one_connection_has_no_week() {
    let long = allowed(Policy { services: vec!["long".parse().unwrap()], ..Policy::default() });
    let (month, week) = (30 * 24 * 3600, 7 * 24 * 3600);
    for (mode, lasts) in [(Mode::Window, month), (Mode::Once, week - 60)] {
        let seconds = NonZeroU32::new(u32::MAX);
        let asked = Request { mode, seconds, ..request(&["long"]) };
        assert_eq!(self::seconds(judged(&asked, &long)), lasts, "{mode:?}");
    }
}

#[test]
fn the_record_says_which_addresses() {
    let rule = |address| allowed(Policy { address, ..policy() });
    let explicit = asking_for("203.0.113.5");
    assert!(judged(&explicit, &rule(AddressRule::This)).is_ok());
    assert_eq!(judged(&explicit, &rule(AddressRule::Seen)), Err(Reason::AddressKind));
    assert_eq!(judged(&request(&["ssh"]), &rule(AddressRule::This)), Err(Reason::AddressKind));
    assert!(judged(&request(&["ssh"]), &rule(AddressRule::Seen)).is_ok());
    let from = |net: &str| {
        let sources = vec![spa_keys::cidr::parse(net).unwrap()];
        allowed(Policy { sources, ..policy() })
    };
    assert!(judged(&request(&["ssh"]), &from("198.51.100.0/24")).is_ok());
    assert_eq!(judged(&request(&["ssh"]), &from("203.0.113.0/24")), Err(Reason::SourceNotAllowed));
    assert_eq!(judged(&explicit, &from("198.51.100.0/24")), Err(Reason::SourceNotAllowed));
}

#[test]
fn who_is_disabled_or_comes_at_another_time_of_day_is_refused() {
    let disabled = ClientRecord { disabled: Some(NOW), ..record() };
    assert_eq!(judged(&request(&["ssh"]), &disabled), Err(Reason::ClientDisabled));
    // NOW is a Friday, 08:00 UTC.
    let at = |hours: &str| allowed(Policy { hours: vec![hours.parse().unwrap()], ..policy() });
    assert_eq!(judged(&request(&["ssh"]), &at("sat 00:00-24:00")), Err(Reason::TimeNotAllowed));
    assert!(judged(&request(&["ssh"]), &at("fri 00:00-24:00")).is_ok());
    let asking = Request { seconds: NonZeroU32::new(300), ..request(&["ssh"]) };
    assert_eq!(seconds(judged(&asking, &at("fri 08:00-08:01"))), 60, "not beyond the hours");
    let soon = Some(NOW.plus(Duration::from_secs(7)));
    let both = ClientRecord { expires: soon, ..at("fri 08:00-08:01") };
    assert_eq!(seconds(judged(&asking, &both)), 7);
}

/// A device may do what its own record and its person's allow, and no more.
#[test]
fn what_a_person_may_not_no_device_may() {
    let device = |change: &dyn Fn(&mut Person)| {
        let mut person = Person::new("alice".parse().unwrap(), NOW);
        change(&mut person);
        ClientRecord { person: Some(std::sync::Arc::new(person)), ..record() }
    };
    let ssh = request(&["ssh"]);
    let refused = |change: &dyn Fn(&mut Person)| judged(&ssh, &device(change)).unwrap_err();
    assert_eq!(judged(&ssh, &device(&|_| ())), judged(&ssh, &record()), "nothing is said");
    assert_eq!(refused(&|one| one.disabled = Some(NOW)), Reason::ClientDisabled);
    assert_eq!(refused(&|one| one.expires = Some(NOW)), Reason::ClientExpired);
    let hours = |one: &mut Person| one.policy.hours = vec!["sat 08:00-09:00".parse().unwrap()];
    assert_eq!(refused(&hours), Reason::TimeNotAllowed);
    let web = |one: &mut Person| one.policy.services = vec!["web".parse().unwrap()];
    assert_eq!(refused(&web), Reason::ServiceNotAllowed);
    let net = |one: &mut Person| {
        one.policy.sources = vec![spa_keys::cidr::parse("203.0.113.0/24").unwrap()];
    };
    assert_eq!(refused(&net), Reason::SourceNotAllowed);
    assert_eq!(refused(&|one| one.policy.address = AddressRule::This), Reason::AddressKind);
    let bound = |one: &mut Person| one.policy.modes = [GrantMode::Bound].into_iter().collect();
    assert_eq!(refused(&bound), Reason::ModeNotAllowed);
    let short = |one: &mut Person| one.policy.max_ttl = Some(Duration::from_secs(5));
    assert_eq!(seconds(judged(&ssh, &device(&short))), 5);
    // And what its person may, its own record must allow as well.
    let mut inherits = device(&|one| one.policy.services = vec!["db".parse().unwrap()]);
    assert_eq!(judged(&request(&["db"]), &inherits), Err(Reason::ServiceNotAllowed));
    Arc::make_mut(&mut inherits.policy).services.clear();
    assert!(judged(&request(&["db"]), &inherits).is_ok(), "it names none itself");
    inherits.person = None;
    assert_eq!(judged(&ssh, &inherits), Err(Reason::ServiceNotAllowed), "nobody names any");
}

#[test]
fn a_prefix_that_the_client_named_must_hold() {
    let within = |net: &str, len| {
        let prefix = Prefix::new(net.parse().unwrap(), len).unwrap();
        judged(&Request { address: Address::SeenWithin(prefix), ..request(&["ssh"]) }, &record())
    };
    assert!(within("198.51.100.0", 24).is_ok());
    assert_eq!(within("203.0.113.0", 24), Err(Reason::OutsidePrefix));
    assert_eq!(within("2001:db8::", 32), Err(Reason::OutsidePrefix));
}

#[test]
fn some_addresses_are_never_granted() {
    for never in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:198.51.100.7",
    ] {
        assert_eq!(judged(&asking_for(never), &record()), Err(Reason::NotGrantable), "{never}");
    }
    let link_local = verified(&request(&["ssh"]), "fe80::7".parse().unwrap());
    let judgement = judge(&link_local, &record(), &config(), NOW, |_| false);
    assert_eq!(judgement.err(), Some(Reason::NotGrantable), "seen");
}

fn only(modes: &[GrantMode]) -> ClientRecord {
    allowed(Policy { modes: modes.iter().copied().collect(), ..policy() })
}

#[test]
fn modes_are_those_that_the_record_allows() {
    use GrantMode::{Bound, Once, Window};
    let bound = Mode::Bound { source_port: 40_000 };
    let refused = Err(Reason::ModeNotAllowed);
    for (asked, allowed, given) in [
        (Mode::Default, &[Window, Once, Bound][..], Ok(Terms::Window)),
        (Mode::Default, &[Once, Bound], Ok(Terms::Once)),
        (Mode::Default, &[Bound], refused),
        (Mode::Window, &[Window], Ok(Terms::Window)),
        (Mode::Window, &[Once], refused),
        (Mode::Once, &[Once], Ok(Terms::Once)),
        (Mode::Once, &[Window, Bound], refused),
        (bound, &[Bound], Ok(Terms::Bound(40_000))),
        (bound, &[Window, Once], refused),
    ] {
        let request = Request { mode: asked, ..request(&["ssh"]) };
        let judged = judged(&request, &only(allowed)).map(|grants| grants[0].element.terms);
        assert_eq!(judged, given, "{asked:?} of {allowed:?}");
    }
}

#[test]
fn widths_are_what_is_asked_allowed_and_there() {
    let refused = Err(Reason::WidthNotAllowed);
    let prefix = |len| Ok(Prefix::of(SEEN.parse().unwrap(), len));
    for (asked, widest, given) in [
        (None, 8, prefix(32)),
        (Some(24), 24, prefix(24)),
        (Some(20), 16, prefix(24)),
        (Some(23), 24, refused),
        (Some(24), 32, refused),
        // No set of this host is as narrow.
        (Some(28), 24, refused),
        // Asked before it was known that the address would be of IPv4.
        (Some(32), 32, prefix(32)),
        (Some(64), 8, prefix(32)),
    ] {
        let record =
            allowed(Policy { widest: spa_keys::Widest { v4: widest, v6: 128 }, ..policy() });
        let request = Request { width: asked, ..request(&["ssh"]) };
        let judged = judged(&request, &record).map(|grants| grants[0].element.source);
        assert_eq!(judged, given, "{asked:?} of {widest}");
    }
}

#[test]
fn a_prefix_stays_within_the_records_sources_and_is_never_bound() {
    let record = |net: &str| {
        let sources = vec![spa_keys::cidr::parse(net).unwrap()];
        allowed(Policy { widest: spa_keys::Widest::ANY, sources, ..policy() })
    };
    let wide = Request { width: Some(24), ..request(&["ssh"]) };
    assert!(judged(&wide, &record("198.51.0.0/16")).is_ok());
    assert_eq!(judged(&wide, &record("198.51.100.0/25")), Err(Reason::SourceNotAllowed));
    let bound = Request { mode: Mode::Bound { source_port: 9 }, ..wide };
    assert_eq!(judged(&bound, &record("0.0.0.0/0")), Err(Reason::WidthNotAllowed));
}

#[test]
fn an_inner_host_is_reached_over_its_own_families() {
    let to = |inner: &str| {
        let text = format!("[service.ssh]\nport = 22\ntarget = {inner}\n");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let knock = verified(&request(&["ssh"]), SEEN.parse().unwrap());
        judge(&knock, &record(), &Config::load(file.path()).unwrap(), NOW, |_| false).map(drop)
    };
    assert_eq!(to("\"10.0.0.5\""), Ok(()));
    assert_eq!(to("[\"10.0.0.5:22\", \"[2001:db8::5]:22\"]"), Ok(()));
    assert_eq!(to("\"2001:db8::5\""), Err(Reason::NotGrantable));
}

#[test]
fn a_grant_is_for_the_address_that_was_knocked_at() {
    let to = judged(&request(&["ssh"]), &record()).unwrap()[0].element.destination;
    assert_eq!(to, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(judged(&asking_for("2001:db8::7"), &record()), Err(Reason::NotGrantable));
}
