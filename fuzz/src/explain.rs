//! A file that somebody gives an administrator to explain. One knock of a client is
//! known to the fuzzer: what it makes of that is granted nowhere.

use std::collections::HashSet;
use std::net::IpAddr;

use spa_keys::{ClientRecord, Policy, ServerIdentity, encoding};
use spa_proto::{
    Address, ClientKeys, Cloak, Credentials, Datagram, Entropy, Kid, Kind, Mode, Psk, Request,
    ServerSecret, Services, SigningKey, Timestamp, Verifier, seal,
};
use spad::bans::Bans;
use spad::config::Config;
use spad::explain::{Options, Server, explain};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const KID: Kid = Kid::from_bytes([3; 16]);
const SECRET: [u8; 32] = [1; 32];
const PSK: [u8; 32] = [2; 32];
const SEED: [u8; 32] = [5; 32];
const CLOAK: [u8; 16] = [4; 16];

/// The file. Through: there was something to explain in it.
pub fn run(input: &[u8]) -> bool {
    let explained = [(true, false), (false, true), (false, false)].map(|(json, verbose)| {
        let options = Options {
            files: vec!["-".into()],
            at: Some(NOW),
            port: None,
            source: Some(IpAddr::from([198, 51, 100, 7])),
            json,
            verbose,
        };
        let mut out = Vec::new();
        let fault = explain(server(), &options, vec![input], &mut out).err();
        let text = String::from_utf8(out).expect("text");
        let plain = |letter: char| letter == '\n' || !letter.is_control();
        assert!(text.chars().all(plain), "{text:?} could move a terminal's cursor");
        assert!(fault.is_none_or(|fault| fault.chars().all(plain)));
        text
    });
    let [json, _, lines] = explained;
    assert_eq!(json.lines().count(), lines.lines().count(), "one line each");
    for line in json.lines() {
        let told: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(told["verdict"] != "granted" || holds(input, &knock()), "{line}");
    }
    !json.is_empty()
}

/// Whether the knock is in the input as it is, or as `spa knock --save` writes it.
fn holds(input: &[u8], knock: &Datagram) -> bool {
    let saved = encoding::to_base64(knock);
    let has = |part: &[u8]| input.windows(part.len()).any(|window| window == part);
    // Escapes may stand for some of a saved one's letters.
    has(knock) || has(saved.as_bytes()) || has(b"\\u") || has(b"\\U") || has(b"\\\n")
}

/// The one knock that there is.
fn knock() -> Datagram {
    let server = ServerSecret::from_bytes(SECRET).public();
    let credentials = Credentials {
        server,
        kid: KID,
        cloak: Cloak::from_bytes(CLOAK),
        keys: ClientKeys::derive(&Psk::from_bytes(PSK), &server, &KID),
        signing: SigningKey::from_seed(&SEED),
    };
    let request = Request {
        kind: Kind::Knock,
        mode: Mode::Default,
        address: Address::Seen,
        width: None,
        seconds: None,
        services: Services::new(["ssh".parse().unwrap()]).unwrap(),
    };
    seal(&credentials, &request, NOW, &Entropy::from_bytes([6; 32])).unwrap()
}

fn server() -> Server {
    Server {
        config: Config::parse("[service.ssh]\nport = 22\n").unwrap(),
        identity: ServerIdentity {
            secret: ServerSecret::from_bytes(SECRET),
            cloak: Cloak::from_bytes(CLOAK),
            host: "fw.example".to_owned(),
            port: 62201,
            former: None,
            first: None,
        },
        records: vec![record()],
        revoked: 0,
        own: HashSet::new(),
        bans: Bans::default(),
    }
}

fn record() -> ClientRecord {
    ClientRecord {
        name: "alice".parse().unwrap(),
        kid: KID,
        psk: Psk::from_bytes(PSK),
        verifier: Verifier::Bound(SigningKey::from_seed(&SEED).verifying_key()),
        knocked: true,
        created: Timestamp::ZERO,
        expires: None,
        disabled: None,
        policy: Policy { services: vec!["ssh".parse().unwrap()], ..Policy::default() }.into(),
        person: None,
        former: None,
        former_kids: Vec::new(),
    }
}
