//! `spa-keys rotate server` and `cloak`.

use spa_keys::{ClientRecord, FormerIdentity, ReplacedServer, ServerIdentity, Store, date};

use super::super::{Failure, print};
use crate::cli::rotate::Rotate;

/// How many are named where somebody would be shut out.
const NAMED: usize = 20;

pub(super) fn run(store: &Store, replaced: ReplacedServer, rotate: &Rotate) -> Result<(), Failure> {
    match (rotate.finish, rotate.abort) {
        (true, _) => finish(store, rotate.yes),
        (_, true) => abort(store, rotate.yes),
        _ => {
            let now = date::now();
            let identity = ServerIdentity::rotate(store.dir(), replaced, rotate.overlap, now)?;
            let until = identity.former.map_or(now, |former| former.until);
            print(&format!(
                "clients can knock with the server's old keys until {}\n\
                 for each, make a token that brings it the new ones: spa-keys rotate --token NAME\n\
                 who has not moved: spa-keys rotate --status\n",
                date::format(until)
            ))
        }
    }
}

fn finish(store: &Store, anyway: bool) -> Result<(), Failure> {
    let (_, left) = divided(store)?;
    refuse(left, anyway, "have not moved, and are shut out without the old keys")?;
    ServerIdentity::finish(store.dir(), None)?;
    print("only the server's new keys work from now on\n")
}

fn abort(store: &Store, anyway: bool) -> Result<(), Failure> {
    let (moved, _) = divided(store)?;
    refuse(moved, anyway, "have moved, and are shut out without the new keys")?;
    ServerIdentity::abort(store.dir())?;
    print("only the server's old keys work, as before\n")
}

/// Those who have moved, or never had the old keys, and those who have not.
fn divided(store: &Store) -> Result<(Vec<ClientRecord>, Vec<ClientRecord>), Failure> {
    let identity = ServerIdentity::load(store.dir())?;
    Ok(match &identity.former {
        Some(former) => by_move(store, &identity, former)?,
        None => (Vec::new(), Vec::new()),
    })
}

/// The same, of a server whose keys are being replaced.
pub(super) fn by_move(
    store: &Store,
    identity: &ServerIdentity,
    former: &FormerIdentity,
) -> Result<(Vec<ClientRecord>, Vec<ClientRecord>), Failure> {
    let marks = identity.moved(store.dir()).map(|marks| marks.read());
    let marks = marks.transpose().map_err(spa_keys::StoreError::from)?.unwrap_or_default();
    let records = store.clients()?.records.into_iter();
    Ok(records.partition(|record| !former.keeps(record, &marks)))
}

fn refuse(who: Vec<ClientRecord>, anyway: bool, why: &str) -> Result<(), Failure> {
    if who.is_empty() || anyway {
        return Ok(());
    }
    let names = who.iter().take(NAMED).map(|record| format!("  {}\n", record.name));
    let more = who.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    let names: String = names.collect();
    Err(Failure::Other(format!("these {why}:\n{names}{more}if they are to be, say --yes")))
}
