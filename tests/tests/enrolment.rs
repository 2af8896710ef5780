//! Tokens: used once, by one client, and never on a command line.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use spa_tests::Result;
use spa_tests::product::{Client, SERVER_NAME, Server, Settings, Site};

#[test]
fn the_first_knock_enrols_and_opens() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_token_is_one_line_alone_on_standard_output() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let added = server.keys(&["add", "alice", "--service", "ssh"])?.ok()?;
    assert_eq!(added.stdout.lines().count(), 1, "{added}");
    assert!(!added.stdout.trim().contains(char::is_whitespace), "{added}");
    Ok(())
}

#[test]
fn a_token_used_by_one_client_is_refused_from_another() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    let thief = Client::new(&site.client, "thief", SERVER_NAME);
    alice.enroll(&token)?.ok()?;
    thief.enroll(&token)?.ok()?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;

    site.refused(&server, &thief, &[], "enrol-taken")?;
    site.assert_shut(&server, &site.client, "the token was used")?;
    assert!(server.log().contains("enrol-taken"), "audited: {}", server.log());
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_used_token_is_refused_after_a_restart_too() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    let thief = Client::new(&site.client, "thief", SERVER_NAME);
    alice.enroll(&token)?.ok()?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;
    server.kill9()?;
    server.start()?;
    thief.enroll(&token)?.ok()?;
    site.refused(&server, &thief, &[], "enrol-taken")?;
    site.assert_shut(&server, &site.client, "the token was used")
}

#[test]
fn a_mistyped_token_is_refused_with_a_clear_message() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let middle = token.len() / 2;
    let other = if token.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let mistyped = format!("{}{other}{}", &token[..middle], &token[middle + 1..]);
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    for wrong in [mistyped.as_str(), &token[..token.len() - 1], "", "hello"] {
        let said = alice.enroll(wrong)?;
        assert!(!said.success() && said.stderr.contains("token"), "{wrong:?}: {said}");
    }
    alice.enroll(&token)?.ok()?;
    Ok(())
}

#[test]
fn a_token_as_an_argument_is_refused() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let token = server.add("alice", &["--service", "ssh"])?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    let said = alice.spa(&["enroll", &token])?;
    assert_eq!(said.code(), Some(2), "{said}");
    assert!(!said.all().contains(&token), "it is not repeated: {said}");
    assert!(!alice.spa(&["hosts"])?.stdout.contains(SERVER_NAME), "and not taken");
    Ok(())
}

#[test]
fn a_token_comes_from_a_file_as_well() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let file = site.lab.dir().join("token");
    fs::write(&file, server.add("alice", &["--service", "ssh"])?)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    alice.spa(&["enroll", &file.to_string_lossy()])?.ok()?;
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn a_client_that_made_its_key_first_needs_no_secret() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = Client::new(&site.client, "alice", SERVER_NAME);
    let request = alice.spa(&["request"])?.ok()?;
    let options = ["--service", "ssh", "--pubkey", request.text()];
    let token = server.add("alice", &options)?;
    alice.enroll(&token)?.ok()?;
    site.open(&server, &alice, &[])?;
    site.close(&server, "alice")?;

    let thief = Client::new(&site.client, "thief", SERVER_NAME);
    let said = thief.enroll(&token)?;
    assert!(!said.success() && said.stderr.contains("key"), "{said}");
    assert!(!thief.knock(&[])?.success());
    site.assert_shut(&server, &site.client, "another key")
}

/// All files below a directory.
fn files(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = vec![];
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[test]
fn private_files_are_made_for_their_owner_alone_and_loose_ones_are_refused() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let private = files(alice.dir())?;
    assert!(!private.is_empty());
    for path in private {
        let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        let said = alice.knock(&[])?;
        assert!(!said.success(), "{} is loose: {said}", path.display());
        assert!(said.stderr.contains(&*path.to_string_lossy()), "{said}");
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    site.open(&server, &alice, &[])?;
    Ok(())
}

#[test]
fn loose_files_of_the_server_are_refused() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.add("alice", &["--service", "ssh"])?;
    server.spad(&["check"])?.ok()?;
    let key = files(&server.dir().join("keys"))?.into_iter().find(|path| {
        fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o777 == 0o600)
    });
    let key = key.expect("a private file");
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    let said = server.spad(&["check"])?;
    assert!(!said.success() && said.stderr.contains(&*key.to_string_lossy()), "{said}");
    Ok(())
}

#[test]
fn a_client_is_never_overwritten() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.add("alice", &["--service", "ssh"])?;
    let again = server.keys(&["add", "alice", "--service", "ssh"])?;
    assert!(!again.success() && again.stderr.contains("alice"), "{again}");
    let init = server.keys(&["init", "--host", SERVER_NAME])?;
    assert!(!init.success(), "{init}");
    Ok(())
}

#[test]
fn clients_are_listed_and_shown_without_their_secrets() -> Result {
    let site = Site::new()?;
    let server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let token = server.add("alice", &["--service", "ssh", "--ttl", "45s"])?;
    let list = server.keys(&["list", "--json"])?.ok()?;
    let list: serde_json::Value = serde_json::from_str(&list.stdout)?;
    assert_eq!(list[0]["name"], "alice", "{list}");
    let shown = server.keys(&["show", "alice"])?.ok()?;
    assert!(shown.stdout.contains("alice") && shown.stdout.contains("ssh"), "{shown}");
    assert!(!shown.stdout.contains(&token), "{shown}");
    Ok(())
}
