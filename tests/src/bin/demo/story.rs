//! The story, step by step.

use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::{Addressing, Datagram, Privilege, Session, SshLogin};
use spa_tests::product::{KNOCK_PORT, SERVER_NAME, Site};
use spa_tests::wait::{SOON, until};

use crate::narrator::Narrator;
use crate::scene::Scene;

/// How long the grant of the story lasts: long enough to show what it opens.
const TTL: (&str, Duration) = ("8s", Duration::from_secs(8));

/// Plays all of it. An error means that it could not go on; what merely came out wrong is counted
/// by the narrator.
pub(crate) fn play(told: &mut Narrator, addressing: Addressing) -> Result {
    let site = Site::without_service(addressing)?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    introduce(told, &site);
    let mut scene = Scene::new(told, &site, &login)?;
    start_the_daemon(&mut scene)?;
    enrol_a_client(&mut scene)?;
    a_scan_shows_nothing(&mut scene)?;
    ssh_fails_without_a_knock(&mut scene)?;
    let knock = one_knock(&mut scene)?;
    let mut session = ssh_works(&mut scene)?;
    a_stranger_is_still_shut_out(&mut scene)?;
    the_grant_is_listed(&mut scene)?;
    the_grant_ends(&mut scene, &mut session)?;
    a_copy_from_the_same_address_opens_nothing(&mut scene, &knock)?;
    a_copy_from_another_address_opens_nothing(&mut scene, &knock)?;
    status_shows_it_all(&mut scene)?;
    two_users_share_the_work(&mut scene)
}

fn introduce(told: &Narrator, site: &Site) {
    let of = |host: &spa_tests::lab::Host| host.addresses()[0].to_string();
    told.say(&format!(
        "Three hosts, each a network namespace, on one network:\n\n\
         \x20    server    {:<10}  {SERVER_NAME}: sshd on port 22, and spad\n\
         \x20    client    {:<10}  has a key for spad and one for ssh\n\
         \x20    stranger  {:<10}  has the client's ssh key, but none for spad",
        of(&site.server),
        of(&site.client),
        of(&site.stranger)
    ));
}

fn start_the_daemon(scene: &mut Scene) -> Result {
    scene.told.step("The server starts its daemon: from now on port 22 is shut");
    let open_before = scene.site.reaches(&scene.site.stranger, 22)?;
    scene.told.did("server", &format!("spa-keys init --host {SERVER_NAME}"));
    scene.told.did("server", "spad run --config /etc/spad/spad.toml");
    scene.server.start()?;
    let open_after = scene.site.reaches(&scene.site.stranger, 22)?;
    scene.told.check(open_before && !open_after, "port 22 answered before, and does not now");
    Ok(())
}

fn enrol_a_client(scene: &mut Scene) -> Result {
    scene.told.step("A client gets a token, which works once");
    scene.told.did("server", "spa-keys add alice --service ssh");
    let token = scene.server.add("alice", &["--service", "ssh"])?;
    scene.told.saw(&token);
    scene.told.did("client", "spa enroll -");
    let said = scene.alice.enroll(&token)?;
    scene.told.saw(&said.all());
    scene.told.check(said.success(), "the client has made its key");
    Ok(())
}

fn a_scan_shows_nothing(scene: &mut Scene) -> Result {
    scene.told.step("A stranger scans the port of ssh and that of the knocks");
    let ssh = scene.scan("-sS", 22)?;
    let knock = scene.scan("-sU", KNOCK_PORT)?;
    scene.told.check(ssh == "filtered", "ssh: filtered, no answer at all");
    scene.told.check(knock == "open|filtered", "knocks: no answer either, not even 'closed'");
    Ok(())
}

fn ssh_fails_without_a_knock(scene: &mut Scene) -> Result {
    scene.told.step("Without a knock ssh does not get through, with the right key or not");
    let said = scene.ssh(&scene.site.client, &["true"])?;
    scene.told.check(said.code() == Some(255), "no connection");
    Ok(())
}

/// Gives the datagram as it went over the wire.
fn one_knock(scene: &mut Scene) -> Result<Datagram> {
    scene.told.step("The client knocks");
    let said = scene.knock(&["--ttl", TTL.0])?;
    let sent = scene.wire.wait_for_udp(KNOCK_PORT, 1)?;
    let answers = scene.wire.incoming()?;
    let answered = answers.iter().any(|seen| seen.datagram.from.port() == KNOCK_PORT);
    scene.told.saw(&format!(
        "on the wire: {} datagram to {}, {} bytes; no answer",
        sent.len(),
        sent[0].to,
        sent[0].payload.len()
    ));
    scene.told.check(said.success() && sent.len() == 1 && !answered, "one packet, no reply");
    Ok(sent[0].clone())
}

fn ssh_works(scene: &mut Scene) -> Result<Session> {
    scene.told.step("Now ssh works, for this client");
    let said = scene.ssh(&scene.site.client, &["echo", "hello from inside"])?;
    scene.told.check(said.text() == "hello from inside", "ssh ran a command");
    let mut session = scene.session()?;
    scene.told.check(session.is_alive("first word"), "and a session is open");
    Ok(session)
}

fn a_stranger_is_still_shut_out(scene: &mut Scene) -> Result {
    scene.told.step("For the stranger nothing has changed");
    let said = scene.ssh(&scene.site.stranger, &["true"])?;
    scene.told.check(said.code() == Some(255), "no connection");
    Ok(())
}

fn the_grant_is_listed(scene: &mut Scene) -> Result {
    scene.told.step("The server knows whom it let in, and until when");
    scene.spad("grants")?;
    let grants = scene.server.grants()?;
    let own = grants
        .iter()
        .any(|grant| grant.client == "alice" && grant.source == scene.site.client.addresses()[0]);
    scene.told.check(own && grants.len() == 1, "one grant: alice, from the client's address");
    Ok(())
}

fn the_grant_ends(scene: &mut Scene, session: &mut Session) -> Result {
    scene.told.step("The grant ends by itself; what was opened before lives on");
    let took = until("the grant ends", TTL.1 + SOON, || Ok(scene.server.grants()?.is_empty()))?;
    scene.told.saw(&format!("after another {:.1} s the kernel has dropped it", took.as_secs_f32()));
    let said = scene.ssh(&scene.site.client, &["true"])?;
    scene.told.check(said.code() == Some(255), "a new ssh does not get through");
    scene.told.check(session.is_alive("second word"), "the session opened before still answers");
    Ok(())
}

fn a_copy_from_the_same_address_opens_nothing(scene: &mut Scene, knock: &Datagram) -> Result {
    scene.told.step("Somebody has recorded the knock and sends it again, from the same address");
    scene.told.did("client", &format!("send the same {} bytes again", knock.payload.len()));
    scene.site.client.send_forged(std::slice::from_ref(knock))?;
    refused_as_a_copy(scene, 1)?;
    let shut = !scene.site.reaches(&scene.site.client, 22)?;
    scene.told.check(shut, "port 22 stays shut for the client");
    Ok(())
}

fn a_copy_from_another_address_opens_nothing(scene: &mut Scene, knock: &Datagram) -> Result {
    scene.told.step("… and from the stranger's address");
    let own = knock.from((scene.site.stranger.addresses()[0], knock.from.port()).into());
    scene.told.did("stranger", &format!("send the same {} bytes", own.payload.len()));
    scene.site.stranger.send_forged(&[own])?;
    refused_as_a_copy(scene, 2)?;
    let shut = !scene.site.reaches(&scene.site.stranger, 22)?;
    scene.told.check(shut, "port 22 stays shut for the stranger");
    Ok(())
}

fn refused_as_a_copy(scene: &mut Scene, count: u64) -> Result {
    let counted = scene.server.wait_for_counter("duplicate", count).is_ok();
    let none = scene.server.grants()?.is_empty();
    scene.told.check(counted && none, "refused: seen before; no grant");
    Ok(())
}

fn status_shows_it_all(scene: &mut Scene) -> Result {
    scene.told.step("The daemon's own account");
    let said = scene.spad("status")?;
    let (granted, copies) = (scene.server.counter("granted")?, scene.server.counter("duplicate")?);
    scene.told.check(said.success(), "capture and ruleset are in force");
    scene.told.check(granted == 1 && copies == 2, "one knock granted, two copies refused");
    Ok(())
}

/// With root the daemon is two processes of two users; in a user namespace there is only one.
fn two_users_share_the_work(scene: &mut Scene) -> Result {
    if scene.site.lab.privilege() == Privilege::UserNamespace {
        scene.told.say(
            "\nNot shown, for want of root: that the half of spad which reads packets runs as a\n\
             user of its own. In a user namespace there is only one.",
        );
        return Ok(());
    }
    let status = scene.server.status()?;
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let root = processes.iter().filter(|process| process["uid"] == 0).count();
    let expected = "the half that reads packets is not root";
    scene.told.check(processes.len() == 2 && root == 1, expected);
    Ok(())
}
