//! What is let through.

use spa_proto::{Address, Mode, Prefix};

use super::super::case::Case;
use super::super::parties::{BORDER, Client, ip, services};
use super::{Scene, key_record, token_record};

pub(super) fn cases() -> Vec<(&'static str, Case)> {
    [requests(), enrolments(), times()].concat()
}

fn requests() -> Vec<(&'static str, Case)> {
    let asking =
        |about, address| Scene::new(about).with(|scene| scene.request.address = address).signed();
    let within = |text, len| Address::SeenWithin(Prefix::new(ip(text), len).unwrap());
    vec![
        ("seen", Scene::new("The address that the server sees.").signed()),
        ("explicit-v4", asking("An IPv4 address.", Address::Explicit(ip("192.0.2.7")))),
        ("explicit-v6", asking("An IPv6 address.", Address::Explicit(ip("2001:db8::7")))),
        ("seen-within-v4", asking("Seen, in an IPv4 prefix.", within("198.51.100.0", 24))),
        ("seen-within-v6", asking("Seen, in an IPv6 prefix.", within("2001:db8::", 32))),
        ("seen-within-all", asking("Seen, any of IPv6: a prefix of length 0.", within("::", 0))),
        ("over-v6", over_v6()),
        ("services", four_services()),
        ("bound", bound_port()),
        ("width", width()),
        ("two-clients", second_of_two()),
    ]
}

fn over_v6() -> Case {
    Scene::new("The packet travels over IPv6.")
        .with(|scene| {
            scene.source = "2001:db8:1::7";
            scene.destination = "2001:db8:2::1";
        })
        .signed()
}

fn four_services() -> Case {
    Scene::new("Four services, a name of 16 letters among them, sorted in the body.")
        .with(|scene| {
            scene.request.services = services("web tcp/22 udp/65535 abcdefghijklmnop");
        })
        .signed()
}

fn bound_port() -> Case {
    Scene::new("Mode bound, with a source port and a duration.")
        .with(|scene| {
            scene.request.mode = Mode::Bound { source_port: 40_000 };
            scene.request.seconds = std::num::NonZeroU32::new(90);
        })
        .signed()
}

fn width() -> Case {
    Scene::new("Mode once, for a whole prefix.")
        .with(|scene| {
            scene.request.mode = Mode::Once;
            scene.request.address = Address::Explicit(ip("2001:db8:0:7::"));
            scene.request.width = Some(64);
        })
        .signed()
}

fn second_of_two() -> Case {
    Scene::new("The second of two clients.")
        .with(|scene| {
            scene.client = Client::new(2, &scene.server);
            scene.record = key_record(&scene.client);
            scene.known.push(scene.client.clone());
        })
        .signed()
}

fn enrolments() -> Vec<(&'static str, Case)> {
    let binds = |scene: Scene| {
        let key = scene.client.signing().verifying_key().to_bytes();
        scene.signed().gap().with_bytes("binds", &key)
    };
    let again = Scene::enrolling("The key is bound already: an ordinary knock.")
        .with(|scene| scene.record = key_record(&scene.client));
    let last = Scene::enrolling("In the last millisecond of the token.")
        .with(|scene| scene.record = token_record(scene.now));
    vec![
        ("enrol", binds(Scene::enrolling("The first knock binds the client's key."))),
        ("enrol-again", again.signed()),
        ("enrol-last-moment", binds(last)),
    ]
}

fn times() -> Vec<(&'static str, Case)> {
    let at = |about, ts, now| {
        let scene = Scene::new(about).with(|scene| (scene.ts, scene.now) = (ts, now));
        scene.signed()
    };
    vec![
        ("window-oldest", at("As old as may be.", BORDER + 70_000, BORDER + 100_000)),
        ("window-newest", at("As far ahead as may be.", BORDER + 130_000, BORDER + 100_000)),
        ("epoch-previous", at("The last of an epoch comes in the next.", BORDER - 1, BORDER)),
        ("epoch-next", at("The first of an epoch comes in the one before.", BORDER, BORDER - 1)),
    ]
}
