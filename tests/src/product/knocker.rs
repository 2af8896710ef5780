//! A client without a program: knocks by the thousand, and of any time.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use spa_keys::{AddressRule, NewClient, Policy, Store, Token};
use spa_proto::{
    Address, ClientKeys, Credentials, Entropy, Kind, Mode, Request, Services, SigningKey,
    Timestamp, seal,
};

use super::Server;
use crate::lab::{Datagram, LabError, Result, unix_time};

/// A client that knocks for whatever address it is told.
pub struct Knocker(Credentials);

impl Knocker {
    /// Adds a client named `c` and this number, whose key the server knows already.
    pub fn new(server: &Server, number: u32) -> Result<Self> {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let signing = SigningKey::from_seed(&seed);
        let new = NewClient {
            name: Self::name(number).parse()?,
            expires: None,
            policy: Policy {
                services: vec!["ssh".parse()?],
                address: AddressRule::This,
                ..Policy::default()
            },
            key: Some(signing.verifying_key()),
        };
        let token = Store::open(&server.dir().join("keys")).add(new, now()?)?;
        let Token { server, cloak, kid, psk, .. } = token;
        let keys = ClientKeys::derive(&psk, &server, &kid);
        Ok(Self(Credentials { server, kid, cloak, keys, signing }))
    }

    /// The name of the client of this number.
    pub fn name(number: u32) -> String {
        format!("c{number}")
    }

    /// A knock of this time for `source`, for an hour; `number` makes it another one than those
    /// before.
    pub fn knock(
        &self,
        source: impl Into<IpAddr>,
        to: SocketAddr,
        time: Timestamp,
        number: u32,
    ) -> Result<Datagram> {
        let request = Request {
            kind: Kind::Knock,
            mode: Mode::Default,
            address: Address::Explicit(source.into()),
            width: None,
            seconds: NonZeroU32::new(3600),
            services: Services::new(["ssh".parse()?])
                .ok_or_else(|| LabError::new("no services"))?,
        };
        let mut entropy = [9; 32];
        entropy[..4].copy_from_slice(&number.to_be_bytes());
        let sealed = seal(&self.0, &request, time, &Entropy::from_bytes(entropy))
            .map_err(|error| LabError::new(format!("sealing: {error:?}")))?;
        Ok(Datagram { from: to, to, payload: sealed.to_vec() })
    }
}

/// What the machine's clock says.
pub fn now() -> Result<Timestamp> {
    Ok(Timestamp::from_millis(u64::try_from(unix_time()?.as_millis())?))
}
