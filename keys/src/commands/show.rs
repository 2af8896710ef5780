//! `spa-keys show`.

use spa_keys::{ClientName, Store, StoreError, date};

use super::{Failure, print};
use crate::view::{Device, View, to_json};

pub(crate) fn run(store: &Store, name: &ClientName, json: bool) -> Result<(), Failure> {
    let view = find(store, name)?;
    print(&if json { to_json(&view) } else { view.to_text() })
}

/// The client of this name, or the person, or else the client that was revoked last.
fn find(store: &Store, name: &ClientName) -> Result<View, Failure> {
    match store.client(name) {
        Ok(client) => {
            Ok(View::of_client(&client, date::now()).with_last_knock(&client, &store.last_knocks()))
        }
        Err(error @ (StoreError::Unknown(_) | StoreError::Revoked(_))) => {
            find_person(store, name)?.map_or_else(|| find_revoked(store, name, error), Ok)
        }
        Err(error) => Err(error.into()),
    }
}

fn find_person(store: &Store, name: &ClientName) -> Result<Option<View>, Failure> {
    if name.device().is_some() {
        return Ok(None);
    }
    let (person, now) = (store.person(name)?, date::now());
    let devices = Device::all_of(&store.clients()?.records, name, now);
    Ok(match person {
        None if devices.is_empty() => None,
        said => Some(View::of_person(name, said.as_ref(), devices)),
    })
}

fn find_revoked(store: &Store, name: &ClientName, error: StoreError) -> Result<View, Failure> {
    let revoked = store.revoked()?.records;
    let last = revoked.iter().rfind(|client| client.name == *name);
    last.map(View::of_revoked).ok_or_else(|| error.into())
}
