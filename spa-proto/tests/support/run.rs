//! Runs a case with the crate (protocol §14).

use spa_proto::{
    Arrival, ClientKeys, Cloak, Credentials, EnrolHash, Entropy, Gate, GateSettings, Kid,
    Monotonic, Psk, Rate, Reason, Request, ServerPublic, ServerSecret, SignedRequest, SigningKey,
    Timestamp, Tolerance, Verifier, VerifyingKey, seal,
};

use super::case::{Case, unhex};

/// Which half refused, and why; or the key that a verified knock binds.
pub(crate) type Outcome = Result<Option<VerifyingKey>, (&'static str, Reason)>;

/// What the server makes of the datagram, up to step 9.
pub(crate) fn open(case: &Case) -> Outcome {
    let mut gate = gate(case);
    for earlier in case.all("earlier") {
        let _ = admit(&mut gate, &unhex(earlier), case);
    }
    let datagram = unhex(case.one("datagram"));
    let signed = admit(&mut gate, &datagram, case).map_err(|reason| ("gate", reason))?;
    assert_eq!(signed.kid(), sender(case));
    verify(&signed, case).map_err(|reason| ("warden", reason))
}

fn gate(case: &Case) -> Gate {
    let secret = ServerSecret::from_bytes(case.bytes("s"));
    let public = secret.public();
    assert_eq!(public.to_string(), case.one("S"));
    let cloak = Cloak::from_bytes(case.bytes("cloak"));
    let clock = Monotonic::new(std::time::Duration::ZERO);
    let mut gate = Gate::new(secret, cloak, settings(case), clock);
    for client in case.all("client") {
        let (kid, psk) = client.split_once(' ').expect("kid and psk");
        let (kid, psk) = (kid_of(kid), Psk::from_bytes(unhex(psk).try_into().unwrap()));
        gate.insert(kid, ClientKeys::derive(&psk, &public, &kid));
    }
    if case.get("floor").is_some() {
        gate.recall(&sender(case), Timestamp::from_millis(case.number("floor")), []);
    }
    gate
}

fn settings(case: &Case) -> GateSettings {
    let usual = GateSettings::default();
    let rate = |key| {
        case.get(key).map(|text| {
            let (burst, per_second) = text.split_once(' ').expect("burst and rate");
            Rate { burst: burst.parse().unwrap(), per_second: per_second.parse().unwrap() }
        })
    };
    GateSettings {
        tolerance: tolerance(case),
        client_rate: rate("client-budget").unwrap_or(usual.client_rate),
        global_rate: rate("global-budget").unwrap_or(usual.global_rate),
    }
}

fn tolerance(case: &Case) -> Tolerance {
    case.get("tolerance").map_or(Tolerance::DEFAULT, |text| {
        Tolerance::new(std::time::Duration::from_millis(text.parse().unwrap()))
    })
}

fn admit(gate: &mut Gate, datagram: &[u8], case: &Case) -> Result<SignedRequest, Reason> {
    let arrival =
        Arrival { source: case.address("source"), destination: case.address("destination") };
    let now = Timestamp::from_millis(case.number("now"));
    gate.admit(datagram, arrival, now, Monotonic::new(std::time::Duration::ZERO))
}

fn verify(signed: &SignedRequest, case: &Case) -> Result<Option<VerifyingKey>, Reason> {
    let server = ServerSecret::from_bytes(case.bytes("s")).public();
    let key = if case.get("warden-now").is_some() { "warden-now" } else { "now" };
    let now = Timestamp::from_millis(case.number(key));
    let knock = signed.verify(&server, &record(case), now, tolerance(case))?;
    for (key, value) in [("nonce", knock.nonce().to_string()), ("ts", text(knock.time()))] {
        assert!(case.get(key).is_none_or(|of_file| of_file == value), "{key}: {value}");
    }
    Ok(knock.binds())
}

fn text(time: Timestamp) -> String {
    time.as_millis().to_string()
}

fn record(case: &Case) -> Verifier {
    let words: Vec<_> = case.one("record").split(' ').collect();
    let bytes = |at: usize| -> [u8; 32] { unhex(words[at]).try_into().unwrap() };
    match words[0] {
        "key" => Verifier::Bound(VerifyingKey::from_bytes(&bytes(1)).unwrap()),
        "token" => Verifier::Pending {
            secret: EnrolHash::from_bytes(bytes(1)),
            expires: Timestamp::from_millis(words[2].parse().unwrap()),
        },
        other => panic!("record: {other}"),
    }
}

fn sender(case: &Case) -> Kid {
    let first = || case.all("client").next().and_then(|client| client.split(' ').next());
    kid_of(case.get("kid").or_else(first).expect("a client"))
}

fn kid_of(text: &str) -> Kid {
    Kid::from_bytes(unhex(text).try_into().unwrap())
}

/// The datagram that [`seal`] makes of the client's half of a case.
pub(crate) fn seal_again(case: &Case) -> [u8; 336] {
    let server = ServerPublic::from_bytes(case.bytes("server"));
    let kid = Kid::from_bytes(case.bytes("kid"));
    let credentials = Credentials {
        server,
        kid,
        cloak: Cloak::from_bytes(case.bytes("cloak")),
        keys: ClientKeys::derive(&Psk::from_bytes(case.bytes("psk")), &server, &kid),
        signing: SigningKey::from_seed(&case.bytes("seed")),
    };
    let request = Request::decode(&case.bytes("body")).expect("a canonical body");
    let entropy = Entropy::from_bytes(case.bytes("randomness"));
    seal(&credentials, &request, Timestamp::from_millis(case.number("ts")), &entropy).unwrap()
}
