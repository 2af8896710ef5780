//! `spa-keys disable` and `spa-keys enable`.

use spa_keys::{Store, StoreError, date, note};

use super::{Failure, print, still_in};
use crate::cli::Named;
use crate::view::{Device, View, to_json};

pub(crate) fn run(store: &Store, named: &Named, disable: bool) -> Result<(), Failure> {
    let name = &named.name;
    let view = change(store, named, disable)?;
    let still = !disable && view.is_disabled();
    if named.json {
        print(&to_json(&view))?;
    } else {
        print(&format!("{name} is {}\n", if disable { "disabled" } else { "enabled" }))?;
    }
    if still {
        let person = name.person();
        note!("spa-keys: it stays shut out with {person}: run spa-keys enable {person}");
    }
    Ok(())
}

fn change(store: &Store, Named { name, .. }: &Named, disable: bool) -> Result<View, StoreError> {
    let now = date::now();
    let since = disable.then(|| date::to_the_second(now));
    let unwritten = |error| if disable { still_in(name, error) } else { error };
    match store.client(name) {
        Err(StoreError::Unknown(_) | StoreError::Revoked(_)) if name.device().is_none() => {
            let person = store.change_person(name, now, |person| person.disabled = since);
            let person = person.map_err(unwritten)?;
            let devices = Device::all_of(&store.clients()?.records, name, now);
            Ok(View::of_person(name, Some(&person), devices))
        }
        found => {
            found?;
            let client = store.change(name, |record| record.disabled = since);
            Ok(View::of_client(&client.map_err(unwritten)?, now))
        }
    }
}
