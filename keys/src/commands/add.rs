//! `spa-keys add`.

use spa_keys::{NewClient, Policy, Store, date, note};

use super::Failure;
use super::token::{Delivery, RENEW};
use crate::cli::{Add, TokenOptions};
use crate::view::{comma_separated, limits};

pub(crate) fn run(store: &Store, add: Add) -> Result<(), Failure> {
    let (client, token) = new_client(add);
    let delivery = Delivery::prepare(token)?;
    let (name, limits) = (client.name.clone(), limits(&client.policy, client.expires));
    let token = store.add(client, date::now())?;
    note!("{name} may knock for {}, {limits}", comma_separated(&token.services));
    delivery.hand_over(store, &name, &token, RENEW)
}

fn new_client(add: Add) -> (NewClient, TokenOptions) {
    let (mut policy, mut expires) = (Policy::default(), None);
    add.rights.apply(&mut policy, &mut expires);
    let key = add.pubkey.map(|line| line.key);
    (NewClient { name: add.name, expires, policy, key }, add.token)
}
