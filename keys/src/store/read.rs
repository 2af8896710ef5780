//! Records off the disk: one that is broken hides no other.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;

use spa_proto::Kid;

use super::{Listing, PeopleListing, RevokedListing};
use crate::document::Malformed;
use crate::error::StoreError;
use crate::files;
use crate::policy::Person;
use crate::record::{ClientName, ClientRecord, RevokedClient};
use crate::record_file::{FileOf, client_file_name, name_in, person_file_name};
use crate::wipe;

pub(super) fn clients(dir: &Path) -> Result<Listing, StoreError> {
    let (mut records, mut broken) = read_all(dir, is_client, client)?;
    records.sort_by(|one, other| one.name.cmp(&other.name));
    let (records, twins) = without_twins(records);
    broken.extend(twins.iter().map(|record| twin(dir, &record.name)));
    Ok(Listing { records, broken })
}

pub(super) fn people(dir: &Path) -> Result<PeopleListing, StoreError> {
    let (mut people, broken) = read_all(dir, is_person, person)?;
    people.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(PeopleListing { people: people.into_iter().map(Arc::new).collect(), broken })
}

pub(super) fn revoked(dir: &Path) -> Result<RevokedListing, StoreError> {
    let (mut records, broken) = read_all(dir, is_record, revoked_client)?;
    records.sort_by(|one, other| (&one.name, one.revoked).cmp(&(&other.name, other.revoked)));
    Ok(RevokedListing { records, broken })
}

pub(super) fn client(path: &Path) -> Result<ClientRecord, StoreError> {
    Ok(ClientRecord::parse(path, &files::read_private(path)?)?)
}

pub(super) fn person(path: &Path) -> Result<Person, StoreError> {
    Ok(Person::parse(path, &files::read_private(path)?)?)
}

fn revoked_client(path: &Path) -> Result<RevokedClient, StoreError> {
    Ok(RevokedClient::parse(path, &files::read_private(path)?)?)
}

/// Reads every file of a kind in a directory; what cannot be read hides nothing else.
fn read_all<R: Send>(
    dir: &Path,
    is_wanted: impl Fn(&OsStr) -> bool,
    read: impl Fn(&Path) -> Result<R, StoreError> + Sync,
) -> Result<(Vec<R>, Vec<StoreError>), StoreError> {
    let (mut records, mut broken) = (Vec::new(), Vec::new());
    each(dir, is_wanted, read, |file, result| match result {
        Ok(record) => records.push(record),
        Err(error) => broken.push((file, error)),
    })?;
    broken.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((records, broken.into_iter().map(|(_, error)| error).collect()))
}

/// How many files a reader takes at once.
const PART: usize = 64;

/// Reads every file of a kind in a directory, with as many threads as are of use, and
/// tells what came of each file, in no order.
pub(super) fn each<R: Send>(
    dir: &Path,
    is_wanted: impl Fn(&OsStr) -> bool,
    read: impl Fn(&Path) -> Result<R, StoreError> + Sync,
    mut tell: impl FnMut(OsString, Result<R, StoreError>),
) -> Result<(), StoreError> {
    // Whoever can write to the one above can put another in its place.
    match dir.parent().map_or(Ok(()), files::check_private_dir) {
        Err(error) if error.is_missing() => {}
        checked => checked?,
    }
    let files = files::names(dir, is_wanted)?;
    let read_part = |part: &[OsString]| -> Vec<_> {
        let there = part
            .iter()
            .filter_map(|file| Some((file.clone(), unless_gone(read(&dir.join(file)))?)));
        there.collect()
    };
    let next = AtomicUsize::new(0);
    let parts = || std::iter::from_fn(|| files.chunks(PART).nth(next.fetch_add(1, Relaxed)));
    let readers = thread::available_parallelism().map_or(1, usize::from).min(files.len() / PART);
    // Few wait to be told of, so that a crowd is never twice in memory.
    let (found, told) = mpsc::sync_channel(2 * readers);
    thread::scope(|scope| {
        for _ in 0..readers {
            let (found, parts, read_part) = (found.clone(), &parts, &read_part);
            let reader = move || {
                wipe::stack_after(|| parts().try_for_each(|part| found.send(read_part(part))))
            };
            // What cannot be had leaves the work to the others.
            let _ = thread::Builder::new().spawn_scoped(scope, reader);
        }
        drop(found);
        let alone = parts().map(&read_part);
        told.into_iter().chain(alone).flatten().for_each(|(file, result)| tell(file, result));
    });
    Ok(())
}

/// Revoked since the directory was read.
fn unless_gone<R>(read: Result<R, StoreError>) -> Option<Result<R, StoreError>> {
    match read {
        Err(StoreError::File(error)) if error.is_missing() => None,
        read => Some(read),
    }
}

/// Reads one file of the directory; `None` where there is none.
pub(super) fn file<R>(
    dir: &Path,
    file: &OsStr,
    read: impl Fn(&Path) -> Result<R, StoreError>,
) -> Option<Result<R, StoreError>> {
    let checked = files::check_private_dir(dir).map_err(StoreError::from);
    unless_gone(checked.and_then(|()| read(&dir.join(file))))
}

/// Editors' copies and temporary files are none.
pub(super) fn is_record(file: &OsStr) -> bool {
    file.to_str().is_some_and(|name| name.ends_with(".toml") && !name.starts_with('.'))
}

pub(super) fn is_person(file: &OsStr) -> bool {
    is_record(file) && matches!(whose(file), Some(FileOf::Person(_)))
}

pub(super) fn is_client(file: &OsStr) -> bool {
    is_record(file) && !is_person(file)
}

/// Whose file it is, by its name.
pub(super) fn whose(file: &OsStr) -> Option<FileOf> {
    name_in(file.to_str()?)
}

/// Takes out all but the first record of each key-id: a knock says only which
/// key-id it is of.
fn without_twins(records: Vec<ClientRecord>) -> (Vec<ClientRecord>, Vec<ClientRecord>) {
    let mut kids = HashSet::new();
    let mut is_first = |record: &ClientRecord| {
        let own = !record.kids().any(|kid| kids.contains(&kid));
        kids.extend(record.kids().filter(|_| own));
        own
    };
    records.into_iter().partition(|record| is_first(record))
}

/// The records of a directory that have one of these key-ids. What cannot be read has none.
pub(super) fn copies(dir: &Path, kids: &[Kid]) -> Result<Vec<ClientRecord>, StoreError> {
    let named: Vec<_> = kids.iter().map(Kid::to_string).collect();
    // To read a record takes several times as long as to look for a name in it.
    let read = |path: &Path| {
        let text = files::read_private(path)?;
        let is_named = named.iter().any(|kid| text.contains(kid));
        Ok(if is_named { Some(ClientRecord::parse(path, &text)?) } else { None })
    };
    let mut copies = Vec::new();
    each(dir, is_client, read, |_, record| {
        let record = record.ok().flatten();
        copies.extend(record.filter(|record| record.kids().any(|kid| kids.contains(&kid))));
    })?;
    Ok(copies)
}

pub(super) fn twin(dir: &Path, name: &ClientName) -> StoreError {
    let path = dir.join(client_file_name(name));
    Malformed::new(&path, "kid is that of another client: a copied record is no client").into()
}

pub(super) fn person_gone(dir: &Path, name: &ClientName) -> StoreError {
    let path = dir.join(person_file_name(name));
    let what = format!(
        "it is gone: for {name}'s devices what it said last holds; put it back, or have spa-keys \
        enable {name} write one without limits"
    );
    Malformed::new(&path, what).into()
}
