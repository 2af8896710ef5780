use super::look::FEW;
use super::*;
use spa_keys::{NewClient, Policy, ServerIdentity};
use spa_proto::VerifyingKey;
use std::collections::BTreeSet;

struct Keys {
    dir: tempfile::TempDir,
    clients: Clients,
}

impl Keys {
    fn with(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ServerIdentity::init(dir.path(), "fw.example", 62201).unwrap();
        let mut keys = Self { clients: Clients::new(Store::open(dir.path())), dir };
        names.iter().for_each(|name| keys.add(name));
        keys.clients.reload();
        keys
    }

    fn add(&mut self, name: &str) {
        self.add_with(name, None);
    }

    fn add_with(&mut self, name: &str, key: Option<VerifyingKey>) {
        let client = NewClient {
            name: name.parse().unwrap(),
            expires: None,
            policy: Policy { services: vec!["ssh".parse().unwrap()], ..Policy::default() },
            key,
        };
        self.clients.store.add(client, Timestamp::from_millis(1_800_000_000_000)).unwrap();
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("clients").join(format!("{name}.toml"))
    }

    /// A look at all, with what was read of the records before `meanwhile`.
    fn sweep(&mut self, meanwhile: impl FnOnce(&mut Self)) -> Vec<Difference> {
        let (tell, read) = tokio::sync::mpsc::channel(1000);
        super::sweep::read_all(&self.clients.store, &tell);
        let (again, mut slices) = (tokio::sync::mpsc::channel(1).1, read);
        self.clients.sweep = Some(Sweep::of(again, self.clients.broken.clone()));
        meanwhile(self);
        let mut differences = Vec::new();
        while self.clients.sweep.is_some() {
            differences.extend(self.clients.take_slice(slices.try_recv().unwrap()));
        }
        differences
    }

    fn look(&mut self, names: &[&str]) -> (usize, usize) {
        let file = |name: &&str| format!("{}.toml", name.replace('/', "+")).into();
        let files = names.iter().map(file).collect();
        let differences = self.clients.look(&files);
        let came = differences.iter().filter(|one| matches!(one, Difference::Came(_)));
        (came.count(), differences.iter().filter(|one| matches!(one, Difference::Went(..))).count())
    }
}

#[test]
fn what_a_sweep_has_read_before_all_was_looked_at_counts_no_more() {
    let mut keys = Keys::with(&["alice"]);
    let differences = keys.sweep(|keys| {
        std::fs::remove_file(keys.file("alice")).unwrap();
        drop(keys.clients.reload());
    });
    assert_eq!((differences, keys.clients.len()), (vec![], 0), "revoked");
}

#[test]
fn records_come_and_go() {
    let mut keys = Keys::with(&["alice"]);
    keys.add("bob");
    assert_eq!(keys.look(&["bob"]), (1, 0));
    assert_eq!(keys.look(&["bob", "alice"]), (0, 0), "nothing has changed");
    assert_eq!(keys.clients.newest(), Timestamp::from_millis(1_800_000_000_000));
    std::fs::remove_file(keys.file("alice")).unwrap();
    assert_eq!(keys.look(&["alice"]), (0, 1));
    assert_eq!(keys.clients.len(), 1);
}

#[test]
fn a_renamed_record_is_the_same_client_under_its_new_name() {
    for (old, new) in [("bob", "alice"), ("bob", "carol")] {
        let mut keys = Keys::with(&[old]);
        let text = std::fs::read_to_string(keys.file(old)).unwrap();
        std::fs::rename(keys.file(old), keys.file(new)).unwrap();
        std::fs::write(keys.file(new), text.replace(old, new)).unwrap();
        assert_eq!(keys.look(&[old, new]), (1, 1), "{old} to {new}");
        assert_eq!(keys.clients.kids_of(&new.parse().unwrap()).len(), 1);
        assert_eq!((keys.clients.len(), keys.clients.broken()), (1, vec![]));
    }
}

/// What a look at these files says of who is shut out.
fn shut(keys: &mut Keys, files: &[&str]) -> Vec<String> {
    let files = files.iter().map(|file| file.into()).collect();
    let shut = keys.clients.look(&files).into_iter().filter_map(|one| match one {
        Difference::Shut(name, _) => Some(name.to_string()),
        _ => None,
    });
    let mut shut: Vec<_> = shut.collect();
    shut.sort();
    shut
}

#[test]
fn who_is_disabled_is_told_once_and_stays_known() {
    let mut keys = Keys::with(&["alice", "bob"]);
    let (store, alice) = (keys.clients.store.clone(), "alice".parse().unwrap());
    let since = |since| store.change(&alice, |record| record.disabled = since).unwrap();
    since(Some(Timestamp::ZERO));
    assert_eq!(shut(&mut keys, &["alice.toml"]), ["alice"]);
    assert!(shut(&mut keys, &["alice.toml"]).is_empty(), "told already");
    let kid = keys.clients.kids_of(&alice)[0];
    assert!(keys.clients.get(&kid).unwrap().is_disabled() && !keys.clients.is_open(&kid));
    since(None);
    assert!(shut(&mut keys, &["alice.toml"]).is_empty() && keys.clients.is_open(&kid));
    since(Some(Timestamp::ZERO));
    let told = keys.clients.reload();
    assert_eq!(told, [Difference::Shut(alice, kid)], "the same by a look at all");
}

#[test]
fn a_person_stands_for_all_devices() {
    let mut keys = Keys::with(&["alice/laptop", "alice/phone", "bob"]);
    let (store, alice) = (keys.clients.store.clone(), "alice".parse().unwrap());
    let file = "alice+.toml";
    store
        .change_person(&alice, Timestamp::ZERO, |one| one.disabled = Some(Timestamp::ZERO))
        .unwrap();
    assert_eq!(shut(&mut keys, &[file]), ["alice/laptop", "alice/phone"]);
    assert_eq!((keys.clients.reload(), keys.clients.len()), (vec![], 3));
    let kids = keys.clients.kids_of(&alice);
    assert_eq!(kids.len(), 2);
    store.change_person(&alice, Timestamp::ZERO, |one| one.disabled = None).unwrap();
    assert!(shut(&mut keys, &[file]).is_empty());
    assert!(kids.iter().all(|kid| keys.clients.is_open(kid)));
    let path = keys.dir.path().join("clients").join(file);
    std::fs::write(&path, "garbage").unwrap();
    assert!(shut(&mut keys, &[file]).is_empty(), "it may be half written");
    assert!(!kids.iter().any(|kid| keys.clients.is_open(kid)), "closed, not free");
    assert_eq!(keys.clients.broken().len(), 1);
    std::fs::remove_file(&path).unwrap();
    assert!(shut(&mut keys, &[file]).is_empty() && !keys.clients.is_open(&kids[0]), "as before");
    store.change_person(&alice, Timestamp::ZERO, |one| one.disabled = None).unwrap();
    assert!(shut(&mut keys, &[file]).is_empty());
    assert!(kids.iter().all(|kid| keys.clients.is_open(kid)));
    assert_eq!(keys.clients.broken(), Vec::<String>::new());
}

/// A copy makes a file, and writes it a moment later.
#[test]
fn a_half_written_file_refuses_at_once_and_cuts_when_it_stays_so() {
    let mut keys = Keys::with(&["alice/laptop", "alice/phone", "bob/laptop"]);
    let (store, file) = (keys.clients.store.clone(), "alice+.toml");
    let (alice, path) = ("alice".parse().unwrap(), keys.file("alice+"));
    store.change_person(&alice, Timestamp::ZERO, |_| ()).unwrap();
    keys.clients.reload();
    let whole = std::fs::read_to_string(&path).unwrap();
    let kids = keys.clients.kids_of(&alice);
    let (start, moment) = (tokio::time::Instant::now(), std::time::Duration::from_millis(999));
    let names = |differences: Vec<Difference>| differences.len();
    for (round, then) in ["whole", "still half", "disabled", "away"].into_iter().enumerate() {
        let now = start + 10 * u32::try_from(round).unwrap() * moment;
        std::fs::write(&path, "").unwrap();
        assert!(shut(&mut keys, &[file]).is_empty(), "{then}");
        assert!(!kids.iter().any(|kid| keys.clients.is_open(kid)), "{then}: refused");
        let end = keys.clients.doubts_end(now).unwrap();
        assert!(shut(&mut keys, &[file]).is_empty(), "{then}: looked at once more");
        assert_eq!(keys.clients.doubts_end(now + moment), Some(end), "{then}: not later");
        assert_eq!(keys.clients.end_doubts(now + moment), [], "{then}: not sooner");
        match then {
            "whole" => std::fs::write(&path, &whole).unwrap(),
            "disabled" => {
                let disabled = format!("disabled = 2026-01-01T00:00:00Z\n{whole}");
                std::fs::write(&path, disabled).unwrap();
            }
            "away" => std::fs::remove_file(&path).unwrap(),
            _ => {}
        }
        let (told, cut) = match then {
            "whole" => (0, 0),
            "disabled" => (2, 0),
            _ => (0, 2),
        };
        assert_eq!(shut(&mut keys, &[file]).len(), told, "{then}");
        assert_eq!(names(keys.clients.end_doubts(end)), cut, "{then}");
        assert_eq!(keys.clients.doubts_end(end), None, "{then}: over");
        assert_eq!(kids.iter().all(|kid| keys.clients.is_open(kid)), then == "whole");
        std::fs::remove_file(&path).unwrap_or_default();
        spa_keys::files::create_new(&path, &whole).unwrap();
        assert!(shut(&mut keys, &[file]).is_empty());
        assert!(kids.iter().all(|kid| keys.clients.is_open(kid)), "{then}: and open again");
    }
}

#[test]
fn who_is_disabled_and_renamed_at_once_is_shut_under_the_new_name() {
    let mut keys = Keys::with(&["alice/laptop", "alice/phone"]);
    let (store, alice) = (keys.clients.store.clone(), "alice".parse().unwrap());
    let kid = keys.clients.kids_of(&"alice/laptop".parse().unwrap())[0];
    let disable = |one: &mut spa_keys::Person| one.disabled = Some(Timestamp::ZERO);
    store.change_person(&alice, Timestamp::ZERO, disable).unwrap();
    store.rename(&"alice/laptop".parse().unwrap(), &"alice/old".parse().unwrap()).unwrap();
    // People are looked at first: it is told of by the name that it had.
    let told = keys.clients.reload();
    let name: ClientName = "alice/laptop".parse().unwrap();
    assert!(told.contains(&Difference::Shut(name.clone(), kid)), "{told:?}");
    assert!(!keys.clients.has(&name));
    assert!(keys.clients.kids_beside(&kid).any(|one| one == kid));
}

#[test]
fn a_persons_file_that_is_away_lifts_nothing() {
    let mut keys = Keys::with(&["alice/laptop", "alice/phone", "bob/laptop"]);
    let (store, alice) = (keys.clients.store.clone(), "alice".parse().unwrap());
    let (file, path) = ("alice+.toml", keys.dir.path().join("clients").join("alice+.toml"));
    let limits = |one: &mut spa_keys::Person| {
        one.policy.ttl = Some(std::time::Duration::from_secs(7));
        one.disabled = Some(Timestamp::ZERO);
    };
    store.change_person(&alice, Timestamp::ZERO, limits).unwrap();
    keys.clients.reload();
    let text = std::fs::read_to_string(&path).unwrap();
    let kid = keys.clients.kids_of(&alice)[0];
    std::fs::remove_file(&path).unwrap();
    for look in ["at the file", "at another", "at all"] {
        match look {
            "at the file" => drop(shut(&mut keys, &[file])),
            "at another" => drop(shut(&mut keys, &["bob+laptop.toml"])),
            _ => drop(keys.clients.reload()),
        }
        let ttl = keys.clients.get(&kid).unwrap().ttl();
        assert_eq!(ttl.map(|ttl| ttl.as_secs()), Some(7), "{look}");
        assert!(!keys.clients.is_open(&kid), "{look}");
        assert!(keys.clients.broken()[0].contains("alice+.toml: it is gone"), "{look}");
    }
    spa_keys::files::create_new(&path, &text).unwrap();
    assert!(shut(&mut keys, &[file]).is_empty() && keys.clients.broken().is_empty());

    // Together with the last device it is over: a new one has no limits from before.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(keys.file("alice+laptop")).unwrap();
    assert_eq!(keys.look(&["alice/", "alice/laptop"]), (0, 1));
    assert!(keys.clients.held.knows_person(&alice), "there is her phone");
    std::fs::remove_file(keys.file("alice+phone")).unwrap();
    assert_eq!(keys.look(&["alice/phone"]), (0, 1));
    assert_eq!(keys.clients.broken(), Vec::<String>::new());
    keys.add("alice/laptop");
    assert_eq!(keys.look(&["alice/laptop"]), (1, 0));
    assert!(keys.clients.is_open(&keys.clients.kids_of(&alice)[0]));
}

#[test]
fn however_many_are_disabled_at_once_the_records_are_looked_through_once() {
    let mut keys = Keys::with(&["alice"]);
    let text = std::fs::read_to_string(keys.file("alice")).unwrap();
    let kid = keys.clients.kids().next().unwrap().to_string();
    let people: Vec<_> = (0..40).map(|number| format!("p{number}")).collect();
    for (number, person) in people.iter().enumerate() {
        let text = text.replace("alice", &format!("{person}/pc"));
        let text = text.replace(&kid, &format!("{number:032x}"));
        spa_keys::files::create_new(&keys.file(&format!("{person}+pc")), &text).unwrap();
    }
    keys.clients.reload();
    let (store, files) =
        (keys.clients.store.clone(), people.iter().map(|one| format!("{one}+.toml")));
    let disable = |since| {
        let change = |name: &String| {
            let name = name.parse().unwrap();
            store.change_person(&name, Timestamp::ZERO, |one| one.disabled = since).unwrap();
        };
        people.iter().for_each(change);
    };
    let files: Vec<_> = files.collect();
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    for at_all in [false, true] {
        disable(None);
        keys.clients.reload();
        disable(Some(Timestamp::ZERO));
        let before = keys.clients.held.passes.get();
        let told = if at_all { keys.clients.reload().len() } else { shut(&mut keys, &files).len() };
        assert_eq!((told, keys.clients.held.passes.get() - before), (40, 1), "at all: {at_all}");
    }
}

#[test]
fn a_copied_record_does_not_take_the_place_of_the_first() {
    let mut keys = Keys::with(&["alice", "zoe"]);
    let copy = std::fs::read_to_string(keys.file("alice")).unwrap().replace("alice", "bob");
    spa_keys::files::create_new(&keys.file("bob"), &copy).unwrap();
    std::fs::remove_file(keys.file("zoe")).unwrap();
    assert_eq!(keys.look(&["bob", "zoe"]), (0, 1), "and what went meanwhile is told");
    assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 1));
    std::fs::remove_file(keys.file("bob")).unwrap();
    keys.look(&["bob"]);
    assert_eq!(keys.clients.broken(), Vec::<String>::new(), "mended");
}

#[test]
fn many_broken_records_do_not_make_every_change_a_look_at_all_of_them() {
    for (broken, looks) in [(FEW, true), (FEW + 1, false)] {
        let names: Vec<_> = (0..broken).map(|number| format!("c{number}")).collect();
        let mut keys = Keys::with(&["alice"]);
        for name in &names {
            keys.add(name);
            let text = std::fs::read_to_string(keys.file(name)).unwrap();
            std::fs::write(keys.file(name), text.replace("services", "nonsense")).unwrap();
        }
        keys.clients.reload();
        assert_eq!(keys.clients.broken().len(), broken, "as many as there are");
        let file = keys.file("c0");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("nonsense", "services")).unwrap();
        std::fs::remove_file(keys.file("alice")).unwrap();
        assert_eq!(keys.look(&["alice"]), (usize::from(looks), 1), "{broken}");
        assert_eq!(keys.clients.look_at_broken(), [], "{broken}: looked at already, or later");
        let mut differences = Vec::new();
        while let Some(sweep) = &mut keys.clients.sweep {
            let slice = sweep.next();
            differences.extend(keys.clients.take_slice(slice));
        }
        assert_eq!(differences.len(), usize::from(!looks), "{broken}, in the end");
        assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, broken - 1));
    }
}

#[test]
fn a_directory_that_cannot_be_read_has_no_clients() {
    let mut keys = Keys::with(&["alice"]);
    std::fs::remove_dir_all(keys.dir.path().join("clients")).unwrap();
    std::fs::write(keys.dir.path().join("clients"), "").unwrap();
    keys.clients.reload();
    assert_eq!(keys.clients.len(), 0);
}

#[test]
fn each_key_id_of_a_record_comes_and_goes_alone() {
    let mut keys = Keys::with(&[]);
    let key = spa_proto::SigningKey::from_seed(&[1; 32]).verifying_key();
    keys.add_with("alice", Some(key));
    keys.look(&["alice"]);
    let (name, now) = ("alice".parse().unwrap(), Timestamp::from_millis(1_800_000_000_000));
    let hour = std::time::Duration::from_secs(3600);
    let before = keys.clients.held.own_kids(&name)[0];
    let store = keys.clients.store.clone();
    store.rotate(&name, spa_keys::Replaced::Psk, hour, now).unwrap();
    assert_eq!(keys.look(&["alice"]), (1, 0), "beside the old one");
    assert_eq!(keys.look(&["alice"]), (0, 0));
    let (kids, server) = (keys.clients.kids().count(), ServerPublic::from_bytes([2; 32]));
    assert_eq!((kids, keys.clients.len()), (2, 1));
    let new = keys.clients.held.own_kids(&name)[0];
    let derived = [before, new].map(|kid| *keys.clients.keys(&kid, &server).unwrap().to_bytes());
    assert!(before != new && derived[0] != derived[1]);
    assert_eq!(keys.clients.get(&before).unwrap().expires, Some(now.plus(hour)));
    assert_eq!(keys.clients.get(&new).unwrap().expires, None);

    assert_eq!(keys.clients.overdue(now.plus(hour)).count(), 0, "up to the end");
    let over = now.plus(hour).plus(std::time::Duration::from_millis(1));
    assert_eq!(keys.clients.overdue(over).collect::<Vec<_>>(), [(name.clone(), before)]);
    store.end_overlap(&name, &before).unwrap();
    assert_eq!(keys.clients.look_at(&name), [Difference::Went(name.clone(), before)]);
    assert!(keys.clients.get(&before).is_none() && keys.clients.get(&new).is_some());
    assert_eq!(keys.look(&["alice"]), (0, 0), "it is on the disk");
    assert!(store.client(&name).unwrap().former.is_none());

    store.rotate(&name, spa_keys::Replaced::Psk, hour, now).unwrap();
    keys.look(&["alice"]);
    std::fs::remove_file(keys.file("alice")).unwrap();
    assert_eq!(keys.look(&["alice"]), (0, 2), "all of them");
}

#[test]
fn what_stood_in_the_way_of_another_gives_way() {
    let mut keys = Keys::with(&["bob"]);
    let copy = |keys: &Keys, name: &str| {
        let text = std::fs::read_to_string(keys.file("bob")).unwrap().replace("bob", name);
        spa_keys::files::create_new(&keys.file(name), &text).unwrap();
    };
    copy(&keys, "zoe");
    assert_eq!(keys.look(&["zoe"]), (0, 0));
    copy(&keys, "alice");
    assert_eq!(keys.look(&["alice"]), (1, 1), "the first name, as after a restart");
    assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 2));
    std::fs::remove_file(keys.file("alice")).unwrap();
    assert_eq!(keys.look(&["alice"]), (1, 1), "bob again");
    assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 1));
    std::fs::remove_file(keys.file("bob")).unwrap();
    assert_eq!(keys.look(&["bob"]), (1, 1), "nobody has said that zoe's file changed");
    assert_eq!(keys.clients.broken(), Vec::<String>::new());
}

/// Who is known under which key-id, and what is broken.
fn known(clients: &Clients) -> (BTreeSet<(String, Kid)>, Vec<String>) {
    let name = |kid| clients.get(&kid).unwrap().name.to_string();
    (clients.kids().map(|kid| (name(kid), kid)).collect(), clients.broken())
}

/// Records come, go, break, are renamed and copied over each other: what a
/// look at the changed files makes of it is what reading all of them does.
#[test]
fn a_look_at_what_changed_sees_what_a_look_at_all_does() {
    let names = ["ann", "bob", "cat", "dan", "eve", "fay"];
    let mut keys = Keys::with(&names);
    let texts = names.map(|name| std::fs::read_to_string(keys.file(name)).unwrap());
    let mut random = 1_u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 40).unwrap() % below
    };
    let (mut crowded, mut broken) = (0, 0);
    for _ in 0..400 {
        let mut touched = Vec::new();
        for _ in 0..=draw(3) {
            let (name, from) = (names[draw(6)], draw(6));
            touched.push(name);
            let _ = std::fs::remove_file(keys.file(name));
            let text = match draw(6) {
                0 | 1 => continue,
                2 => "garbage".to_owned(),
                _ => texts[from].replace(names[from], name),
            };
            spa_keys::files::create_new(&keys.file(name), &text).unwrap();
        }
        match draw(2) {
            0 => drop(keys.look(&touched)),
            _ => drop(keys.sweep(|_| {})),
        }
        let mut anew = Clients::new(keys.clients.store.clone());
        anew.reload();
        assert_eq!(known(&keys.clients), known(&anew), "after {touched:?}");
        assert_eq!(keys.sweep(|_| {}), [], "nothing else is to be seen");
        assert_eq!(keys.clients.reload(), [], "nor by a look at all at once");
        crowded = crowded.max(keys.clients.len());
        broken = broken.max(keys.clients.broken().len());
    }
    assert!(crowded > 4 && broken > 3, "{crowded} {broken}");
}

#[test]
fn a_crowd_is_read_by_many_and_each_is_there_once() {
    let mut keys = Keys::with(&["alice"]);
    let text = std::fs::read_to_string(keys.file("alice")).unwrap();
    let kid = keys.clients.kids().next().unwrap().to_string();
    for number in 0..600 {
        let name = format!("c{number}");
        let text = text.replace("alice", &name).replace(&kid, &format!("{number:032x}"));
        std::fs::write(keys.file(&name), text).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(keys.file(&name), private).unwrap();
    }
    std::fs::remove_file(keys.file("alice")).unwrap();
    let differences = keys.clients.reload();
    let (came, went): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|one| matches!(one, Difference::Came(_)));
    assert_eq!((came.len(), went.len(), keys.clients.len()), (600, 1, 600));
    let record = |number| keys.clients.get(&Kid::from_bytes(u128::to_be_bytes(number)));
    assert!(
        (0..600).all(|number| record(number).unwrap().name.to_string() == format!("c{number}"))
    );
    assert_eq!(keys.clients.reload(), [], "and once more");
}

/// Whatever is changed in a record is taken up.
#[test]
fn every_line_of_a_record_counts() {
    let mut keys = Keys::with(&["alice"]);
    let mut text = std::fs::read_to_string(keys.file("alice")).unwrap();
    let line = text.lines().find(|line| line.starts_with("enrolment-expires"));
    let expires = line.unwrap().to_owned();
    let later = expires.replace("20", "21");
    for (old, new) in [
        ("[\"ssh\"]", "[\"ssh\", \"web\"]"),
        ("sources = []", "sources = [\"192.0.2.0/24\"]"),
        ("\"both\"", "\"seen\"\nmodes = [\"once\"]\nwidest-ipv4 = 24\nwidest-ipv6 = 64"),
        ("\"seen\"", "\"this\"\nttl = \"1m\""),
        ("\"1m\"", "\"1m\"\nhours = [\"sat 08:00-18:00\"]"),
        ("\"1m\"", "\"2m\"\nmax-ttl = \"3m\"\nexpires = \"2040-01-01T00:00:00Z\""),
        (&expires, &later),
    ] {
        assert!(text.contains(old), "{old} in {text}");
        text = text.replacen(old, new, 1);
        std::fs::write(keys.file("alice"), &text).unwrap();
        assert_eq!(keys.look(&["alice"]), (0, 0), "the same client");
        let (kept, read) = (keys.clients.kids().next().unwrap(), "alice".parse().unwrap());
        let (kept, read) = (keys.clients.get(&kept).unwrap(), keys.clients.store.client(&read));
        let plain = |record: ClientRecord| format!("{:?}", record.without_secrets(Timestamp::ZERO));
        assert_eq!(kept.verifier, read.as_ref().ok().unwrap().verifier);
        assert_eq!(plain(kept), plain(read.ok().unwrap()), "{new}");
    }
}

#[test]
fn what_is_looked_at_while_all_are_read_is_not_undone() {
    let names = ["alice", "bob", "carol", "dave/pc"];
    let mut keys = Keys::with(&names);
    let (store, dave) = (keys.clients.store.clone(), "dave".parse().unwrap());
    let garbage = |keys: &Keys, name| std::fs::write(keys.file(name), "garbage").unwrap();
    let differences = keys.sweep(|keys| {
        std::fs::remove_file(keys.file("alice")).unwrap();
        store.change(&"bob".parse().unwrap(), |one| one.disabled = Some(Timestamp::ZERO)).unwrap();
        garbage(keys, "carol");
        let disable = |one: &mut spa_keys::Person| one.disabled = Some(Timestamp::ZERO);
        store.change_person(&dave, Timestamp::ZERO, disable).unwrap();
        keys.add("erin");
        assert_eq!(keys.look(&["alice", "bob", "carol", "dave/", "erin"]), (1, 2));
    });
    assert_eq!(differences, [], "what was read is of before");
    let kid = |name: &str| keys.clients.kids_of(&name.parse().unwrap());
    assert!(kid("alice").is_empty() && kid("carol").is_empty() && kid("erin").len() == 1);
    assert!(!keys.clients.is_open(&kid("bob")[0]) && !keys.clients.is_open(&kid("dave")[0]));
    assert_eq!(keys.clients.broken().len(), 1);
    assert_eq!(keys.sweep(|_| {}), [], "and that is how it is");
}

#[test]
fn who_is_not_found_by_a_look_at_all_has_gone_and_without_a_directory_all_have() {
    let mut keys = Keys::with(&["alice", "bob", "carol"]);
    std::fs::remove_file(keys.file("bob")).unwrap();
    std::fs::write(keys.file("carol"), "garbage").unwrap();
    let went = |differences: Vec<Difference>| {
        let gone = |one: &Difference| matches!(one, Difference::Went(..));
        (differences.len(), differences.iter().filter(|one| gone(one)).count())
    };
    assert_eq!(went(keys.sweep(|_| {})), (2, 2));
    assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 1));
    std::fs::remove_dir_all(keys.dir.path().join("clients")).unwrap();
    std::fs::write(keys.dir.path().join("clients"), "").unwrap();
    // Looked at meanwhile or not.
    assert_eq!(went(keys.sweep(|_| {})), (1, 1));
    assert_eq!((keys.clients.len(), keys.clients.broken().len()), (0, 1));
}

#[test]
fn a_look_at_client_reads_no_other_unless_somebody_goes() {
    let mut keys = Keys::with(&["alice", "bob"]);
    let (store, alice): (_, ClientName) = (keys.clients.store.clone(), "alice".parse().unwrap());
    let bob = std::fs::read(keys.file("bob")).unwrap();
    std::fs::write(keys.file("bob"), "garbage").unwrap();
    assert_eq!(keys.look(&["bob"]), (0, 1));
    std::fs::write(keys.file("bob"), &bob).unwrap();
    let kid = keys.clients.kids_of(&alice)[0];
    store
        .note_first_knock(
            &alice,
            &kid,
            Some(spa_proto::SigningKey::from_seed(&[1; 32]).verifying_key()),
        )
        .unwrap();
    assert_eq!(keys.clients.look_at(&alice), []);
    assert!(keys.clients.get(&kid).unwrap().knocked);
    assert_eq!((keys.clients.len(), keys.clients.broken().len()), (1, 1), "bob's stays unread");
    store.change(&alice, |record| record.disabled = Some(Timestamp::ZERO)).unwrap();
    assert_eq!(keys.clients.look_at(&alice), [Difference::Shut(alice.clone(), kid)]);
    store.revoke(&alice, Timestamp::ZERO).unwrap();
    let gone = keys.clients.look_at(&alice);
    assert!(
        gone.contains(&Difference::Went(alice, kid)) && keys.clients.has(&"bob".parse().unwrap())
    );
}
