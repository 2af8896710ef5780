//! `spa-keys rotate psk` and `client`.

use spa_keys::{ClientName, ClientRecord, Replaced, Store, StoreError, date, note};

use super::super::token::{Delivery, RENEW};
use super::super::{Failure, print};
use crate::cli::rotate::Rotate;

pub(super) fn run(
    store: &Store,
    name: &ClientName,
    replaced: Replaced,
    rotate: Rotate,
) -> Result<(), Failure> {
    match (rotate.finish, rotate.abort) {
        (true, _) => finish(store, name, rotate.yes),
        (_, true) => abort(store, name, rotate.yes),
        _ => {
            let delivery = Delivery::prepare(rotate.delivery)?;
            let now = date::now();
            let token = store.rotate(name, replaced, rotate.overlap, now)?;
            let until = date::format(now.plus(rotate.overlap));
            let instead = if replaced == Replaced::All { ", with --replace" } else { "" };
            note!(
                "the old keys of {name} work until {until}; the token brings the new ones{instead}"
            );
            delivery.hand_over(store, name, &token, RENEW)
        }
    }
}

/// Who has not moved would be shut out.
fn finish(store: &Store, name: &ClientName, anyway: bool) -> Result<(), Failure> {
    let record = with_overlap(store, name)?;
    if !record.knocked && !anyway {
        return Err(Failure::Other(format!(
            "{name} has not moved: no knock with its new keys was accepted yet, and without the \
             old ones it is shut out; if it is to be, say --yes"
        )));
    }
    store.finish(name, None)?;
    print(&format!("only the new keys of {name} work from now on\n"))
}

/// And the other way round, who has.
fn abort(store: &Store, name: &ClientName, anyway: bool) -> Result<(), Failure> {
    let record = with_overlap(store, name)?;
    if record.knocked && !anyway {
        return Err(Failure::Other(format!(
            "{name} has moved: it knocks with its new keys, and without them it is shut out until \
             it has the old ones again; if it is to be, say --yes"
        )));
    }
    store.abort(name)?;
    print(&format!("only the old keys of {name} work, as before\n"))
}

fn with_overlap(store: &Store, name: &ClientName) -> Result<ClientRecord, Failure> {
    let record = store.client(name)?;
    let overlaps = record.former.is_some();
    overlaps.then_some(record).ok_or_else(|| StoreError::NoOverlap(name.to_string()).into())
}
