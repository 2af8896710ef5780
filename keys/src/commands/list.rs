//! `spa-keys list`.

use spa_keys::{Listing, RevokedListing, Store, StoreError, date, note};

use super::{Failure, print};
use crate::view::{Row, View, revoked_row, row, table, to_json};

pub(crate) fn run(store: &Store, json: bool) -> Result<(), Failure> {
    check_there(store)?;
    let (clients, revoked) = (store.clients()?, store.revoked()?);
    let is_empty = clients.records.is_empty() && revoked.records.is_empty();
    print(&match json {
        true => to_json(&views(store, &clients, &revoked)),
        false => table(rows(store, &clients, &revoked)),
    })?;
    if is_empty && !json {
        note!("no clients yet: spa-keys add NAME --service SERVICE");
    }
    complain(clients.broken.into_iter().chain(revoked.broken).collect())
}

/// A directory that is not there is mistyped rather than empty.
pub(super) fn check_there(store: &Store) -> Result<(), StoreError> {
    match store.dir().try_exists() {
        Ok(false) => Err(StoreError::NotInitialised(store.dir().to_owned())),
        _ => Ok(()),
    }
}

fn views(store: &Store, clients: &Listing, revoked: &RevokedListing) -> Vec<View> {
    let (now, knocks) = (date::now(), store.last_knocks());
    let clients = clients.records.iter();
    let clients =
        clients.map(|client| View::of_client(client, now).with_last_knock(client, &knocks));
    clients.chain(revoked.records.iter().map(View::of_revoked)).collect()
}

fn rows(store: &Store, clients: &Listing, revoked: &RevokedListing) -> Vec<Row> {
    let (now, knocks) = (date::now(), store.last_knocks());
    let clients = clients.records.iter().map(|client| row(client, &knocks, now));
    clients.chain(revoked.records.iter().map(revoked_row)).collect()
}

/// Records that cannot be read are named one by one, after those that can.
pub(super) fn complain(broken: Vec<StoreError>) -> Result<(), Failure> {
    broken.iter().for_each(|error| note!("spa-keys: {error}"));
    match broken.len() {
        0 => Ok(()),
        1 => Err(Failure::Other("this record is broken: its client is shut out".to_owned())),
        n => {
            Err(Failure::Other(format!("these {n} records are broken: their clients are shut out")))
        }
    }
}
