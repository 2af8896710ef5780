//! What the gate refuses.

use spa_proto::Address;

use super::super::case::{Case, hex};
use super::super::craft::{Plan, public, tag_again};
use super::super::parties::{BORDER, Client, EPOCH_MS, Server, bytes, ip, services};
use super::{Scene, enrolment};

pub(super) fn cases() -> Vec<(&'static str, Case)> {
    [forms(), names(), times(), copies(), seals(), bodies()].concat()
}

fn forms() -> Vec<(&'static str, Case)> {
    let long = |about, len: usize| {
        let scene = Scene::new(about);
        scene.altered("gate", "length", |datagram| datagram.resize(len, 0))
    };
    let from = |about, source, destination| {
        let scene = Scene::new(about)
            .with(|scene| (scene.source, scene.destination) = (source, destination));
        scene.refused("gate", "addressing")
    };
    vec![
        ("length-0", long("Nothing.", 0)),
        ("length-335", long("One byte short.", 335)),
        ("length-337", long("One byte more.", 337)),
        ("source-unspecified", from("Source 0.0.0.0.", "0.0.0.0", "203.0.113.1")),
        ("source-broadcast", from("Source broadcast.", "255.255.255.255", "203.0.113.1")),
        ("source-multicast", from("Source multicast.", "ff02::1", "2001:db8:2::1")),
        ("source-mapped", from("IPv4-mapped.", "::ffff:198.51.100.7", "2001:db8:2::1")),
        ("destination-multicast", from("Sent to a group.", "198.51.100.7", "224.0.0.1")),
    ]
}

fn names() -> Vec<(&'static str, Case)> {
    let unknown = |about, change: fn(&mut Scene)| {
        Scene::new(about).with(change).refused("gate", "unknown-client")
    };
    vec![
        ("unknown-client", unknown("Nobody of that name.", |scene| scene.known.clear())),
        ("other-psk", unknown("Right kid, wrong psk.", |scene| scene.client.psk = [1; 32])),
        ("crossed-psk", unknown("The psk of another client.", crossed)),
        ("other-cloak", other_cloak()),
        ("other-server", unknown("For another server, with the same kid, psk and cloak.", other)),
        ("two-epochs-old", unknown("Two epochs old.", |scene| scene.now += 2 * EPOCH_MS)),
        ("two-epochs-ahead", unknown("Two epochs ahead.", |scene| scene.ts += 2 * EPOCH_MS)),
        (
            "bad-tag",
            Scene::new("The last bit flipped.")
                .altered("gate", "bad-tag", |bytes| flip_last(bytes)),
        ),
        ("epoch-mismatch", epoch_mismatch()),
    ]
}

fn other_cloak() -> Case {
    Scene::new("Made with another cloak than the server's.")
        .with(|scene| scene.client.cloak = [2; 16])
        .deviating("gate", "unknown-client", |_, _, _| ())
}

fn crossed(scene: &mut Scene) {
    let second = Client::new(2, &scene.server);
    scene.client.psk = second.psk;
    scene.known.push(second);
}

fn other(scene: &mut Scene) {
    scene.server = Server { cloak: scene.server.cloak, ..Server::new(2) };
    scene.known[0].server = scene.server.public();
}

fn flip_last(datagram: &mut [u8]) {
    datagram[335] ^= 1;
}

fn epoch_mismatch() -> Case {
    Scene::new("Right at a border: the pseudonym is of the epoch before that of ts.")
        .with(|scene| (scene.ts, scene.now) = (BORDER, BORDER))
        .deviating("gate", "epoch-mismatch", |plan, _, honest| plan.epoch = Some(honest.epoch - 1))
}

fn times() -> Vec<(&'static str, Case)> {
    let stale =
        |about, change: fn(&mut Scene)| Scene::new(about).with(change).refused("gate", "stale");
    vec![
        ("stale-old", stale("A millisecond too old.", |scene| scene.now = scene.ts + 30_001)),
        ("stale-ahead", stale("A millisecond ahead.", |scene| scene.now = scene.ts - 30_001)),
        (
            "stale-narrow",
            stale("A narrower window.", |scene| {
                scene.now = scene.ts + 1001;
                scene.server_knows.push(("tolerance", "1000".to_owned()));
            }),
        ),
    ]
}

fn copies() -> Vec<(&'static str, Case)> {
    vec![
        ("duplicate", {
            Scene::new("The same once more, its budget of one spent: free.")
                .with(|scene| {
                    scene.server_knows.push(("client-budget", "1 0".to_owned()));
                    scene.hears(scene.plan());
                })
                .refused("gate", "duplicate")
        }),
        ("duplicate-floor", {
            Scene::new("At the floor.")
                .with(|scene| scene.server_knows.push(("floor", scene.ts.to_string())))
                .refused("gate", "duplicate")
        }),
        ("over-budget", {
            Scene::new("A second knock where one is allowed.")
                .with(|scene| {
                    scene.server_knows.push(("client-budget", "1 0".to_owned()));
                    scene.hears(Plan { randomness: bytes("earlier", 0), ..scene.plan() });
                })
                .refused("gate", "over-budget")
        }),
        ("over-cap", {
            Scene::new("All clients together have used up theirs.")
                .with(|scene| scene.server_knows.push(("global-budget", "0 0".to_owned())))
                .refused("gate", "over-cap")
        }),
    ]
}

impl Scene {
    /// Another datagram came before.
    fn hears(&mut self, plan: Plan) {
        let earlier = self.client.sender().knock(&plan).datagram;
        self.server_knows.push(("earlier", hex(&earlier)));
    }
}

/// A point of order 8 on Curve25519.
const ORDER_8: [u8; 32] = [
    0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
    0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
];

fn seals() -> Vec<(&'static str, Case)> {
    let ephemeral = |about, key: [u8; 32]| {
        Scene::new(about).deviating("gate", "bad-ephemeral", |plan, _, _| {
            plan.ephemeral = Some((key, [0; 32]));
        })
    };
    vec![
        ("ephemeral-zero", ephemeral("E is zero: X25519 gives zero.", [0; 32])),
        ("ephemeral-order-8", ephemeral("E is of order 8: X25519 gives zero.", ORDER_8)),
        ("bad-seal", broken_seal()),
        ("other-ephemeral", other_ephemeral()),
        ("rewrapped-server", rewrapped()),
    ]
}

fn broken_seal() -> Case {
    let scene = Scene::new("One bit of the ciphertext flipped, the tag made anew.");
    let sender = scene.client.sender();
    scene.altered("gate", "bad-seal", |datagram| {
        let mut altered: [u8; 336] = datagram[..].try_into().unwrap();
        altered[100] ^= 1;
        tag_again(&sender, &mut altered);
        datagram.copy_from_slice(&altered);
    })
}

fn other_ephemeral() -> Case {
    let scene = Scene::new("E is not the key that the secret was agreed with.");
    scene.deviating("gate", "bad-seal", |plan, _, honest| {
        plan.ephemeral = Some((public([9; 32]), honest.dh));
    })
}

/// Everything symmetric is this server's, but T names another.
fn rewrapped() -> Case {
    let scene = Scene::new("T, for key and signature, names another server.");
    scene.deviating("gate", "bad-seal", |plan, sender, honest| {
        let mut other = *sender;
        other.server = *Server::new(2).public().as_bytes();
        plan.transcript = Some(other.transcript(honest.nonce, plan.ts, honest.ephemeral));
    })
}

fn bodies() -> Vec<(&'static str, Case)> {
    let odd = |about, change: fn(&mut [u8; 160])| {
        let scene = Scene::new(about).with(|scene| {
            scene.request.address = Address::Explicit(ip("192.0.2.7"));
            scene.request.services = services("ssh web");
        });
        scene.deviating("gate", "not-canonical", |plan, _, _| change(&mut plan.body))
    };
    vec![
        ("body-version", odd("Version 2.", |body| body[0] = 2)),
        ("body-kind", odd("A kind that is not there.", |body| body[1] = 2)),
        ("body-mode", odd("Mode bound without a port.", |body| body[2] = 3)),
        ("body-port", odd("A port in another mode.", |body| body[7] = 1)),
        ("body-family", odd("IPv5.", |body| body[4] = 5)),
        ("body-prefix", odd("A prefix length on an explicit address.", |body| body[5] = 24)),
        ("body-address-tail", odd("Bytes behind an IPv4 address.", |body| body[27] = 1)),
        ("body-host-bits", odd("Bits beyond the width.", |body| body[156] = 24)),
        ("body-width", odd("A width as long as the address.", |body| body[156] = 32)),
        (
            "body-seen-host-bits",
            odd("Bits beyond the prefix.", |body| (body[3], body[5]) = (0, 24)),
        ),
        ("body-service-order", odd("Services not sorted.", |body| body[28..60].rotate_left(16))),
        ("body-service-twice", odd("A service twice.", |body| body.copy_within(28..44, 44))),
        ("body-service-gap", odd("An empty slot first.", |body| body[28..44].fill(0))),
        ("body-service-none", odd("No service.", |body| body[28..92].fill(0))),
        ("body-service-case", odd("A capital letter.", |body| body[28] = b'S')),
        ("body-service-zero", odd("A port with a leading zero.", leading_zero)),
        ("body-padding", odd("The last byte is not zero.", |body| body[159] = 1)),
        ("body-secret", odd("A secret in an ordinary knock.", |body| body[155] = 1)),
        ("body-key-weak", weak_key("A key of small order.", [0; 32])),
        ("body-key-not-canonical", weak_key("A key with y = p + 3.", key_beyond_p())),
        ("body-key-no-point", weak_key("A key that is no point.", no_point())),
    ]
}

fn leading_zero(body: &mut [u8; 160]) {
    body[44..60].copy_from_slice(b"tcp/022\0\0\0\0\0\0\0\0\0");
}

fn weak_key(about: &'static str, key: [u8; 32]) -> Case {
    let scene = Scene::enrolling(about).with(|scene| scene.request = enrolment(&scene.client));
    scene.deviating("gate", "not-canonical", |plan, _, _| plan.body[92..124].copy_from_slice(&key))
}

/// y = 3 is a point of large order; p + 3 is the same number written otherwise.
fn key_beyond_p() -> [u8; 32] {
    let mut key = [0xff; 32];
    (key[0], key[31]) = (0xf0, 0x7f);
    key
}

/// The first small y without a point.
fn no_point() -> [u8; 32] {
    let with_y = |y| std::array::from_fn(|at| if at == 0 { y } else { 0 });
    let no_point = |key: &[u8; 32]| ed25519_dalek::VerifyingKey::from_bytes(key).is_err();
    (2..=255).map(with_y).find(no_point).unwrap()
}
