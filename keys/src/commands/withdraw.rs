//! `spa-keys withdraw`.

use spa_keys::{ClientName, Store, date};

use super::{Failure, print};

pub(crate) fn run(store: &Store, name: &ClientName) -> Result<(), Failure> {
    let client = store.withdraw(name, date::now())?;
    print(&format!("the token of {name} (key-id {:.8}) is withdrawn\n", client.kid.to_string()))
}
