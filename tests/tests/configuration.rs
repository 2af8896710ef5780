//! `spad check` and what it says of configurations.

use spa_tests::Result;
use spa_tests::lab::program;
use spa_tests::product::{SERVER_NAME, Server, Service, Settings, Site};

fn site_and_settings() -> Result<(Site, Settings)> {
    Ok((Site::new()?, Settings::default()))
}

#[test]
fn what_check_prints_nft_accepts() -> Result {
    let (site, settings) = site_and_settings()?;
    let web = Service { name: "web", port: 8080, ..Service::SSH };
    let dns = Service { name: "dns", port: 53, protocol: "udp", ..Service::SSH };
    let trusted = vec!["192.0.2.0/24".to_owned(), "2001:db8:7::/48".to_owned()];
    let services = vec![Service::SSH, web, dns];
    let server =
        Server::new(&site.server, SERVER_NAME, &Settings { trusted, services, ..settings })?;
    let text = server.spad(&["check"])?.ok()?.stdout;
    assert!(text.contains("table inet spad"), "{text}");
    site.server.run_with_input(["nft", "-c", "-f", "-"], &text)?.ok()?;
    let ruleset = site.server.run(["nft", "list", "ruleset"])?.ok()?;
    assert_eq!(ruleset.text(), "", "check changes nothing");
    Ok(())
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known() -> Result {
    let (site, settings) = site_and_settings()?;
    let server = Server::new(&site.server, SERVER_NAME, &settings)?;
    server.write_config(&server.config().replace("listen-port", "listen-prot"))?;
    let said = server.spad(&["check"])?;
    assert!(!said.success(), "{said}");
    for word in ["listen-prot", "listen-port", "spad.toml:2"] {
        assert!(said.stderr.contains(word), "{word} in {said}");
    }
    Ok(())
}

#[test]
fn a_wrong_value_is_named_with_its_line() -> Result {
    let (site, settings) = site_and_settings()?;
    let server = Server::new(&site.server, SERVER_NAME, &settings)?;
    for (right, wrong) in [
        ("listen-port = 62201", "listen-port = 99999"),
        ("tolerance = \"30s\"", "tolerance = \"soon\""),
        ("port = 22\n", "port = \"ssh\"\n"),
        ("protocol = \"tcp\"", "protocol = \"icmp\""),
        ("trusted = []", "trusted = [\"192.0.2.0/33\"]"),
    ] {
        let text = server.config().replacen(right, wrong, 1);
        assert_ne!(text, server.config(), "{right} is in the configuration");
        let line = text.lines().position(|line| line == wrong.trim_end()).map_or(0, |at| at + 1);
        server.write_config(&text)?;
        let said = server.spad(&["check"])?;
        assert!(!said.success(), "{wrong}: {said}");
        assert!(said.stderr.contains(&format!("spad.toml:{line}")), "line {line} in {said}");
    }
    Ok(())
}

#[test]
fn a_configuration_without_services_is_refused() -> Result {
    let (site, _) = site_and_settings()?;
    let settings = Settings::with_services(&[]);
    let server = Server::new(&site.server, SERVER_NAME, &settings)?;
    let said = server.spad(&["check"])?;
    assert!(!said.success() && said.stderr.contains("service"), "{said}");
    Ok(())
}

#[test]
fn the_daemon_does_not_start_with_a_broken_configuration() -> Result {
    let (site, settings) = site_and_settings()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &settings)?;
    server.write_config("[service.ssh\n")?;
    server.launch()?;
    assert!(!server.wait()?.success());
    assert!(server.log().contains("spad.toml"), "{}", server.log());
    Ok(())
}

#[test]
fn the_daemon_starts_without_clients_and_makes_its_directories() -> Result {
    let (site, settings) = site_and_settings()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &settings)?;
    server.start()?;
    for dir in [server.dir().join("state"), server.dir().join("keys")] {
        let shown = site.server.run(["stat", "-c", "%a", &dir.to_string_lossy()])?.ok()?;
        assert_eq!(shown.text(), "700", "{}", dir.display());
    }
    let shown = site.server.run(["stat", "-c", "%a", "/run/spad"])?.ok()?;
    assert_eq!(shown.text(), "700");
    Ok(())
}

#[test]
fn without_the_right_to_change_the_firewall_it_says_which_is_missing() -> Result {
    let (site, settings) = site_and_settings()?;
    let server = Server::new(&site.server, SERVER_NAME, &settings)?;
    let (spad, config) = (program("spad")?, server.config_path());
    let less = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let run = [&*spad.to_string_lossy(), "run", "--config", &*config.to_string_lossy()];
    let said = site.server.run(less.into_iter().chain(run))?;
    assert!(!said.success() && said.code() != Some(124), "{said}");
    assert!(said.stderr.contains("CAP_NET_ADMIN"), "{said}");
    Ok(())
}

#[test]
fn another_port_than_the_one_that_tokens_name_is_told() -> Result {
    let (site, settings) = site_and_settings()?;
    let server = Server::new(&site.server, SERVER_NAME, &settings)?;
    let told = |server: &Server| -> Result<bool> {
        Ok(server.spad(&["check"])?.ok()?.stderr.contains("tokens tell clients to knock at"))
    };
    assert!(!told(&server)?, "the same port");
    server.write_config(&server.config().replace("listen-port = 62201", "listen-port = 53"))?;
    assert!(told(&server)?, "no fault, since a router may translate it");
    Ok(())
}

/// `spa-keys` knows of no services: who mistypes one is told by who reads both.
#[test]
fn what_clients_may_knock_for_and_nothing_opens_is_told() -> Result {
    let (site, settings) = site_and_settings()?;
    let server = Server::new(&site.server, SERVER_NAME, &settings)?;
    server.add("alice", &["--service", "ssh"])?;
    assert_eq!(server.spad(&["check"])?.ok()?.stderr, "");
    for number in 1..=7 {
        server.add(&format!("bob{number}"), &["--service", "shs,ssh"])?;
    }
    let said = server.spad(&["check"])?.ok()?.stderr;
    let words = "no knock opens 'shs' here, for which bob1, bob2, bob3, bob4, bob5 and 2 more may";
    assert!(said.contains(words), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    Ok(())
}
