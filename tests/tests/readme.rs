//! What the README and the tutorial tell a newcomer to type works, line by line, and shows
//! what they say.

use spa_tests::Result;
use spa_tests::lab::{Addressing, Lab, SshLogin};
use spa_tests::product::Site;
use spa_tests::walk::{Newcomer, Step, follow, steps};

const NAME: &str = "fw.example.com";
const README: &str = include_str!("../../README.md");
const TUTORIAL: &str = include_str!("../../docs/tutorial.md");

fn typed(steps: &[Step]) -> usize {
    steps.iter().filter(|step| matches!(step, Step::Types { .. })).count()
}

#[test]
fn the_readme_works_as_it_is_written() -> Result {
    let site = Site::without_service(Addressing::PRIVATE)?;
    site.client.set_name(NAME, &site.server.addresses()[..1])?;
    let login = SshLogin::new(&site.client)?;
    let _sshd = site.server.sshd(&login)?;
    let server = Newcomer::new("server", &site.server)?;
    let laptop = Newcomer::new("laptop", &site.client)?;
    laptop.give_ssh(&login)?;
    let (mut people, steps) = ([server, laptop], steps(README));
    assert!(typed(&steps) >= 12, "the README has lost its commands: {steps:?}");
    steps.iter().try_for_each(|step| follow(&mut people, step))?;
    let after = people[1].types("spa knock fw.example.com --wait=2")?;
    assert_eq!(after.code(), Some(1), "revoked: {}", after.all());
    Ok(())
}

/// The laptop is at home, behind a router that translates addresses; the phone is elsewhere.
#[test]
fn the_tutorial_works_as_it_is_written() -> Result {
    let lab = Lab::new()?;
    let [server, laptop, phone] = [lab.host("server")?, lab.host("laptop")?, lab.host("phone")?];
    let router = lab.host("router")?;
    lab.lan(&[&router, &laptop])?;
    lab.lan_with(Addressing::GLOBAL, &[&server, &router, &phone])?;
    router.masquerade("eth1")?;
    laptop.route_via(&router.v4()?)?;
    let login = SshLogin::new(&laptop)?;
    let _sshd = server.sshd(&login)?;
    for host in [&laptop, &phone] {
        host.set_name(NAME, &[server.v4()?])?;
    }
    let hosts = [("server", &server), ("laptop", &laptop), ("phone", &phone)];
    let people = hosts.into_iter().map(|(name, host)| Newcomer::new(name, host));
    let mut people = people.collect::<Result<Vec<_>>>()?;
    people[1..].iter().try_for_each(|client| client.give_ssh(&login))?;
    let steps = steps(TUTORIAL);
    assert!(typed(&steps) >= 25, "the tutorial has lost its commands: {steps:?}");
    steps.iter().try_for_each(|step| follow(&mut people, step))
}
