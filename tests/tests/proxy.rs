//! `spa proxy`: programs that connect through it need not know that anything
//! was shut.

use std::fs;
use std::time::{Duration, Instant};

use spa_tests::Result;
use spa_tests::lab::{Addressing, SshLogin, program};
use spa_tests::product::{Client, SERVER_NAME, Site};

/// A site whose server has one name for both its addresses, and sshd.
fn site() -> Result<(Site, SshLogin)> {
    let site = Site::without_service(Addressing::PRIVATE)?;
    site.client.set_name(SERVER_NAME, &site.server.addresses())?;
    let login = SshLogin::new(&site.client)?;
    Ok((site, login))
}

/// Lets ssh connect through `spa proxy`.
fn use_proxy(login: &SshLogin, client: &Client<'_>, options: &str) -> Result {
    let (spa, dir) = (program("spa")?, client.dir().display());
    let proxy = format!("{} proxy {SERVER_NAME} %p --config-dir {dir} {options}", spa.display());
    login.write_config(&format!("Host {SERVER_NAME}\n  ProxyCommand {proxy}\n"))
}

#[test]
fn ssh_connects_through_the_proxy() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    assert!(!site.client.ssh(&login, SERVER_NAME, &["true"])?.success(), "no knock yet");
    for (family, address) in [("-4", site.server.v4()?), ("-6", site.server.v6()?)] {
        use_proxy(&login, &alice, family)?;
        let start = Instant::now();
        let said = site.client.ssh(&login, SERVER_NAME, &["echo $SSH_CONNECTION"])?.ok()?;
        println!("{family}: knocked, logged in and out in {:?}", start.elapsed());
        assert!(said.text().contains(&address.to_string()), "{}", said.text());
    }
    Ok(())
}

#[test]
fn files_arrive_whole_both_ways() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    use_proxy(&login, &site.client(&server, "alice")?, "")?;
    let dir = site.client.dir().display().to_string();
    let config = login.config().display().to_string();
    let (sent, copied, back) =
        (format!("{dir}/sent"), format!("{dir}/copied"), format!("{dir}/back"));
    let content: Vec<u8> =
        (0..10_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
    fs::write(&sent, &content)?;
    let start = Instant::now();
    let there = format!("{SERVER_NAME}:{copied}");
    site.client.run(["scp", "-O", "-q", "-F", &config, &sent, &there])?.ok()?;
    site.client.run(["scp", "-O", "-q", "-F", &config, &there, &back])?.ok()?;
    println!("10 MB there and back in {:?}", start.elapsed());
    assert!(fs::read(&back)? == content);
    Ok(())
}

#[test]
fn a_session_through_the_proxy_outlives_its_grant() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    use_proxy(&login, &site.client(&server, "alice")?, "--ttl 2s")?;
    let mut session = site.client.ssh_session(&login, SERVER_NAME)?;
    site.wait_until_ended(&server, spa_tests::wait::SOON * 2)?;
    assert!(!site.reaches(&site.client, 22)?, "shut for new connections");
    assert!(session.is_alive("still"));
    Ok(())
}

#[test]
fn the_proxy_knocks_again_until_somebody_hears_it() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let mut server = site.spad()?;
    use_proxy(&login, &site.client(&server, "alice")?, "--wait 60")?;
    server.stop()?;
    let config = login.config().display().to_string();
    let timeout = ["-o", "ConnectTimeout=60"];
    let words = [&["ssh", "-F", &config], &timeout[..], &[SERVER_NAME, "echo", "inside"]].concat();
    let mut ssh = site.client.spawn(words)?;
    std::thread::sleep(Duration::from_millis(1500));
    server.start()?;
    let status = ssh.wait(Duration::from_secs(60))?;
    assert!(status.success(), "{}", ssh.stderr());
    Ok(())
}

/// A name with addresses of both families is knocked at only where the given
/// source can come from.
#[test]
fn a_given_source_goes_by_its_own_family() -> Result {
    let (site, _) = site()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    for (knocks, source) in [(1, site.client.v4()?), (2, site.client.v6()?)] {
        alice.knock(&["--source", &source.to_string()])?.ok()?;
        server.wait_for_counter("granted", knocks)?;
        let grants = server.grants()?;
        assert!(grants.iter().any(|grant| grant.source == source), "{source}");
        assert_eq!(grants.len() as u64, knocks, "one knock each");
    }
    Ok(())
}
