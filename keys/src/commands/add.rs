//! `spa-keys add`.

use spa_keys::{Modes, NewClient, Store, Widest, date, duration};

use super::Failure;
use super::token::Delivery;
use crate::cli::{Add, TokenOptions};
use crate::view::{comma_separated, mode_names, sources, width};

pub(crate) fn run(store: &Store, add: Add) -> Result<(), Failure> {
    let (client, token) = new_client(add);
    let delivery = Delivery::prepare(token)?;
    let explanation = explain(&client);
    let name = client.name.clone();
    let token = store.add(client, date::now())?;
    eprintln!("{explanation}");
    delivery.hand_over(&name, &token)
}

fn new_client(add: Add) -> (NewClient, TokenOptions) {
    let (modes, widest) = (add.modes(), add.widest());
    let client = NewClient {
        name: add.name,
        services: add.services,
        ttl: add.ttl,
        max_ttl: add.max_ttl,
        expires: add.expires,
        sources: add.sources,
        address: add.address,
        modes,
        widest,
        key: add.pubkey.map(|line| line.key),
    };
    (client, add.token)
}

/// What the client may do.
fn explain(client: &NewClient) -> String {
    let mut text = format!(
        "{} may knock for {}, from {}",
        client.name,
        comma_separated(&client.services),
        sources(&client.sources)
    );
    let limits = [
        client.ttl.map(|ttl| format!("for {} each time", duration::format(ttl))),
        client.max_ttl.map(|max| format!("for {} at most", duration::format(max))),
        client.expires.map(|expires| format!("until {}", date::format(expires))),
        (client.modes != Modes::ALL)
            .then(|| format!("only {}", mode_names(client.modes).join(" or "))),
        (client.widest != Widest::ADDRESS).then(|| format!("as wide as {}", width(client.widest))),
    ];
    limits.into_iter().flatten().for_each(|limit| text.extend([", ", &limit]));
    text
}
