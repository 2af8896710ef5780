//! The public-key steps of a knock in a process that does nothing in between: what they cost
//! there, and not in the loop of a micro-benchmark.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use spa_proto::{
    Arrival, ClientKeys, Cloak, Credentials, Gate, GateSettings, Kid, Monotonic, PreparedKeys, Psk,
    ServerSecret, SigningKey, Tolerance, Verifier,
};
use spa_tests::Result;
use spa_tests::lab::LabError;

use super::{Job, micros};
use crate::crowd::{knock, now};

/// How often, and how long it sleeps before each time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rare {
    pub(crate) rounds: u32,
    pub(crate) pause_ms: u64,
}

/// Microseconds, for each time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Took {
    /// What the gate takes.
    pub(crate) gate: Vec<f64>,
    /// What the signature takes.
    pub(crate) signature: Vec<f64>,
}

impl Job for Rare {
    const NAME: &'static str = "rare";
    type Outcome = Took;

    fn work(self) -> Result<Took> {
        let (secret, cloak) = (ServerSecret::from_bytes([3; 32]), Cloak::from_bytes([4; 16]));
        let (server, kid) = (secret.public(), Kid::from_bytes([5; 16]));
        let keys = ClientKeys::derive(&Psk::from_bytes([6; 32]), &server, &kid);
        let signing = SigningKey::from_seed(&[7; 32]);
        let verifier = Verifier::Bound(signing.verifying_key());
        let clock = Monotonic::new(Duration::from_secs(1000));
        let mut gate = Gate::new(secret, cloak.clone(), GateSettings::default(), clock);
        gate.insert(kid, keys.clone());
        let client = Credentials { server, kid, cloak, keys, signing };
        let source = IpAddr::from([192, 0, 2, 7]);
        let arrival = Arrival { source, destination: [192, 0, 2, 1].into() };
        let made = |number| knock(&client, source, Duration::ZERO, number);
        let knocks = (0..self.rounds).map(made).collect::<Result<Vec<_>>>()?;
        let (mut took, mut prepared) = (Took::default(), PreparedKeys::new());
        for (datagram, at) in knocks.iter().zip(1..) {
            thread::sleep(Duration::from_millis(self.pause_ms));
            // A client's budget is one a second.
            let clock = clock.plus(Duration::from_secs(at));
            let wall = now();
            let begun = Instant::now();
            let signed = gate.admit(datagram, arrival, wall, clock);
            let admitted = Instant::now();
            let verified = signed.and_then(|signed| {
                signed.verify_with(&mut prepared, &server, &verifier, wall, Tolerance::DEFAULT)
            });
            took.signature.push(micros(admitted.elapsed()));
            took.gate.push(micros(admitted - begun));
            verified.map_err(|reason| LabError::new(format!("refused: {reason:?}")))?;
        }
        Ok(took)
    }
}
