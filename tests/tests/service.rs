//! What spad tells a service manager: sd_notify(3).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::product::{SERVER_NAME, Server, Settings, Site};

/// The next word that says how it is, and not what `systemctl status` prints.
fn next(socket: &UnixDatagram) -> Result<String> {
    loop {
        let mut text = [0; 4096];
        let length = socket.recv(&mut text)?;
        let said = String::from_utf8_lossy(&text[..length]).into_owned();
        if !said.starts_with("STATUS=") {
            return Ok(said.lines().next().unwrap_or_default().to_owned());
        }
    }
}

#[test]
fn a_service_manager_hears_when_spad_is_ready_reloads_and_ends() -> Result {
    let site = Site::new()?;
    let mut server = Server::new(&site.server, SERVER_NAME, &Settings::default())?;
    let path = server.dir().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    server.launch_as(&["env", &format!("NOTIFY_SOCKET={}", path.display())])?;
    assert_eq!(next(&socket)?, "READY=1");
    let status = server.status()?;
    assert_eq!(status["capture"]["in_force"], true, "ready is not said before knocks are heard");
    server.hang_up()?;
    assert_eq!(next(&socket)?, "RELOADING=1");
    assert_eq!(next(&socket)?, "READY=1");
    server.stop()?;
    let last = std::iter::from_fn(|| next(&socket).ok()).find(|said| said != "READY=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    Ok(())
}
