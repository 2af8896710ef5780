//! A client's record, and what is left of a revoked one: files that
//! administrators edit.

use std::path::Path;

use spa_keys::{ClientRecord, RevokedClient};

/// The input is the text of `alice.toml`. Through: it is a record.
pub fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    client(text) | revoked(text)
}

/// What is written of a record says the same when it is read, and is written
/// in the same way again.
fn client(text: &str) -> bool {
    let path = Path::new("alice.toml");
    let Ok(record) = ClientRecord::parse(path, text) else { return false };
    assert_eq!(record.name.as_str(), "alice");
    assert!(!record.policy.services.is_empty());
    let written = record.to_text();
    let Ok(again) = ClientRecord::parse(path, &written) else { panic!("not read again") };
    assert!(*again.to_text() == *written, "written in two ways");
    true
}

fn revoked(text: &str) -> bool {
    let path = Path::new("alice-00000000.toml");
    let Ok(client) = RevokedClient::parse(path, text) else { return false };
    let written = client.to_text();
    assert!(!written.contains("psk"), "a secret is kept");
    let Ok(again) = RevokedClient::parse(path, &written) else { panic!("not read again") };
    assert!(*again.to_text() == *written, "written in two ways");
    true
}
