//! From day to day: ssh and what runs over it, without a thought for the knock;
//! and a knock for somebody else.

use std::fs;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Output, SshLogin, program};
use spa_tests::product::{Client, SERVER_NAME, Site};

/// A site with sshd, and a login there.
fn site() -> Result<(Site, SshLogin)> {
    let site = Site::without_service(Addressing::PRIVATE)?;
    let login = SshLogin::new(&site.client)?;
    Ok((site, login))
}

/// The words of `spa ssh` for this client, up to where ssh's own begin.
fn spa_ssh(client: &Client<'_>, login: &SshLogin) -> Result<String> {
    let (spa, dir) = (program("spa")?, client.dir().display());
    Ok(format!("{} --config-dir {dir} ssh -F {}", spa.display(), login.config().display()))
}

/// Sends a directory there and back, with this in place of ssh.
fn rsync(client: &Client<'_>, ssh: &str) -> Result {
    let dir = client.host().dir().display();
    client.host().sh("rm -rf sent copied back; mkdir sent; seq 200000 > sent/numbers")?.ok()?;
    let there = format!("{SERVER_NAME}:{dir}/copied");
    for (from, to) in [("sent/", there.as_str()), (&format!("{there}/"), "back")] {
        client.host().run(["rsync", "-a", "-e", ssh, from, to])?.ok()?;
    }
    client.host().sh("cmp sent/numbers back/numbers")?.ok()?;
    Ok(())
}

/// Makes a repository and fetches it through this in place of ssh.
fn git(client: &Client<'_>, ssh: &str) -> Result {
    let dir = client.host().dir().display();
    let identity = "-c user.name=a -c user.email=a@example -c init.defaultBranch=main";
    client
        .host()
        .sh(&format!(
            "rm -rf there here; git init -q there && cd there && echo hello > file && git add file && \
             git {identity} commit -qm one"
        ))?
        .ok()?;
    let clone = format!(
        "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
         GIT_SSH_COMMAND='{ssh}' git clone -q {SERVER_NAME}:{dir}/there here && cat here/file"
    );
    assert_eq!(client.host().sh(&clone)?.ok()?.text(), "hello");
    Ok(())
}

#[test]
fn spa_ssh_is_ssh_after_a_knock() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let ssh = spa_ssh(&alice, &login)?;
    let run = |line: &str| -> Result<Output> { site.client.sh(&format!("{ssh} {line}")) };
    assert!(!site.client.ssh(&login, SERVER_NAME, &["true"])?.success(), "no knock yet");
    let said = run(&format!("{SERVER_NAME} 'echo inside; cat; exit 7' < /etc/hostname"))?;
    assert_eq!(said.code(), Some(7), "the status of what ran there: {said}");
    assert!(said.stdout.starts_with("inside\n") && said.stdout.len() > 7, "{said}");
    assert_eq!(said.stderr, "");
    assert_eq!(server.counter("granted")?, 1);

    // With a terminal there, as asked for with ssh's own option.
    assert_eq!(run(&format!("-tt {SERVER_NAME} test -t 0 < /dev/null"))?.code(), Some(0));
    rsync(&alice, &ssh)?;
    git(&alice, &ssh)?;
    Ok(())
}

/// ssh's own name for the jump host, its port there, and where it really is: only ssh knows.
#[test]
fn a_jump_host_is_knocked_at_where_ssh_has_it() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    login.write_config(&format!(
        "Host inner\n  HostName 127.0.0.1\n  ProxyJump outer\n\
         Host outer\n  HostName {SERVER_NAME}\n  ProxyCommand none\n"
    ))?;
    let ssh = spa_ssh(&alice, &login)?;
    let said = site.client.sh(&format!("{ssh} inner echo inside"))?.ok()?;
    assert_eq!((said.text(), said.stderr.as_str()), ("inside", ""));
    assert_eq!(server.counter("granted")?, 1);
    Ok(())
}

#[test]
fn ssh_scp_rsync_and_git_knock_by_themselves() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let config = login.config().display().to_string();
    let ssh = format!("ssh -F {config}");
    for (round, options) in [&["--write"][..], &["--write", "--proxy"]].into_iter().enumerate() {
        site.close(&server, "alice")?;
        let before = server.counter("granted")?;
        let words = [&["ssh-config", "--file", &config], options].concat();
        alice.spa(&words)?.ok()?;
        let said = site.client.ssh(&login, SERVER_NAME, &["echo", "inside"])?.ok()?;
        assert_eq!(said.text(), "inside");
        assert!(server.counter("granted")? > before, "round {round}");
        site.close(&server, "alice")?;
        rsync(&alice, &ssh)?;
        site.close(&server, "alice")?;
        git(&alice, &ssh)?;
        site.close(&server, "alice")?;
        let dir = site.client.dir().display().to_string();
        let there = format!("{SERVER_NAME}:{dir}/by-scp");
        site.client.run(["scp", "-O", "-q", "-F", &config, "sent/numbers", &there])?.ok()?;
        site.client.sh("cmp sent/numbers by-scp && rm by-scp")?.ok()?;
    }
    site.close(&server, "alice")?;
    alice.spa(&["ssh-config", "--file", &config, "--remove"])?.ok()?;
    assert!(!site.client.ssh(&login, SERVER_NAME, &["true"])?.success(), "no knock any more");
    Ok(())
}

/// Though ssh would knock by itself, and is asked before what it would do.
#[test]
fn spa_ssh_knocks_once() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let config = login.config().display().to_string();
    let ssh = spa_ssh(&alice, &login)?;
    for options in [&["--write"][..], &["--write", "--proxy"]] {
        site.close(&server, "alice")?;
        alice.spa(&[&["ssh-config", "--file", &config], options].concat())?.ok()?;
        let before = server.counter("granted")?;
        site.client.sh(&format!("{ssh} {SERVER_NAME} true"))?.ok()?;
        assert_eq!(server.counter("granted")?, before + 1, "{options:?}");
    }
    // What ssh runs for itself still knocks.
    site.close(&server, "alice")?;
    alice.spa(&["ssh-config", "--file", &config, "--write"])?.ok()?;
    let before = server.counter("granted")?;
    site.client.ssh(&login, SERVER_NAME, &["true"])?.ok()?;
    assert_eq!(server.counter("granted")?, before + 1);
    Ok(())
}

/// Its name has an address of a family that there is none of here.
#[test]
fn the_doctor_finds_nothing_wrong_with_an_address_that_nobody_needs() -> Result {
    let site = Site::with(Addressing::V4_ONLY)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    site.client.set_name(SERVER_NAME, &[site.address(), "2001:db8:ffff::1".parse()?])?;
    let said = alice.spa(&["doctor", SERVER_NAME, "--wait", "5"])?;
    assert_eq!(said.code(), Some(0), "{said}");
    assert!(said.stdout.contains("note  route      2001:db8:ffff::1: "), "{said}");
    assert!(said.stdout.contains("opened within"), "{said}");
    // Where none of them can be reached that is what is wrong, and said once.
    site.client.set_name(SERVER_NAME, &["2001:db8:ffff::1".parse()?])?;
    let said = alice.spa(&["doctor", SERVER_NAME, "--wait", "1"])?;
    assert_eq!((said.code(), said.stdout.matches("BAD").count()), (Some(1), 1), "{said}");
    Ok(())
}

#[test]
fn the_doctor_finds_what_is_in_the_way() -> Result {
    let (site, login) = site()?;
    let _sshd = site.server.sshd(&login)?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let examine = || alice.spa(&["doctor", SERVER_NAME, "--wait", "2"]);
    let said = examine()?.ok()?;
    for words in ["silent, as it should be", "nothing came back", "opened within"] {
        assert!(said.stdout.contains(words), "{words:?} is missing: {said}");
    }
    assert!(!said.stdout.contains("BAD"), "{said}");
    assert!(examine()?.ok()?.stdout.contains("is open without a knock"), "the grant lasts");

    let finds = |words: &str| -> Result {
        let said = examine()?;
        assert_eq!(said.code(), Some(1), "{said}");
        let bad = said.stdout.lines().any(|line| line.starts_with("BAD") && line.contains(words));
        assert!(bad, "{words:?} is missing: {said}");
        Ok(())
    };
    site.client
        .nft(
            "table inet t { chain o { type filter hook output priority 0; \
                     meta l4proto udp th dport 62201 drop; }; }",
        )?
        .ok()?;
    site.close(&server, "alice")?;
    finds("not permitted")?;
    site.client.nft("delete table inet t")?.ok()?;
    server.keys(&["revoke", "alice"])?.ok()?;
    finds("did not open within 2 s")?;
    server.spad(&["stop", "--open"])?.ok()?;
    finds("port unreachable")
}

#[test]
fn a_saved_knock_opens_for_somebody_without_keys() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let (spa, friend) = (program("spa")?, &site.stranger);
    let saved = friend.dir().join("saved.toml");
    let address = friend.v4()?.to_string();
    let at = saved.display().to_string();
    alice.knock(&["--from", &address, "--save", &at])?.ok()?;
    site.assert_shut(&server, friend, "saved, and not sent")?;

    friend.run([spa.as_os_str(), "send".as_ref(), saved.as_os_str()])?.ok()?;
    server.wait_for_counter("granted", 1)?;
    assert!(site.reaches(friend, 22)?, "open for the one it was made for");
    assert!(!site.reaches(&site.client, 22)?, "and not for the one who made it");

    // The same again is nothing: neither from there nor from elsewhere.
    site.close(&server, "alice")?;
    friend.run([spa.as_os_str(), "send".as_ref(), saved.as_os_str()])?.ok()?;
    site.client.run([spa.as_os_str(), "send".as_ref(), saved.as_os_str()])?.ok()?;
    site.assert_shut(&server, friend, "used already")?;
    fs::remove_file(saved)?;
    Ok(())
}
