//! `spa-keys renew`.

use spa_keys::{ClientName, Store, date, note};

use super::Failure;
use super::token::{Delivery, RENEW};
use crate::cli::TokenOptions;

pub(crate) fn run(store: &Store, name: &ClientName, token: TokenOptions) -> Result<(), Failure> {
    let delivery = Delivery::prepare(token)?;
    let token = store.renew(name, date::now())?;
    note!("the token that {name} had before works no more");
    delivery.hand_over(store, name, &token, RENEW)
}
