//! `spa-keys revoke`.

use spa_keys::{ClientName, Store, StoreError, date};

use super::{Failure, print};

pub(crate) fn run(store: &Store, name: &ClientName) -> Result<(), Failure> {
    let client = store.revoke(name, date::now()).map_err(explain)?;
    print(&format!("{name} (key-id {:.8}) is revoked\n", client.kid.to_string()))
}

/// A record that cannot be read cannot be kept without its secrets either.
fn explain(error: StoreError) -> Failure {
    let path = match &error {
        StoreError::Malformed(malformed) => malformed.path(),
        _ => return error.into(),
    };
    Failure::Other(format!(
        "{error}\na broken record lets nobody in; to be rid of it, run: rm {}",
        path.display()
    ))
}
