//! `spa-keys add`.

use spa_keys::{Modes, NewClient, Store, Token, TokenEnrolment, Widest, date, duration};

use super::{Failure, print};
use crate::cli::Add;
use crate::view::{comma_separated, mode_names, sources, width};

pub(crate) fn run(store: &Store, add: Add) -> Result<(), Failure> {
    let client = new_client(add);
    let explanation = explain(&client);
    let name = client.name.clone();
    let token = store.add(client, date::now())?;
    print(&token.encode()).and_then(|()| print("\n")).map_err(|failure| {
        Failure::Other(format!("{failure}; the token is lost: run spa-keys revoke {name}"))
    })?;
    eprintln!("{explanation}\n{}", explain_token(&token));
    Ok(())
}

fn new_client(add: Add) -> NewClient {
    let (modes, widest) = (add.modes(), add.widest());
    NewClient {
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
    }
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

/// What to do with the token.
fn explain_token(token: &Token) -> String {
    match &token.enrolment {
        TokenEnrolment::Secret { expires, .. } => format!(
            "the token works once, until {}: hand it over safely, then on the client: spa enroll",
            date::format(*expires)
        ),
        TokenEnrolment::Key(_) => "the token works only with the key that spa request made: hand \
                                   it over safely, then on that client: spa enroll"
            .to_owned(),
    }
}
