//! `spa-keys rotate`.

mod client;
mod server;
mod status;

use spa_keys::{Replaced, ReplacedServer, Store, StoreError, date};
use spa_proto::Timestamp;

use super::Failure;
use super::token::Delivery;
use crate::cli::rotate::{Rotate, What};

pub(crate) fn run(store: &Store, rotate: Rotate) -> Result<(), Failure> {
    if rotate.status {
        return status::run(store, rotate.delivery.json);
    }
    if let Some(name) = rotate.token {
        let delivery = Delivery::prepare(rotate.delivery)?;
        let token = store.update_token(&name)?;
        return delivery.hand_over(store, &name, &token, "spa-keys rotate --token");
    }
    match (rotate.what, rotate.name.clone()) {
        (Some(What::Psk), Some(name)) => client::run(store, &name, Replaced::Psk, rotate),
        (Some(What::Client), Some(name)) => client::run(store, &name, Replaced::All, rotate),
        (Some(What::Server), None) => server::run(store, ReplacedServer::Key, &rotate),
        (Some(What::Cloak), None) => server::run(store, ReplacedServer::Cloak, &rotate),
        (Some(What::Server | What::Cloak) | None, _) => Err(misused("it is nobody's alone")),
        (Some(_), None) => Err(misused("say whose keys: spa-keys rotate psk NAME")),
    }
}

fn misused(what: &'static str) -> Failure {
    StoreError::Policy(what).into()
}

/// How long is left, or that it is over.
fn left(until: Timestamp, now: Timestamp) -> String {
    if until < now { "over".to_owned() } else { date::format(until) }
}
