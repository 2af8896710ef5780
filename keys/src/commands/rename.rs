//! `spa-keys rename`.

use spa_keys::{ClientName, Store};

use super::{Failure, print};
use crate::view::to_json;

pub(crate) fn run(
    store: &Store,
    from: &ClientName,
    to: &ClientName,
    json: bool,
) -> Result<(), Failure> {
    let names = store.rename(from, to)?;
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    print(&if json { to_json(&names) } else { format!("{from} is now {}\n", names.join(", ")) })
}
