//! The Python client of `interop/`, written from docs/protocol.md alone, at a real daemon: what it
//! makes of a real token opens the port.

use std::net::SocketAddr;
use std::path::Path;

use spa_tests::Result;
use spa_tests::lab::{Datagram, Output};
use spa_tests::product::{Client, KNOCK_PORT, SERVER_NAME, Server, Site};

const PYTHON: &str = "/usr/bin/python3";
const SEED: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

/// Runs the program on the client's host.
fn python(site: &Site, command: &[&str], input: &str) -> Result<Output> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/spa_interop.py");
    let program = program.to_string_lossy();
    site.client.run_with_input([&[PYTHON, &*program], command].concat(), input)?.ok()
}

/// A knock for ssh that Python makes of a token.
fn knock(site: &Site, token: &str) -> Result<Datagram> {
    let case = format!("token: {}\nseed: {SEED}\nservices: ssh\n", token.trim());
    let made = python(site, &["seal"], &case)?;
    let payload = Datagram::unhex(made.text().trim().trim_start_matches("datagram: "))?;
    let to: SocketAddr = (site.address(), KNOCK_PORT).into();
    Ok(Datagram { from: to, to, payload })
}

/// Sends it, and sees the port open for its sender and for nobody else.
fn opens(site: &Site, server: &Server, knock: &Datagram) -> Result {
    site.assert_shut(server, &site.client, "before the knock")?;
    let before = server.counter("granted")?;
    site.client.send_udp(std::slice::from_ref(knock))?;
    server.wait_for_counter("granted", before + 1)?;
    assert!(site.reaches(&site.client, 22)?, "open for whom it was made");
    assert!(!site.reaches(&site.stranger, 22)?, "and for nobody else");
    Ok(())
}

#[test]
fn what_python_makes_of_a_token_enrols_and_opens() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let first = knock(&site, &token)?;
    opens(&site, &server, &first)?;
    site.close(&server, "alice")?;

    // Sealed again it is another knock of the same client, who is known by now; a copy is none.
    opens(&site, &server, &knock(&site, &token)?)?;
    site.close(&server, "alice")?;
    site.client.send_udp(&[first])?;
    server.wait_for_counter("duplicate", 1)?;
    site.assert_shut(&server, &site.client, "a copy")?;

    // The key that Python brought is bound: whoever has the token now is too late.
    let thief = Client::new(&site.client, "thief", SERVER_NAME);
    thief.enroll(&token)?.ok()?;
    site.refused(&server, &thief, &[], "enrol-taken")
}

#[test]
fn a_key_line_of_pythons_is_taken_and_its_knock_opens() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let line = python(&site, &["request"], &format!("seed: {SEED}\n"))?;
    let line = line.text().trim().trim_start_matches("line: ");
    let token = server.add("alice", &["--service", "ssh", "--pubkey", line])?;
    opens(&site, &server, &knock(&site, &token)?)
}
