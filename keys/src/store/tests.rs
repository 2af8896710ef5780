mod people;

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spa_proto::{Prefix, SigningKey, Verifier};
use tempfile::TempDir;

use super::*;
use crate::policy::Policy;
use crate::record::ClientState;
use crate::token::TokenEnrolment;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_999);

struct Lab {
    _dir: TempDir,
    store: Store,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("keys"));
        ServerIdentity::init(store.dir(), "fw.example.com", 62201).ok().unwrap();
        Self { _dir: dir, store }
    }

    fn add(&self, name: &str, key: Option<VerifyingKey>) -> Token {
        self.store.add(new_client(name, key), NOW).ok().unwrap()
    }

    fn client(&self, name: &str) -> ClientRecord {
        self.store.client(&parse(name)).ok().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.client_path(&parse(name))
    }
}

fn parse(name: &str) -> ClientName {
    name.parse().unwrap()
}

fn new_client(name: &str, key: Option<VerifyingKey>) -> NewClient {
    NewClient {
        name: parse(name),
        expires: None,
        policy: Policy { services: vec!["ssh".parse().unwrap()], ..Policy::default() },
        key,
    }
}

fn key(seed: u8) -> VerifyingKey {
    SigningKey::from_seed(&[seed; 32]).verifying_key()
}

fn error<T>(result: Result<T, StoreError>) -> StoreError {
    result.err().unwrap()
}

#[test]
fn a_token_and_its_record_belong_together() {
    let lab = Lab::new();
    let (token, record) = (lab.add("alice", None), lab.client("alice"));
    let server = ServerIdentity::load(lab.store.dir()).ok().unwrap();
    assert_eq!(token.kid, record.kid);
    assert!(token.psk.expose() == record.psk.expose());
    assert!(token.cloak.expose() == server.cloak.expose());
    assert_eq!((token.server, token.port), (server.secret.public(), 62201));
    assert_eq!(record.created, Timestamp::from_millis(1_800_000_000_000));
    let Verifier::Pending { secret: hash, expires } = record.verifier else { panic!("bound") };
    let TokenEnrolment::Secret { secret, expires: until } = token.enrolment else { panic!("key") };
    assert!(hash.matches(&secret));
    assert_eq!(expires, until);
    assert_eq!(expires, record.created.plus(Store::TOKEN_LIFETIME));
}

#[test]
fn a_token_for_a_key_has_no_secret() {
    let lab = Lab::new();
    let token = lab.add("alice", Some(key(1)));
    assert!(matches!(token.enrolment, TokenEnrolment::Key(bound) if bound == key(1)));
    let record = lab.client("alice");
    assert_eq!(record.verifier, Verifier::Bound(key(1)));
    assert_eq!(record.state(NOW), ClientState::NeverKnocked);
}

#[test]
fn tokens_share_nothing_but_the_server() {
    let lab = Lab::new();
    let (one, other) = (lab.add("alice", None), lab.add("bob", None));
    assert_ne!(one.kid, other.kid);
    assert!(one.psk.expose() != other.psk.expose());
}

#[test]
fn nothing_is_overwritten() {
    let lab = Lab::new();
    lab.add("alice", None);
    let before = fs::read(lab.path("alice")).unwrap();
    assert!(matches!(error(lab.store.add(new_client("alice", None), NOW)), StoreError::Taken(_)));
    fs::write(lab.path("bob"), "garbage").unwrap();
    assert!(matches!(error(lab.store.add(new_client("bob", None), NOW)), StoreError::Taken(_)));
    assert_eq!(fs::read(lab.path("alice")).unwrap(), before);
    let again = ServerIdentity::init(lab.store.dir(), "other.example.com", 1);
    assert!(matches!(error(again), StoreError::Initialised(_)));
    assert_eq!(ServerIdentity::load(lab.store.dir()).ok().unwrap().host, "fw.example.com");
}

#[test]
fn without_a_server_there_are_no_clients() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("keys"));
    assert!(store.clients().unwrap_or_else(|error| panic!("{error}")).records.is_empty());
    let added = store.add(new_client("alice", None), NOW);
    assert!(matches!(error(added), StoreError::NotInitialised(_)));
    assert!(!store.dir().exists());
}

#[test]
fn the_first_knock_binds_the_key_and_burns_the_secret() {
    let lab = Lab::new();
    let token = lab.add("alice", None);
    let written = lab.store.note_first_knock(&parse("alice"), &token.kid, Some(key(1)));
    let read = lab.client("alice");
    for record in [written.ok().unwrap(), read] {
        assert_eq!(record.verifier, Verifier::Bound(key(1)));
        assert!(record.knocked);
        assert_eq!(record.state(NOW), ClientState::Enrolled);
        assert!(record.psk.expose() == token.psk.expose(), "the rest stays");
    }
    let text = fs::read_to_string(lab.path("alice")).unwrap();
    assert!(!text.contains("enrolment"));
}

#[test]
fn the_first_knock_comes_once() {
    let lab = Lab::new();
    let (name, pending, bound) =
        (parse("alice"), lab.add("alice", None), lab.add("bob", Some(key(2))));
    let changed = |name: &str, kid, binds| {
        let before = fs::read(lab.path(name)).unwrap();
        let noted = lab.store.note_first_knock(&parse(name), kid, binds);
        assert!(matches!(error(noted), StoreError::Changed(_)));
        assert_eq!(fs::read(lab.path(name)).unwrap(), before);
    };
    changed("alice", &pending.kid, None);
    changed("alice", &bound.kid, Some(key(1)));
    changed("bob", &bound.kid, Some(key(2)));
    assert!(lab.store.note_first_knock(&name, &pending.kid, Some(key(1))).is_ok());
    assert!(lab.store.note_first_knock(&parse("bob"), &bound.kid, None).is_ok());
    changed("alice", &pending.kid, Some(key(1)));
    changed("alice", &pending.kid, Some(key(3)));
    changed("alice", &pending.kid, None);
    changed("bob", &bound.kid, None);
}

#[test]
fn the_first_knock_of_a_client_that_is_gone() {
    let lab = Lab::new();
    let token = lab.add("alice", None);
    lab.store.revoke(&parse("alice"), NOW).ok().unwrap();
    let note = || lab.store.note_first_knock(&parse("alice"), &token.kid, Some(key(1)));
    assert!(matches!(error(note()), StoreError::Revoked(_)));
    lab.add("alice", None);
    assert!(matches!(error(note()), StoreError::Changed(_)), "of the same name, but another");
}

/// It was used up already, and would be lost.
#[test]
fn a_first_knock_waits_for_another_writer() {
    let lab = Lab::new();
    let token = lab.add("alice", None);
    let lock = WriteLock::acquire(lab.store.dir()).ok().unwrap();
    std::thread::scope(|scope| {
        let note = || lab.store.note_first_knock(&parse("alice"), &token.kid, Some(key(1)));
        let noted = scope.spawn(note);
        std::thread::sleep(Duration::from_millis(1500));
        drop(lock);
        assert!(noted.join().unwrap().is_ok());
    });
}

#[test]
fn revoking_keeps_what_is_no_secret() {
    let lab = Lab::new();
    let token = lab.add("alice", Some(key(1)));
    let revoked = lab.store.revoke(&parse("alice"), NOW).ok().unwrap();
    assert_eq!((revoked.kid, revoked.key), (token.kid, Some(key(1))));
    assert!(!lab.path("alice").exists());
    assert!(matches!(error(lab.store.client(&parse("alice"))), StoreError::Revoked(_)));
    assert!(matches!(error(lab.store.revoke(&parse("alice"), NOW)), StoreError::Revoked(_)));
    assert!(matches!(error(lab.store.revoke(&parse("bob"), NOW)), StoreError::Unknown(_)));
    assert_eq!(lab.store.revoked().ok().unwrap().records.len(), 1);
}

#[test]
fn a_name_can_be_used_again() {
    let lab = Lab::new();
    let kids: Vec<_> = (0..3)
        .map(|_| {
            let token = lab.add("alice", None);
            lab.store.revoke(&parse("alice"), NOW).ok().unwrap();
            token.kid
        })
        .collect();
    let revoked = lab.store.revoked().ok().unwrap().records;
    assert!(revoked.len() == 3 && revoked.iter().all(|client| kids.contains(&client.kid)));
}

/// As after a crash between the two steps of revoking.
#[test]
fn a_half_revoked_client_can_be_revoked() {
    let lab = Lab::new();
    lab.add("alice", None);
    let record = fs::read(lab.path("alice")).unwrap();
    lab.store.revoke(&parse("alice"), NOW).ok().unwrap();
    crate::files::create_new(&lab.path("alice"), &String::from_utf8(record).unwrap()).unwrap();
    assert!(lab.store.client(&parse("alice")).is_ok());
    lab.store.revoke(&parse("alice"), NOW).ok().unwrap();
    assert_eq!(lab.store.revoked().ok().unwrap().records.len(), 1);
}

#[test]
fn a_broken_record_hides_no_other() {
    let lab = Lab::new();
    for name in ["alice", "bob", "bob-2", "carol"] {
        lab.add(name, None);
    }
    fs::write(lab.path("bob"), "garbage").unwrap();
    fs::write(lab.store.clients_dir().join("notes.txt"), "no record").unwrap();
    fs::write(lab.store.clients_dir().join(".alice.toml.swp"), "no record").unwrap();
    let listing = lab.store.clients().ok().unwrap();
    let names: Vec<_> = listing.records.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob-2", "carol"]);
    assert_eq!(listing.broken.len(), 1);
    assert!(listing.broken[0].to_string().contains("clients/bob.toml:1: "));
}

/// As far as the service is known when the token is made, within what the record allows.
#[test]
fn tokens_say_how_long_services_open() {
    let lab = Lab::new();
    let times =
        |token: &Token| -> Vec<u32> { token.lasting.values().map(|time| time.get()).collect() };
    assert!(times(&lab.add("alice", None)).is_empty(), "no spad.toml");
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let own = |ttl: u64, most: u64| {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        Policy {
            services: names(&["ssh", "web"]),
            ttl: seconds(ttl),
            max_ttl: seconds(most),
            ..Policy::default()
        }
    };
    let add = |name: &str, policy| {
        let new = NewClient { policy, ..new_client(name, None) };
        lab.store.add(new, NOW).ok().unwrap()
    };
    let none = times(&add("bob", own(60, 90)));
    assert!(none.is_empty(), "a limit is not how long: a service may open for less");

    let spad = lab.store.dir().parent().unwrap().join("spad.toml");
    fs::write(spad, "[service.ssh]\nport = 22\n[service.web]\nttl = \"20s\"\nmax-ttl = \"40s\"\n")
        .unwrap();
    let both = Policy { services: names(&["ssh", "web"]), ..Policy::default() };
    assert_eq!(times(&add("carol", both.clone())), [30, 20]);
    assert_eq!(times(&add("dave", own(60, 90))), [60, 40], "at most what the service allows");
    let other = Policy { services: names(&["ssh", "db"]), ..own(60, 90) };
    assert_eq!(times(&add("erin", other)), [60], "db is none of spad's");
    assert_eq!(times(&lab.store.renew(&parse("alice"), NOW).ok().unwrap()), [30]);
}

#[test]
fn a_copied_record_is_no_client() {
    let lab = Lab::new();
    lab.add("alice", None);
    let copy = fs::read_to_string(lab.path("alice")).unwrap().replace("\"alice\"", "\"bob\"");
    crate::files::create_new(&lab.path("bob"), &copy).unwrap();
    let listing = lab.store.clients().ok().unwrap();
    assert_eq!(listing.records.len(), 1);
    assert!(listing.broken[0].to_string().contains("bob.toml: kid is that of another client"));
}

/// Nor is it one when the first is gone: a key that is revoked is so under each name.
#[test]
fn a_copied_record_goes_with_the_one_that_is_revoked() {
    for revoked in ["alice", "bob"] {
        let lab = Lab::new();
        ["alice", "carol"].iter().for_each(|name| drop(lab.add(name, None)));
        let copy = fs::read_to_string(lab.path("alice")).unwrap().replace("\"alice\"", "\"bob\"");
        crate::files::create_new(&lab.path("bob"), &copy).unwrap();
        crate::files::create_new(&lab.path("dave"), "no record").unwrap();
        let done = lab.store.revoke_all(&revoked.parse().unwrap(), NOW).ok().unwrap();
        assert!(done.iter().all(Result::is_ok));
        assert!(!lab.path("alice").exists() && !lab.path("bob").exists(), "{revoked}");
        assert!(lab.path("carol").exists() && lab.path("dave").exists());
        assert_eq!(lab.store.revoked().ok().unwrap().records.len(), 2, "and both can be looked up");
    }
}

/// Several, one of a device of the same person.
#[test]
fn every_copy_goes_and_is_told() {
    let lab = Lab::new();
    ["alice/laptop", "carol"].iter().for_each(|name| drop(lab.add(name, None)));
    let text = fs::read_to_string(lab.path("alice/laptop")).unwrap();
    for name in ["alice/work", "bob", "dave"] {
        let copy = text.replace("\"alice/laptop\"", &format!("\"{name}\""));
        crate::files::create_new(&lab.path(name), &copy).unwrap();
    }
    let done = lab.store.revoke_all(&"alice".parse().unwrap(), NOW).ok().unwrap();
    let mut names: Vec<_> =
        done.iter().map(|one| one.as_ref().ok().unwrap().name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["alice/laptop", "alice/work", "bob", "dave"]);
    assert!(lab.path("carol").exists() && !lab.path("bob").exists());
}

/// It may have been copied before its keys were replaced.
#[test]
fn a_copy_with_keys_from_before_goes_too() {
    let lab = Lab::new();
    lab.add("alice", None);
    let text = fs::read_to_string(lab.path("alice")).unwrap();
    crate::files::create_new(&lab.path("bob"), &text.replace("\"alice\"", "\"bob\"")).unwrap();
    let mut record = lab.client("alice");
    record.former_kids.push(std::mem::replace(&mut record.kid, Kid::from_bytes([9; 16])));
    fs::write(lab.path("alice"), &*record.to_text()).unwrap();
    assert_eq!(lab.store.clients().ok().unwrap().records.len(), 2, "control: bob is a client now");
    lab.store.revoke(&"alice".parse().unwrap(), NOW).ok().unwrap();
    assert!(!lab.path("alice").exists() && !lab.path("bob").exists());
}

/// A country's networks, say: what could not be read again would be no client any more.
#[test]
fn what_is_too_long_to_be_read_is_not_written() {
    let lab = Lab::new();
    lab.add("alice", None);
    lab.add("bob/laptop", None);
    let network = |at: u32| Prefix::of(Ipv4Addr::from(0xc000_0000 + at).into(), 32);
    let networks = |count: u32| (0..count).map(network).collect::<Vec<_>>();
    let before = fs::read_to_string(lab.path("alice")).unwrap();
    let bob = "bob".parse().unwrap();
    for (count, fits) in [(5000, false), (1000, true)] {
        let alice = "alice".parse().unwrap();
        let changed = lab
            .store
            .change(&alice, |record| Arc::make_mut(&mut record.policy).sources = networks(count));
        assert_eq!(changed.is_ok(), fits, "{count}");
        let person =
            lab.store.change_person(&bob, NOW, |person| person.policy.sources = networks(count));
        assert_eq!(person.is_ok(), fits, "{count}");
        if !fits {
            assert!(changed.err().unwrap().to_string().contains("fewer networks"));
            assert_eq!(fs::read_to_string(lab.path("alice")).unwrap(), before);
        }
    }
    assert_eq!(lab.client("alice").policy.sources.len(), 1000);
    // Longer all the same, as by hand: who is to be shut out is.
    let mut record = lab.client("alice");
    let mut long = |count| {
        Arc::make_mut(&mut record.policy).sources = networks(count);
        record.to_text().to_string()
    };
    let text = (3000..).step_by(20).map(&mut long).find(|text| fits(text).is_err()).unwrap();
    fs::write(lab.path("alice"), &text).unwrap();
    let alice = "alice".parse().unwrap();
    assert!(lab.store.change(&alice, |record| record.disabled = Some(NOW)).is_ok());
}

#[test]
fn states() {
    let lab = Lab::new();
    lab.add("alice", None);
    let mut record = lab.client("alice");
    let later = NOW.plus(Store::TOKEN_LIFETIME);
    assert_eq!(record.state(NOW), ClientState::Pending);
    assert_eq!(record.state(later), ClientState::TokenExpired);
    record.expires = Some(NOW);
    assert_eq!(record.state(NOW), ClientState::Pending, "its last moment");
    assert_eq!(record.state(later), ClientState::Expired);
}

#[test]
fn writers_wait_for_each_other() {
    let lab = Lab::new();
    lab.add("alice", None);
    let lock = WriteLock::acquire(lab.store.dir()).ok().unwrap();
    let store = lab.store.clone();
    let writer = std::thread::spawn(move || store.revoke(&parse("alice"), NOW).is_ok());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!writer.is_finished() && lab.path("alice").exists());
    drop(lock);
    assert!(writer.join().unwrap());
}

#[test]
fn no_token_names_nothing_or_too_much() {
    let lab = Lab::new();
    let policy = |error: StoreError| matches!(error, StoreError::Policy(_));
    lab.add("alice/laptop", Some(key(1)));
    let alice = parse("alice/laptop");
    let web = vec!["web".parse().unwrap()];
    lab.store.change_person(&parse("alice"), NOW, |one| one.policy.services = web).ok().unwrap();
    let before = fs::read(lab.path("alice/laptop")).unwrap();
    let hour = Duration::from_secs(3600);
    let rotated = lab.store.rotate(&alice, crate::rotation::Replaced::Psk, hour, NOW);
    assert!(policy(error(rotated)));
    assert!(policy(error(lab.store.renew(&alice, NOW))));
    assert!(policy(error(lab.store.update_token(&alice))));
    assert_eq!(fs::read(lab.path("alice/laptop")).unwrap(), before);
    let mut many = new_client("bob", None);
    many.policy.services = (0..256).map(|n| format!("s{n}").parse().unwrap()).collect();
    assert!(policy(error(lab.store.add(many, NOW))));
    assert!(!lab.path("bob").exists());
}

#[test]
fn what_is_done_for_one_device_names_those_there_are() {
    let lab = Lab::new();
    for name in ["alice/laptop", "alice/phone"] {
        lab.add(name, None);
    }
    let alice = parse("alice");
    for error in [error(lab.store.withdraw(&alice, NOW)), error(lab.store.renew(&alice, NOW))] {
        assert!(error.to_string().ends_with("alice/laptop or alice/phone"), "{error}");
    }
}
