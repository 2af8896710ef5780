//! `spa-keys rename`.

use spa_keys::{ClientName, Store};

use super::{Failure, print};
use crate::view::to_json;

pub(crate) fn run(
    store: &Store,
    from: &ClientName,
    to: &ClientName,
    yes: bool,
    json: bool,
) -> Result<(), Failure> {
    // A client's own name is not a person's, whatever a rename that was cut off has left.
    if !yes && store.client(from).is_err() {
        store.check_said(from)?;
    }
    let names = store.rename(from, to)?;
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    print(&if json { to_json(&names) } else { format!("{from} is now {}\n", names.join(", ")) })
}
