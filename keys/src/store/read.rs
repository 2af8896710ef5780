//! Records off the disk: one that is broken hides no other.

use std::collections::HashSet;
use std::path::Path;

use super::{Listing, RevokedListing};
use crate::document::Malformed;
use crate::error::StoreError;
use crate::files;
use crate::record::{ClientRecord, RevokedClient};
use crate::record_file::client_file_name;

pub(super) fn clients(dir: &Path) -> Result<Listing, StoreError> {
    let (mut records, mut broken) = read_all(dir, client)?;
    records.sort_by(|one, other| one.name.cmp(&other.name));
    let (records, twins) = without_twins(records);
    broken.extend(twins.iter().map(|record| twin(dir, record)));
    Ok(Listing { records, broken })
}

pub(super) fn revoked(dir: &Path) -> Result<RevokedListing, StoreError> {
    let (mut records, broken) = read_all(dir, revoked_client)?;
    records.sort_by(|one, other| (&one.name, one.revoked).cmp(&(&other.name, other.revoked)));
    Ok(RevokedListing { records, broken })
}

pub(super) fn client(path: &Path) -> Result<ClientRecord, StoreError> {
    Ok(ClientRecord::parse(path, &files::read_private(path)?)?)
}

fn revoked_client(path: &Path) -> Result<RevokedClient, StoreError> {
    Ok(RevokedClient::parse(path, &files::read_private(path)?)?)
}

/// Reads every `*.toml` in a directory; what cannot be read hides nothing else.
fn read_all<R>(
    dir: &Path,
    read: impl Fn(&Path) -> Result<R, StoreError>,
) -> Result<(Vec<R>, Vec<StoreError>), StoreError> {
    let (mut records, mut broken) = (Vec::new(), Vec::new());
    for path in files::entries(dir)?.iter().filter(|path| is_record(path)) {
        match read(path) {
            Ok(record) => records.push(record),
            // Revoked since the directory was read.
            Err(StoreError::File(error)) if error.is_missing() => {}
            Err(error) => broken.push(error),
        }
    }
    Ok((records, broken))
}

/// Editors' copies and temporary files are none.
fn is_record(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(".toml") && !name.starts_with('.'))
}

/// Takes out all but the first record of each key-id: a knock says only which
/// key-id it is of.
fn without_twins(records: Vec<ClientRecord>) -> (Vec<ClientRecord>, Vec<ClientRecord>) {
    let mut kids = HashSet::new();
    records.into_iter().partition(|record| kids.insert(record.kid))
}

fn twin(dir: &Path, record: &ClientRecord) -> StoreError {
    let path = dir.join(client_file_name(&record.name));
    Malformed::new(&path, "kid is that of another client: a copied record is no client").into()
}
