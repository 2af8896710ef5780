//! With a real sshd and ssh.

use spa_tests::Result;
use spa_tests::lab::{Addressing, SshLogin, program};
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};

#[test]
fn ssh_knocks_by_itself_through_match_exec() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    assert!(!site.client.ssh(&login, SERVER_NAME, &["true"])?.success(), "no knock yet");

    let (spa, dir) = (program("spa")?, alice.dir().display());
    let knock = format!("{} knock %h --config-dir {dir}", spa.display());
    login.write_config(&format!("Match host {SERVER_NAME} exec \"{knock}\"\n"))?;
    let said = site.client.ssh(&login, SERVER_NAME, &["echo", "inside"])?.ok()?;
    assert_eq!(said.text(), "inside");
    assert_eq!(server.grants()?.len(), 1);
    Ok(())
}

#[test]
fn a_session_from_before_the_first_start_lives_on() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let mut v4 = site.client.ssh_session(&login, &site.server.v4()?.to_string())?;
    let mut v6 = site.client.ssh_session(&login, &site.server.v6()?.to_string())?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    server.start()?;
    for round in ["first", "second"] {
        assert!(v4.is_alive(round) && v6.is_alive(round), "sessions live on, {round} start");
        assert!(!site.reaches(&site.client, 22)?, "new connections do not come through");
        server.restart()?;
    }
    Ok(())
}

#[test]
fn a_session_outlives_its_grant_and_the_daemon() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.open(&server, &alice, &["--ttl", "3s"])?;
    let mut session = site.client.ssh_session(&login, SERVER_NAME)?;
    site.wait_until_ended(&server, spa_tests::wait::SOON * 2)?;
    assert!(session.is_alive("grant over"));
    server.spad(&["reload"])?.ok()?;
    assert!(session.is_alive("reloaded"));
    server.kill9()?;
    assert!(session.is_alive("killed"));
    server.start()?;
    assert!(session.is_alive("started again"));
    server.stop()?;
    assert!(session.is_alive("stopped"));
    assert!(!site.reaches(&site.client, 22)?, "and all the while nothing new comes in");
    Ok(())
}

#[test]
fn knock_with_wait_returns_when_ssh_answers() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    alice.knock(&["--wait"])?.ok()?;
    site.client.ssh(&login, SERVER_NAME, &["true"])?.ok()?;
    Ok(())
}
