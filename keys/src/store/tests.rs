use std::fs;

use spa_proto::{SigningKey, Verifier};
use tempfile::TempDir;

use std::sync::Arc;

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

/// As far as it is known when the token is made: of the services, of the record, of neither.
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
    assert_eq!(times(&add("bob", own(60, 90))), [60, 60], "never longer, whatever spad.toml says");

    let spad = lab.store.dir().parent().unwrap().join("spad.toml");
    fs::write(spad, "[service.ssh]\nport = 22\n[service.web]\nttl = \"20s\"\nmax-ttl = \"40s\"\n")
        .unwrap();
    let both = Policy { services: names(&["ssh", "web"]), ..Policy::default() };
    assert_eq!(times(&add("carol", both.clone())), [30, 20]);
    assert_eq!(times(&add("dave", own(60, 90))), [60, 40], "at most what the service allows");
    let other = Policy { services: names(&["ssh", "db"]), ..Policy::default() };
    assert_eq!(times(&add("erin", other)), [30], "db is none of spad's");
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

fn names(lab: &Lab) -> Vec<String> {
    lab.store.clients().ok().unwrap().records.iter().map(|one| one.name.to_string()).collect()
}

fn may_open(lab: &Lab, name: &str) -> Vec<String> {
    lab.client(name).services().iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_is_a_client_or_a_person() {
    let lab = Lab::new();
    lab.add("alice", None);
    lab.add("bob/laptop", None);
    for name in ["alice/laptop", "bob"] {
        let added = lab.store.add(new_client(name, None), NOW);
        assert!(matches!(error(added), StoreError::Person(_)), "{name}");
    }
    lab.add("bob/phone", None);
    lab.store.rename(&parse("alice"), &parse("alice/laptop")).ok().unwrap();
    lab.add("alice/phone", None);
    assert_eq!(names(&lab), ["alice/laptop", "alice/phone", "bob/laptop", "bob/phone"]);
}

#[test]
fn a_person_limits_all_devices_and_a_device_itself_further() {
    let lab = Lab::new();
    for name in ["alice/laptop", "alice/phone", "bob/laptop"] {
        lab.add(name, None);
    }
    let services = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    lab.store
        .change(&parse("alice/laptop"), |record| {
            Arc::make_mut(&mut record.policy).services = services(&["ssh", "web"])
        })
        .ok()
        .unwrap();
    let person = lab.store.change_person(&parse("alice"), NOW, |person| {
        person.policy.services = services(&["web", "db"]);
        person.policy.max_ttl = Some(Duration::from_secs(60));
        person.expires = Some(NOW);
    });
    assert_eq!(person.ok().unwrap().name, parse("alice"));
    assert_eq!(
        (may_open(&lab, "alice/laptop"), may_open(&lab, "alice/phone")),
        (vec!["web".into()], vec![])
    );
    lab.store
        .change(&parse("alice/phone"), |record| Arc::make_mut(&mut record.policy).services.clear())
        .ok()
        .unwrap();
    assert_eq!(may_open(&lab, "alice/phone"), ["web", "db"], "what its person may");
    assert_eq!(may_open(&lab, "bob/laptop"), ["ssh"]);
    let phone = lab.client("alice/phone");
    assert_eq!((phone.max_ttl(), phone.ends()), (Some(Duration::from_secs(60)), Some(NOW)));
    assert_eq!(phone.state(NOW.plus(Duration::from_secs(1))), ClientState::Expired);
    let listed = lab.store.clients().ok().unwrap().records;
    assert!(listed.iter().zip([true, true, false]).all(|(one, said)| one.person.is_some() == said));

    lab.store
        .change_person(&parse("alice"), NOW, |person| person.disabled = Some(NOW))
        .ok()
        .unwrap();
    assert_eq!(lab.client("alice/phone").state(NOW), ClientState::Disabled);
    assert_eq!(lab.client("bob/laptop").state(NOW), ClientState::Pending);
    let nobody = lab.store.change_person(&parse("carol"), NOW, |_| ());
    assert!(matches!(error(nobody), StoreError::Unknown(_)));
}

#[test]
fn where_a_person_cannot_be_read_no_device_may_do_anything() {
    let lab = Lab::new();
    lab.add("alice/laptop", None);
    let path = lab.store.person_path(&parse("alice"));
    crate::files::create_new(&path, "garbage").unwrap();
    assert_eq!(lab.client("alice/laptop").state(NOW), ClientState::Disabled);
    let listing = lab.store.clients().ok().unwrap();
    assert_eq!((listing.records[0].state(NOW), listing.broken.len()), (ClientState::Disabled, 1));
}

#[test]
fn a_device_without_services_needs_a_person_with_some() {
    let lab = Lab::new();
    let nothing = |name: &str| NewClient { policy: Policy::default(), ..new_client(name, None) };
    for name in ["alice", "alice/phone"] {
        assert!(matches!(error(lab.store.add(nothing(name), NOW)), StoreError::Policy(_)));
    }
    lab.add("alice/laptop", None);
    let ssh = new_client("x", None).policy.services;
    lab.store
        .change_person(&parse("alice"), NOW, |alice| alice.policy.services = ssh)
        .ok()
        .unwrap();
    let token = lab.store.add(nothing("alice/phone"), NOW).ok().unwrap();
    assert_eq!(token.services, ["ssh".parse().unwrap()]);
    assert_eq!(lab.client("alice/phone").policy.services, []);
}

#[test]
fn revoking_a_person_takes_all_devices_and_one_that_is_broken_keeps_no_other() {
    let lab = Lab::new();
    for name in ["alice/laptop", "alice/phone", "alicia/laptop"] {
        lab.add(name, None);
    }
    lab.store.change_person(&parse("alice"), NOW, |_| ()).ok().unwrap();
    fs::write(lab.path("alice/laptop"), "garbage").unwrap();
    let done = lab.store.revoke_all(&parse("alice"), NOW).ok().unwrap();
    assert!(done[0].is_err() && done[1].is_ok() && done.len() == 2);
    assert!(lab.store.person_path(&parse("alice")).exists(), "a device is left");
    fs::remove_file(lab.path("alice/laptop")).unwrap();
    assert!(lab.store.revoke_all(&parse("alice"), NOW).ok().unwrap().is_empty());
    assert!(!lab.store.person_path(&parse("alice")).exists());
    assert_eq!(names(&lab), ["alicia/laptop"]);
    assert!(matches!(error(lab.store.revoke_all(&parse("alice"), NOW)), StoreError::Revoked(_)));
    assert!(matches!(error(lab.store.revoke_all(&parse("bob"), NOW)), StoreError::Unknown(_)));
}

#[test]
fn renaming_keeps_keys_and_rights_and_takes_nobodys_name() {
    let lab = Lab::new();
    let token = lab.add("alice", None);
    lab.add("bob", None);
    let taken = lab.store.rename(&parse("alice"), &parse("bob"));
    assert!(matches!(error(taken), StoreError::Taken(_)));
    assert!(matches!(
        error(lab.store.rename(&parse("alice"), &parse("alice"))),
        StoreError::Taken(_)
    ));
    assert_eq!(names(&lab), ["alice", "bob"]);
    lab.store.rename(&parse("alice"), &parse("carol")).ok().unwrap();
    assert_eq!(
        (names(&lab), lab.client("carol").kid),
        (vec!["bob".into(), "carol".into()], token.kid)
    );
}

#[test]
fn a_person_is_renamed_with_all_devices_also_if_that_was_cut_off() {
    let lab = Lab::new();
    for name in ["alice/laptop", "alice/phone", "bob/phone"] {
        lab.add(name, None);
    }
    lab.store.change_person(&parse("alice"), NOW, |one| one.disabled = Some(NOW)).ok().unwrap();
    let (from, to) = (parse("alice"), parse("alicia"));
    let taken = lab.store.rename(&from, &parse("bob"));
    assert!(matches!(error(taken), StoreError::Taken(_)));
    assert!(matches!(error(lab.store.rename(&from, &parse("bob/x"))), StoreError::Person(_)));
    // As after a crash in the middle: one device has both names.
    let said = lab.store.person(&from).ok().unwrap().unwrap();
    let moved = Person { name: to.clone(), ..said };
    crate::files::create_new(&lab.store.person_path(&to), &moved.to_text()).unwrap();
    let laptop = ClientRecord { name: parse("alicia/laptop"), ..lab.client("alice/laptop") };
    crate::files::create_new(&lab.path("alicia/laptop"), &laptop.to_text()).unwrap();
    let renamed = lab.store.rename(&from, &to).ok().unwrap();
    assert_eq!(renamed, [parse("alicia/laptop"), parse("alicia/phone")]);
    assert_eq!(names(&lab), ["alicia/laptop", "alicia/phone", "bob/phone"]);
    assert_eq!(lab.client("alicia/phone").state(NOW), ClientState::Disabled);
    assert!(lab.store.person(&from).ok().unwrap().is_none());
}

#[test]
fn what_may_not_be_said_changes_nothing() {
    let lab = Lab::new();
    lab.add("alice", None);
    let before = fs::read(lab.path("alice")).unwrap();
    let changed = lab
        .store
        .change(&parse("alice"), |record| Arc::make_mut(&mut record.policy).services.clear());
    assert!(matches!(error(changed), StoreError::Policy(_)));
    assert_eq!(fs::read(lab.path("alice")).unwrap(), before);
    assert!(matches!(error(lab.store.change(&parse("bob"), |_| ())), StoreError::Unknown(_)));
}

/// However late the daemon hears of it: what is on the disk counts.
#[test]
fn who_is_disabled_has_no_first_knock() {
    let lab = Lab::new();
    let (token, device) = (lab.add("alice", None), lab.add("bob/phone", Some(key(2))));
    lab.store.change(&parse("alice"), |alice| alice.disabled = Some(NOW)).ok().unwrap();
    lab.store.change_person(&parse("bob"), NOW, |bob| bob.disabled = Some(NOW)).ok().unwrap();
    let alice = || lab.store.note_first_knock(&parse("alice"), &token.kid, Some(key(1)));
    let phone = || lab.store.note_first_knock(&parse("bob/phone"), &device.kid, None);
    assert!(matches!(error(alice()), StoreError::Changed(_)));
    assert!(matches!(error(phone()), StoreError::Changed(_)), "nor a device of one who is");
    assert!(!lab.client("alice").knocked && !lab.client("bob/phone").knocked);
    lab.store.change(&parse("alice"), |alice| alice.disabled = None).ok().unwrap();
    lab.store.change_person(&parse("bob"), NOW, |bob| bob.disabled = None).ok().unwrap();
    assert!(alice().is_ok() && phone().is_ok());
}

#[test]
fn two_people_do_not_become_one_by_a_name() {
    let lab = Lab::new();
    for name in ["alice/laptop", "bob/phone", "carol/x", "dave/y"] {
        lab.add(name, None);
    }
    let before = names(&lab);
    let refused = |from: &str, to: &str| {
        let renamed = lab.store.rename(&parse(from), &parse(to));
        assert!(matches!(error(renamed), StoreError::Taken(_)), "{from} {to}");
        assert_eq!(names(&lab), before);
    };
    refused("alice", "bob");
    for who in ["carol", "dave"] {
        lab.store.change_person(&parse(who), NOW, |one| one.disabled = Some(NOW)).ok().unwrap();
    }
    for (from, to) in [("carol", "bob"), ("bob", "carol"), ("carol", "dave")] {
        refused(from, to);
    }
}

/// Wherever it was cut off, doing it again brings it to its end.
#[test]
fn a_rename_that_was_cut_off_can_be_finished() {
    let (from, to) = (parse("alice"), parse("bob"));
    // So many of the files that are written, and of those then removed.
    for (written, removed) in [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2)] {
        let lab = Lab::new();
        lab.add("alice/laptop", None);
        lab.add("alice/phone", None);
        lab.store.change_person(&from, NOW, |one| one.disabled = Some(NOW)).ok().unwrap();
        if written > 0 {
            let said = lab.store.person(&from).ok().unwrap().unwrap();
            let said = Person { name: to.clone(), ..said };
            crate::files::create_new(&lab.store.person_path(&to), &said.to_text()).unwrap();
        }
        for device in ["laptop", "phone"].iter().take(written.max(1) - 1) {
            lab.store
                .write_as(&parse(&format!("alice/{device}")), &parse(&format!("bob/{device}")))
                .ok()
                .unwrap();
        }
        for device in ["laptop", "phone"].iter().take(removed) {
            fs::remove_file(lab.store.client_path(&parse(&format!("alice/{device}")))).unwrap();
        }
        assert!(lab.store.rename(&from, &to).is_ok(), "{written} {removed}");
        assert_eq!(names(&lab), ["bob/laptop", "bob/phone"]);
        assert!(lab.store.person(&from).ok().unwrap().is_none());
        assert_eq!(lab.client("bob/phone").state(NOW), ClientState::Disabled);
    }
    let lab = Lab::new();
    lab.add("alice", None);
    // A client that was to be a device of its own name.
    let laptop = parse("alice/laptop");
    lab.store.write_as(&from, &laptop).ok().unwrap();
    assert_eq!(lab.store.rename(&from, &laptop).ok().unwrap(), [laptop]);
    assert_eq!(names(&lab), ["alice/laptop"]);
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
