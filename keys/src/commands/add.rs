//! `spa-keys add`.

use spa_keys::{NewClient, Policy, Store, Token, TokenEnrolment, date};

use super::{Failure, print};
use crate::cli::Add;
use crate::view::{comma_separated, limits};

pub(crate) fn run(store: &Store, add: Add) -> Result<(), Failure> {
    let client = new_client(add);
    let (name, limits) = (client.name.clone(), limits(&client.policy, client.expires));
    let token = store.add(client, date::now())?;
    print(&token.encode()).and_then(|()| print("\n")).map_err(|failure| {
        Failure::Other(format!("{failure}; the token is lost: run spa-keys revoke {name}"))
    })?;
    let services = comma_separated(&token.services);
    eprintln!("{name} may knock for {services}, {limits}\n{}", explain_token(&token));
    Ok(())
}

fn new_client(add: Add) -> NewClient {
    let (mut policy, mut expires) = (Policy::default(), None);
    add.rights.apply(&mut policy, &mut expires);
    NewClient { name: add.name, expires, policy, key: add.pubkey.map(|line| line.key) }
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
