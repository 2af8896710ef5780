//! `spa-keys init`.

use serde::Serialize;
use spa_keys::{ServerIdentity, Store, encoding, note, own_host_name};

use super::{Failure, print};
use crate::cli::Init;
use crate::view::to_json;

pub(crate) fn run(store: &Store, init: Init) -> Result<(), Failure> {
    let host = init.host.or_else(own_host_name).ok_or_else(nameless)?;
    let server = ServerIdentity::init(store.dir(), &host, init.port)?;
    let public_key = encoding::to_base64(server.secret.public().as_bytes());
    let dir = store.dir().display();
    if init.json {
        let file = format!("{dir}/server.toml");
        let made = Made { file, host: &host, port: server.port, public_key: &public_key };
        return print(&to_json(&made)).map(|()| advise(&host));
    }
    print(&format!(
        "made {dir}/server.toml\n\
         clients will knock at {host}, UDP port {port}\n\
         public key {}\n",
        *public_key,
        port = server.port,
    ))?;
    advise(&host);
    Ok(())
}

/// What was made, for programs.
#[derive(Serialize)]
struct Made<'a> {
    file: String,
    host: &'a str,
    port: u16,
    public_key: &'a str,
}

fn nameless() -> Failure {
    Failure::Other("this machine has no usable name: say it with --host NAME".to_owned())
}

/// Names without a domain rarely mean anything elsewhere.
fn advise(host: &str) {
    if !host.contains(['.', ':']) {
        note!(
            "spa-keys: clients elsewhere may not find a host named {host}: its name is in \
             server.toml, to be changed before tokens are made"
        );
    }
}
