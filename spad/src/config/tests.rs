use std::time::Duration;

use super::*;

fn fault(text: &str) -> (Option<usize>, String) {
    Config::parse(text).expect_err(text)
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[service.ssh]\nport = 22\n").unwrap();
    assert!(Config::load(file.path()).is_ok());
    for mode in [0o620, 0o602, 0o666] {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Config::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{mode:o}: {error}");
    }
}

#[test]
fn one_service_is_enough() {
    let config = Config::parse("[service.ssh]\nport = 22\n").unwrap();
    assert_eq!(config.listen_port, 62201);
    assert_eq!(config.interfaces, Interfaces::Any);
    assert_eq!(config.keys_dir, Path::new("/etc/spad/keys"));
    let ssh = &config.services[&"ssh".parse().unwrap()];
    assert_eq!(config.ports(&"ssh".parse().unwrap()), ["tcp/22"]);
    assert_eq!((ssh.mode, ssh.access), (GrantMode::Window, Access::Knock));
    assert_eq!(config.firewall, FirewallConfig::default());
    assert_eq!(
        (ssh.lasting.ttl, ssh.lasting.max_ttl),
        (Duration::from_secs(30), Duration::from_secs(300))
    );
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(
        "interfaces = [\"eth0\", \"wg0\"]\nlisten-port = 4000\nkeys-dir = \"/k\"\n\
         state-dir = \"/s\"\nrun-dir = \"/r\"\ntolerance = \"10s\"\n\
         trusted = [\"10.0.0.0/8\", \"2001:db8::1\"]\nuser = \"nobody\"\n\
         [service.dns]\nprotocol = \"udp\"\nport = 53\nttl = \"1m\"\nmax-ttl = \"2h\"\n",
    )
    .unwrap();
    assert_eq!(config.interfaces, Interfaces::Named(vec!["eth0".into(), "wg0".into()]));
    assert_eq!(config.listen_port, 4000);
    assert_eq!(config.run_dir, Path::new("/r"));
    assert_eq!(config.tolerance.as_duration(), Duration::from_secs(10));
    assert_eq!(config.trusted.len(), 2);
    assert_eq!(config.user, "nobody");
    let dns = &config.services[&"dns".parse().unwrap()];
    assert_eq!(config.ports(&"dns".parse().unwrap()), ["udp/53"]);
    assert_eq!(dns.lasting.max_ttl, Duration::from_secs(7200));
    assert_eq!(config.service("udp/53".parse().unwrap()).unwrap().1, dns);
    assert_eq!(config.service("tcp/53".parse().unwrap()), None);
}

#[test]
fn hooks_are_programs_of_another_user() {
    let with = |hooks: &str| Config::parse(&format!("[hooks]\n{hooks}[service.ssh]\nport = 22\n"));
    let hooks =
        with("on-grant = [\"/usr/bin/logger\", \"a b\"]\nuser = \"hooks\"\ntimeout = \"2s\"\n");
    let hooks = hooks.unwrap().hooks.unwrap();
    let command = hooks.on_grant.unwrap();
    assert_eq!(
        (command.program, command.arguments),
        ("/usr/bin/logger".into(), vec!["a b".into()])
    );
    assert_eq!((hooks.on_end, hooks.timeout), (None, Duration::from_secs(2)));
    assert_eq!(Config::parse("[service.ssh]\nport = 22\n").unwrap().hooks, None);
    for (text, line, part) in [
        ("user = \"hooks\"\n", 1, "on-grant"),
        ("on-end = [\"/bin/true\"]\n", 1, "needs a user"),
        ("on-end = [\"/bin/true\"]\nuser = \"root\"\n", 3, "neither root"),
        ("on-end = [\"/bin/true\"]\nuser = \"spad\"\n", 3, "gatekeeper"),
        ("on-end = [\"true\"]\nuser = \"hooks\"\n", 2, "absolute"),
        ("on-end = []\nuser = \"hooks\"\n", 2, "absolute"),
        ("on-end = \"/bin/true\"\nuser = \"hooks\"\n", 2, "list"),
        ("on-end = [\"/bin/a\\u0000\"]\nuser = \"hooks\"\n", 2, "NUL"),
        ("on-end = [\"/bin/true\"]\nuser = \"hooks\"\ntimeout = \"6m\"\n", 4, "5m"),
        ("on-ending = [\"/bin/true\"]\n", 2, "'on-end'"),
    ] {
        let (at, what) = with(text).unwrap_err();
        assert!(at == Some(line) && what.contains(part), "{text}: line {at:?}: {what}");
    }
}

#[test]
fn unknown_keys_name_line_and_neighbour() {
    let (line, what) = fault("# x\nlisten_port = 1\n[service.ssh]\nport = 22\n");
    assert_eq!(line, Some(2));
    assert!(what.contains("'listen_port'") && what.contains("'listen-port'"), "{what}");
    let (line, what) = fault("[service.ssh]\nport = 22\n\nmaxttl = \"5m\"\n");
    assert_eq!(line, Some(4));
    assert!(what.contains("'max-ttl'"), "{what}");
    let (line, what) = fault("[services.ssh]\nport = 22\n");
    assert_eq!(line, Some(1));
    assert!(what.contains("'service'"), "{what}");
}

#[test]
fn the_run_directory_is_found_in_a_broken_file() {
    for text in [
        "run-dir = \"/r\"\nunknown = 1\n",
        "run-dir = \"/r\"\n[service\nport",
        "run-dir = \"/r\"\n",
    ] {
        assert_eq!(parse::run_dir(text), Path::new("/r"), "{text:?}");
    }
    assert_eq!(parse::run_dir("run-dir = 5\n"), Path::new("/run/spad"));
    assert_eq!(parse::state_dir("state-dir = \"/s\"\n[service\n"), Path::new("/s"));
    let default = Config::directories(Path::new("/nowhere"));
    assert_eq!(
        (default.state.to_str(), default.run.to_str()),
        (Some("/var/lib/spad"), Some("/run/spad"))
    );
}

#[test]
fn wrong_values_name_their_line() {
    for (text, line, part) in [
        ("", None, "[service.ssh]"),
        ("[service.ssh]\n", Some(1), "port"),
        ("listen-port = 0\n[service.ssh]\nport = 22\n", Some(1), "1 to 65535"),
        ("[service.ssh]\nport = 70000\n", Some(2), "1 to 65535"),
        ("[service.ssh]\nport = \"22\"\n", Some(2), "1 to 65535"),
        ("[service.Ssh]\nport = 22\n", Some(1), "lower-case"),
        ("[service.ssh]\nport = 22\nprotocol = \"icmp\"\n", Some(3), "tcp"),
        ("[service.ssh]\nport = 22\nttl = \"5x\"\n", Some(3), "5x"),
        ("[service.ssh]\nport = 22\nttl = \"10m\"\nmax-ttl = \"5m\"\n", Some(3), "max-ttl"),
        ("[service.a]\nport = 22\n[service.b]\nport = 22\n", Some(4), "'a'"),
        ("listen-port = 53\n[service.a]\nport = 53\nprotocol = \"udp\"\n", Some(3), "listen-port"),
        ("interfaces = [\"any\", \"eth0\"]\n[service.ssh]\nport = 22\n", Some(1), "any"),
        ("interfaces = []\n[service.ssh]\nport = 22\n", Some(1), "any"),
        ("interfaces = [\"a name too long\"]\n[service.ssh]\nport = 22\n", Some(1), "interface"),
        ("trusted = [\"10.0.0.1/8\"]\n[service.ssh]\nport = 22\n", Some(1), "10.0.0.0/8"),
        ("run-dir = \"here\"\n[service.ssh]\nport = 22\n", Some(1), "absolute"),
        ("tolerance = 30\n[service.ssh]\nport = 22\n", Some(1), "\"30s\""),
        ("tolerance = \"0s\"\n[service.ssh]\nport = 22\n", Some(1), "tolerance"),
        ("not toml\n", Some(1), ""),
    ] {
        let (at, what) = fault(text);
        assert!(at == line && what.contains(part), "{text:?}: line {at:?}: {what}");
    }
}
