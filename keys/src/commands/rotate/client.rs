//! `spa-keys rotate psk` and `client`.

use spa_keys::{ClientName, ClientRecord, Replaced, Store, StoreError, Token, date};
use spa_proto::Timestamp;

use super::super::{Failure, print};
use crate::cli::rotate::Rotate;

pub(super) fn run(
    store: &Store,
    name: &ClientName,
    replaced: Replaced,
    rotate: &Rotate,
) -> Result<(), Failure> {
    match (rotate.finish, rotate.abort) {
        (true, _) => finish(store, name, rotate.yes),
        (_, true) => abort(store, name, rotate.yes),
        _ => {
            let now = date::now();
            let token = store.rotate(name, replaced, rotate.overlap, now)?;
            hand_over(&token, name)?;
            let until = store.client(name)?.former.map_or(now, |former| former.until);
            eprintln!("{}", explain(name, replaced, until, now));
            Ok(())
        }
    }
}

fn hand_over(token: &Token, name: &ClientName) -> Result<(), Failure> {
    print(&token.encode()).and_then(|()| print("\n")).map_err(|failure| {
        Failure::Other(format!(
            "{failure}; the token is lost, and the old keys work on: run spa-keys rotate psk \
             {name} --abort"
        ))
    })
}

fn explain(name: &ClientName, replaced: Replaced, until: Timestamp, now: Timestamp) -> String {
    let (how, enroll) = match replaced {
        Replaced::Psk => ("works only with the key that this client has".to_owned(), ""),
        Replaced::All => {
            let expires = date::format(now.plus(Store::TOKEN_LIFETIME));
            (format!("works once, until {expires}, and makes a new key"), " --replace")
        }
    };
    format!(
        "the old keys of {name} work until {}; the token, which brings the new ones, {how}: hand \
         it over safely, then on the client: spa enroll{enroll}",
        date::format(until)
    )
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
