//! `spa-keys set`.

use std::sync::Arc;

use spa_keys::{ClientRecord, Person, Policy, Store, StoreError, date};
use spa_proto::Timestamp;

use super::{Failure, print};
use crate::cli::{Part, Rights, Set};
use crate::view::{Device, View, to_json};

pub(crate) fn run(store: &Store, set: Set) -> Result<(), Failure> {
    let Set { name, rights, clear, yes, json } = set;
    if rights.is_empty() && clear.is_empty() {
        return Err(StoreError::Policy("nothing to change: name what is to be, or --clear").into());
    }
    let now = date::now();
    let edit = |policy: &mut Policy, expires: &mut Option<Timestamp>, none: &Policy| {
        change(policy, expires, none, rights, &clear);
    };
    let view = match store.client(&name) {
        Err(StoreError::Unknown(_) | StoreError::Revoked(_)) if name.device().is_none() => {
            if !yes {
                store.check_said(&name)?;
            }
            let none = Person::new(name.clone(), now).policy;
            let edit = |person: &mut Person| edit(&mut person.policy, &mut person.expires, &none);
            let person = store.change_person(&name, now, edit)?;
            let devices = Device::all_of(&store.clients()?.records, &name, now);
            View::of_person(&name, Some(&person), devices)
        }
        found => {
            found?;
            let client = store.change(&name, |record| {
                let ClientRecord { policy, expires, .. } = record;
                edit(Arc::make_mut(policy), expires, &Policy::default());
            })?;
            View::of_client(&client, now)
        }
    };
    print(&if json { to_json(&view) } else { view.to_text() })
}

fn change(
    policy: &mut Policy,
    expires: &mut Option<Timestamp>,
    none: &Policy,
    rights: Rights,
    clear: &[Part],
) {
    clear.iter().for_each(|part| part.clear(policy, expires, none));
    rights.apply(policy, expires);
}
