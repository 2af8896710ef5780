//! People, their devices, and who is called what.

use super::*;

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
        person.policy.ttl = Some(Duration::from_secs(30));
        person.expires = Some(NOW);
    });
    assert_eq!(person.ok().unwrap().name, parse("alice"));
    assert_eq!(
        (may_open(&lab, "alice/laptop"), may_open(&lab, "alice/phone")),
        (vec!["web".into()], vec![])
    );
    lab.store
        .change(&parse("alice/phone"), |record| {
            let policy = Arc::make_mut(&mut record.policy);
            policy.services.clear();
            policy.ttl = Some(Duration::from_secs(40));
        })
        .ok()
        .unwrap();
    assert_eq!(may_open(&lab, "alice/phone"), ["web", "db"], "what its person may");
    assert_eq!(may_open(&lab, "bob/laptop"), ["ssh"]);
    let phone = lab.client("alice/phone");
    assert_eq!((phone.max_ttl(), phone.ends()), (Some(Duration::from_secs(60)), Some(NOW)));
    assert_eq!(phone.ttl(), Some(Duration::from_secs(30)), "the shorter");
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
