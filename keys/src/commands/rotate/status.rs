//! `spa-keys rotate --status`: what is being replaced, and who has not moved.

use serde::Serialize;
use spa_keys::{ClientRecord, ServerIdentity, Store, StoreError, date, encoding, note};
use spa_proto::{Timestamp, Verifier};

use super::super::{Failure, print};
use super::{left, server};
use crate::view::{aligned_table, to_json};

/// The names are those of the JSON.
#[derive(Serialize)]
struct Status {
    server: Option<Server>,
    clients: Vec<Client>,
}

/// The server's keys.
#[derive(Serialize)]
struct Server {
    /// `server` or `cloak`, as it was asked for.
    replaced: &'static str,
    began: String,
    until: String,
    public_key: String,
    former_public_key: String,
    moved: usize,
    not_moved: Vec<String>,
    #[serde(skip)]
    left: String,
}

/// One whose own keys are being replaced.
#[derive(Serialize)]
struct Client {
    name: String,
    /// `psk` or `client`, as it was asked for.
    replaced: &'static str,
    until: String,
    moved: bool,
    #[serde(skip)]
    row: [String; 4],
}

pub(super) fn run(store: &Store, json: bool) -> Result<(), Failure> {
    if let Ok(false) = store.dir().try_exists() {
        return Err(StoreError::NotInitialised(store.dir().to_owned()).into());
    }
    let (listing, now) = (store.clients()?, date::now());
    let clients = listing.records.iter().filter_map(|record| Client::of(record, now)).collect();
    let status = Status { server: Server::of(store, now)?, clients };
    print(&if json { to_json(&status) } else { text(&status) })?;
    listing.broken.iter().for_each(|error| note!("spa-keys: {error}"));
    Ok(())
}

impl Server {
    fn of(store: &Store, now: Timestamp) -> Result<Option<Self>, Failure> {
        let identity = ServerIdentity::load(store.dir())?;
        let Some(former) = &identity.former else { return Ok(None) };
        let (moved, not_moved) = server::by_move(store, &identity, former)?;
        let [public, before] = [&identity.secret, &former.secret].map(|secret| secret.public());
        let text = |key: &spa_proto::ServerPublic| encoding::to_base64(key.as_bytes()).to_string();
        Ok(Some(Self {
            replaced: if public == before { "cloak" } else { "server" },
            began: date::format(former.began),
            until: date::format(former.until),
            public_key: text(&public),
            former_public_key: text(&before),
            moved: moved.len(),
            not_moved: not_moved.iter().map(|record| record.name.to_string()).collect(),
            left: left(former.until, now),
        }))
    }

    fn text(&self) -> String {
        let Self { replaced, left, moved, not_moved, .. } = self;
        let names: String = not_moved.iter().map(|name| format!("  {name}\n")).collect();
        let count = not_moved.len();
        format!(
            "the server's own ({replaced}): old keys until {left}; {moved} have moved, {count} have \
             not\n{names}"
        )
    }
}

impl Client {
    fn of(record: &ClientRecord, now: Timestamp) -> Option<Self> {
        let former = record.former.as_ref()?;
        let replaced = match record.verifier {
            Verifier::Bound(key) if key == former.key => "psk",
            _ => "client",
        };
        let name = record.name.to_string();
        let moved = moved(record, now);
        let row = [name.clone(), replaced.to_owned(), left(former.until, now), moved];
        let until = date::format(former.until);
        Some(Self { name, replaced, until, moved: record.knocked, row })
    }
}

fn moved(record: &ClientRecord, now: Timestamp) -> String {
    match &record.verifier {
        _ if record.knocked => "yes".to_owned(),
        Verifier::Pending { expires, .. } if now > *expires => {
            "no: its token was not used in time".to_owned()
        }
        _ => "no".to_owned(),
    }
}

fn text(status: &Status) -> String {
    let server = status.server.as_ref().map(Server::text).unwrap_or_default();
    if status.clients.is_empty() {
        return if server.is_empty() { "no keys are being replaced\n".to_owned() } else { server };
    }
    let rows = status.clients.iter().map(|client| client.row.clone()).collect();
    server + &aligned_table(["NAME", "REPLACED", "OLD KEYS UNTIL", "MOVED"], rows)
}
