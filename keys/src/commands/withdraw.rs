//! `spa-keys withdraw`.

use spa_keys::{ClientName, Store, date};

use super::{Failure, print};
use crate::view::{View, to_json};

pub(crate) fn run(store: &Store, name: &ClientName, json: bool) -> Result<(), Failure> {
    let client = store.withdraw(name, date::now())?;
    if json {
        return print(&to_json(&View::of_revoked(&client)));
    }
    print(&format!("the token of {name} (key-id {:.8}) is withdrawn\n", client.kid.to_string()))
}
