//! `spad watch` shows what happens and holds nobody up; metrics are scraped with real programs.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Running, program};
use spa_tests::product::{Server, Settings, Site};
use spa_tests::wait::{SOON, until};

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn watch(site: &Site, server: &Server, before: &str, options: &str) -> Result<Running> {
    let (program, config) = (program("spad")?, server.config_path());
    let command = format!("{} watch {options} --config {}", program.display(), config.display());
    let line = if before.is_empty() { command } else { format!("{before} '{command}' /dev/null") };
    site.server.spawn(["sh", "-c", &format!("exec {line}")])
}

#[test]
fn watching_shows_a_knock_as_it_comes() -> Result {
    let site = Site::new()?;
    let mut server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let lines = watch(&site, &server, "", "")?;
    let json = watch(&site, &server, "", "--json")?;
    let page = watch(&site, &server, "env TERM=xterm LC_ALL=C script -qfec", "")?;
    until("the page is there", SOON, || Ok(page.stdout().contains("0 grants, ")))?;
    // Nothing says of the others that they have begun, but what they show.
    let mut knocks = 0;
    until("both are told", SOON, || {
        site.open(&server, &alice, &[])?;
        knocks += 1;
        Ok(lines.stdout().contains("knock accepted alice")
            && json
                .stdout()
                .contains(r#""event":"knock-accepted","client":"alice","service":"ssh""#))
    })?;
    until("the page shows the grant", SOON, || {
        let shown = page.stdout();
        Ok(shown.contains("1 grants, ") && shown.contains("left of 30 s") && shown.contains("##"))
    })?;
    site.close(&server, "alice")?;
    until("and its end", SOON, || Ok(lines.stdout().contains("grant ended")))?;
    server.stop()?;
    until("it says so", SOON, || Ok(lines.stderr().contains("spad has ended")))?;
    println!("seen after {knocks} knocks");
    Ok(())
}

#[test]
fn a_watcher_that_reads_nothing_holds_nobody_up() -> Result {
    let site = Site::new()?;
    let server = site.spad()?;
    let alice = site.client(&server, "alice")?;
    let pid = server.status()?["processes"][0]["pid"].clone();
    // Twenty who ask to watch and read nothing; then more events than sockets and queues hold.
    let silent = "\
import socket, time
def ask(request):
    s = socket.socket(socket.AF_UNIX)
    s.connect('/run/spad/control.sock')
    s.sendall(request + b'\\n')
    return s
silent = [ask(b'{\"command\":\"watch\"}') for n in range(20)]
for n in range(2000):
    ask(b'{\"command\":\"unban\",\"network\":\"203.0.113.1\"}').recv(1000)
print('flooded', flush=True)
time.sleep(600)
";
    let mut silent = site.server.spawn(["python3", "-c", silent])?;
    silent.wait_for("flooded", PATIENCE)?;
    site.open(&server, &alice, &[])?;
    assert_eq!(server.status()?["processes"][0]["pid"], pid);
    Ok(())
}

#[test]
fn metrics_are_scraped_over_a_socket_and_a_loopback_port() -> Result {
    let site = Site::new()?;
    let scrape = |options: &str| site.server.sh(&format!("curl -sS -m 5 {options}"));
    for (client, metrics, options) in [
        (
            "alice",
            "unix:/run/spad/metrics.sock",
            "--unix-socket /run/spad/metrics.sock http://spad",
        ),
        ("bob", "127.0.0.1:9743", "http://127.0.0.1:9743"),
    ] {
        site.server.sh("rm -rf spad")?.ok()?;
        let top = format!("metrics = \"{metrics}\"\n");
        let mut server = site.spad_with(&Settings { top, ..Settings::default() })?;
        let alice = site.client(&server, client)?;
        site.open(&server, &alice, &[])?;
        let text = scrape(&format!("{options}/metrics"))?.ok()?.stdout;
        for line in [
            "spad_knocks_total{reason=\"granted\"} 1",
            "spad_grants 1",
            "spad_clients 1",
            "spad_capture_in_force 1",
            "spad_ruleset_in_force 1",
            "spad_journal_durable 1",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains(client), "{text}");
        let code = "-o /dev/null -w '%{http_code}'";
        assert_eq!(scrape(&format!("{code} {options}/other"))?.ok()?.text(), "404");
        assert_eq!(scrape(&format!("{code} -X POST {options}/metrics"))?.ok()?.text(), "405");
        // Who connects and says nothing takes nobody's place for long, and no knock's at all.
        let idle = "import socket, time\nall = []\nfor n in range(50):\n    s = socket.socket(FAMILY)\n    \
            s.connect(ADDRESS)\n    all.append(s)\nprint('connected', flush=True)\ntime.sleep(600)\n";
        let idle = match metrics.strip_prefix("unix:") {
            Some(path) => {
                idle.replace("FAMILY", "socket.AF_UNIX").replace("ADDRESS", &format!("{path:?}"))
            }
            None => {
                idle.replace("FAMILY", "socket.AF_INET").replace("ADDRESS", "('127.0.0.1', 9743)")
            }
        };
        let mut idle = site.server.spawn(["python3", "-c", &idle])?;
        idle.wait_for("connected", PATIENCE)?;
        site.close(&server, client)?;
        site.open(&server, &alice, &[])?;
        until("served again", PATIENCE, || {
            Ok(scrape(&format!("{options}/metrics"))?.stdout.contains("spad_grants 1"))
        })?;
        server.stop()?;
    }
    Ok(())
}
