//! `spa-keys add`.

use spa_keys::{NewClient, Store, Token, TokenEnrolment, date, duration};

use super::{Failure, print};
use crate::cli::Add;
use crate::view::{comma_separated, sources};

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
    NewClient {
        name: add.name,
        services: add.services,
        ttl: add.ttl,
        max_ttl: add.max_ttl,
        expires: add.expires,
        sources: add.sources,
        address: add.address,
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
