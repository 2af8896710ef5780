//! `spa-keys show`.

use spa_keys::{ClientName, Store, StoreError, date};

use super::{Failure, print};
use crate::view::{View, to_json};

pub(crate) fn run(store: &Store, name: &ClientName, json: bool) -> Result<(), Failure> {
    let view = find(store, name)?;
    print(&if json { to_json(&view) } else { view.to_text() })
}

/// The client of this name, or else the one that was revoked last.
fn find(store: &Store, name: &ClientName) -> Result<View, Failure> {
    match store.client(name) {
        Ok(client) => Ok(View::of_client(&client, date::now())),
        Err(StoreError::Revoked(_)) => {
            let revoked = store.revoked()?.records;
            let last = revoked.iter().rfind(|client| client.name == *name);
            last.map(View::of_revoked).ok_or_else(|| StoreError::Unknown(name.clone()).into())
        }
        Err(error) => Err(error.into()),
    }
}
