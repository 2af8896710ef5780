//! `spa doctor`: everything between this machine and an open door, one after
//! the other, each found in order or with what to do about it.

mod clock;
mod finding;
mod port;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use spa_keys::{date, files};
use spa_proto::{Address, GrantMode, Mode, Service};

use crate::address::Source;
use crate::alias::Alias;
use crate::cli::DoctorOptions;
use crate::config::ConfigDir;
use crate::door::{Door, Host};
use crate::exit::{Exit, Failure};
use crate::outside::Outside;
use crate::reporter::{Manner, Reporter};
use crate::resolve::resolve;
use crate::send::{Sent, local_towards};
use crate::story::{bare, listed};
use crate::{parallel, ports};
use finding::{Finding, Findings};
use port::PortState;

/// Looks at everything for one server; the knock is a real one.
pub(crate) fn run(config: &ConfigDir, options: &DoctorOptions) -> Result<Exit, Failure> {
    let alias = config.find(&options.host)?;
    let mut findings = Findings::new(alias.to_string(), options.json);
    let ended = examine(config, options, alias, &mut findings);
    let told = findings.finish();
    ended.and(told)
}

/// Ends early where nothing further can be looked at.
fn examine(
    config: &ConfigDir,
    options: &DoctorOptions,
    alias: Alias,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let (file, former) = (config.host_path(&alias), config.former_path(&alias));
    let Some(host) = keys(config, alias, &file, findings) else { return Ok(()) };
    findings.add(enrolment(&host, &former));
    clock::look(config, &file, findings);
    let Some(addresses) = name(&host, options, findings) else { return Ok(()) };
    let source = options.request.source.unwrap_or_default();
    let outside = Outside::learn(&config.settings().unwrap_or_default(), source, &addresses);
    let reachable = route(&addresses, source, outside, findings);
    let services = services(options, &host)?;
    let port = options.wait_port.or_else(|| services.first().copied().and_then(ports::tcp_port));
    let before = port.map(|port| look_before(&reachable, port, findings));
    let mode = mode(&host, options, findings);
    let reporter = Reporter::new(Manner::of_steps(options.request.verbose), &options.host);
    let listed = listed(&services);
    let request = &options.request;
    // Where nothing can get to from here nothing is sent: that is said already.
    let door = host.door_at(reachable, outside, request, services, &reporter)?.listening();
    let reached = knock(&door, mode, findings)?;
    match port {
        Some(port) => {
            look_after(&door, &reached, port, &before.unwrap_or_default(), options, findings)
        }
        None => findings.add(Finding::note(
            "after",
            format!(
                "cannot tell at which TCP port {listed} is: say --wait-port N to have it looked at"
            ),
        )),
    }
    Ok(())
}

fn keys<'a>(
    config: &'a ConfigDir,
    alias: Alias,
    file: &Path,
    findings: &mut Findings,
) -> Option<Host<'a>> {
    let shown = file.display();
    let dir = file.parent().map_or(Ok(()), files::make_private_dir);
    if let Err(error) = dir {
        findings.add(Finding::bad(
            "keys",
            error.to_string(),
            "nobody else may write where keys are kept",
        ));
    }
    match Host::load(config, alias) {
        Ok(host) => {
            findings.add(Finding::ok("keys", format!("{shown}: readable by you alone, and whole")));
            Some(host)
        }
        Err(failure) => {
            findings.add(Finding::bad(
                "keys",
                failure.to_string(),
                "spa can do nothing without its keys",
            ));
            None
        }
    }
}

fn enrolment(host: &Host<'_>, former: &Path) -> Finding {
    match host.token_expires() {
        None if former.exists() => Finding::note(
            "enrolment",
            format!(
                "no knock with these keys is known to have opened; those from before are kept in {}",
                former.display()
            ),
        ),
        None => Finding::ok("enrolment", "the server knows this machine's key"),
        Some(expires) if expires < date::now() => Finding::bad(
            "enrolment",
            format!(
                "no knock is known to have opened, and the token was good until {}",
                date::format(expires)
            ),
            "if none has, ask the administrator for a new token: spa forget, spa enroll",
        ),
        Some(expires) => Finding::note(
            "enrolment",
            format!(
                "not confirmed yet; the first knock has to arrive before {}",
                date::format(expires)
            ),
        ),
    }
}

fn name(
    host: &Host<'_>,
    options: &DoctorOptions,
    findings: &mut Findings,
) -> Option<Vec<SocketAddr>> {
    let (name, port) = (host.address(), options.request.port.unwrap_or(host.port()));
    match resolve(name, port.get(), options.request.family()) {
        Ok(addresses) => {
            let shown: Vec<_> = addresses.iter().map(bare).collect();
            findings.add(Finding::ok("name", format!("{name} is {}", shown.join(", "))));
            Some(addresses)
        }
        Err(failure) => {
            findings.add(Finding::bad(
                "name",
                failure.to_string(),
                "try: getent hosts, or another network",
            ));
            None
        }
    }
}

/// From which address packets would leave, and what that means for the request.
fn route(
    addresses: &[SocketAddr],
    source: Source,
    outside: Outside,
    findings: &mut Findings,
) -> Vec<SocketAddr> {
    let mut reachable = Vec::new();
    for to in addresses {
        match local_towards(*to).map(|local| local.ip()) {
            Err(why) => findings.add(Finding::note("route", format!("{}: {why}", bare(to)))),
            Ok(local) => {
                reachable.push(*to);
                let asked = source.request(local, outside.of(local));
                findings.add(whom(*to, local, asked));
            }
        }
    }
    if reachable.is_empty() {
        findings.add(Finding::bad(
            "route",
            "none of the addresses can be reached from here",
            "look at this machine's network: ip route get ADDRESS",
        ));
    }
    reachable
}

fn whom(to: SocketAddr, local: IpAddr, asked: Result<Address, String>) -> Finding {
    let to = bare(&to);
    match asked {
        Ok(Address::Explicit(address)) if address == local => {
            Finding::ok("route", format!("{to} from {local}, which is asked for"))
        }
        Ok(Address::Explicit(address)) => {
            Finding::ok("route", format!("{to} from {local}; {address} is asked for"))
        }
        Ok(_) => Finding::ok(
            "route",
            format!(
                "{to} from {local}, which others do not see: the address that the server sees is asked \
             for, if the record there allows it"
            ),
        ),
        Err(why) => Finding::bad("route", why, "give an address of that family, or -4, or -6"),
    }
}

fn services(options: &DoctorOptions, host: &Host<'_>) -> Result<Vec<Service>, Failure> {
    let first = || host.default_service().into_iter().collect();
    let services: Vec<_> =
        if options.service.is_empty() { first() } else { options.service.clone() };
    if services.len() > spa_proto::Services::MAX {
        return Err(crate::door::too_many_services());
    }
    Ok(services)
}

/// One knock in a mode that any program's connection can use.
fn mode(host: &Host<'_>, options: &DoctorOptions, findings: &mut Findings) -> Mode {
    match host.mode(&options.request) {
        // As whatever looks whether it has opened.
        None | Some(GrantMode::Window) => Mode::Window,
        Some(GrantMode::Once) => Mode::Once,
        Some(GrantMode::Bound) => {
            findings.add(Finding::note(
                "knock",
                "mode bound is for one source port: mode once is tried in its place",
            ));
            Mode::Once
        }
    }
}

fn look_before(
    addresses: &[SocketAddr],
    port: NonZeroU16,
    findings: &mut Findings,
) -> Vec<(SocketAddr, PortState)> {
    let states = parallel::each(addresses.to_vec(), |to| (to, PortState::look(to, port)));
    for (to, state) in &states {
        let place = format!("TCP port {port} at {}", bare(to));
        findings.add(match state {
            PortState::Silent => Finding::ok("before", format!("{place} is silent, as it should be")),
            PortState::Open => Finding::note("before", format!(
                "{place} is open without a knock: an earlier one still lasts, or you are trusted \
                 there, or it is not protected"
            )),
            PortState::Refused => Finding::note("before", format!(
                "{place} answers that nothing listens: it is not protected there, or the port is \
                 another one"
            )),
            PortState::Failed(why) => Finding::note("before", format!("{place}: {why}")),
        });
    }
    states
}

/// Whether a port was found like this.
fn was(before: &[(SocketAddr, PortState)], to: &SocketAddr, what: &PortState) -> bool {
    before.iter().any(|(at, state)| at == to && state == what)
}

/// Gives the addresses that a knock left for.
fn knock(door: &Door<'_>, mode: Mode, findings: &mut Findings) -> Result<Vec<SocketAddr>, Failure> {
    let sent = door.send(&door.targets(mode))?;
    sent.iter().for_each(|sent| findings.add(knocked(sent)));
    Ok(crate::story::reached(&sent))
}

fn knocked(Sent { to, result, .. }: &Sent) -> Finding {
    let place = format!("UDP port {} at {}", to.port(), bare(to));
    match result {
        Err(why) => Finding::bad(
            "knock",
            format!("{place}: not sent: {why}"),
            "see the route, and this machine's own firewall",
        ),
        Ok(trace) => match &trace.complaint {
            None => Finding::ok(
                "knock",
                format!("{place}: {} bytes left, and nothing came back", trace.len),
            ),
            Some(why) => Finding::bad(
                "knock",
                format!("{place}: {why}"),
                "the port is wrong, or spad does not run \
                there, or a firewall on the way forbids UDP: ask the administrator; elsewhere spa knock --save can help",
            ),
        },
    }
}

/// Whether the port has opened, at each address by itself.
fn look_after(
    door: &Door<'_>,
    addresses: &[SocketAddr],
    port: NonZeroU16,
    before: &[(SocketAddr, PortState)],
    options: &DoctorOptions,
    findings: &mut Findings,
) {
    let limit = Duration::from_secs(options.wait.into());
    let opened = parallel::each(addresses.to_vec(), |to| (to, port::wait(to, port, limit)));
    for (to, opened) in &opened {
        let place = format!("TCP port {port} at {}", bare(to));
        findings.add(match opened {
            Some(_) if was(before, to, &PortState::Open) => {
                Finding::ok("after", format!("{place} is open, as before"))
            }
            Some(elapsed) => Finding::ok(
                "after",
                format!("{place} opened within {:.3} s", elapsed.as_secs_f64()),
            ),
            None => Finding::bad(
                "after",
                format!("{place} did not open within {} s", limit.as_secs()),
                WHY_SHUT,
            ),
        });
    }
    // One that refused before may have got its service meanwhile: then no knock was needed, and
    // a token may not have been used.
    let by_knock = |(to, opened): &(SocketAddr, Option<Duration>)| {
        opened.is_some() && was(before, to, &PortState::Silent)
    };
    if opened.iter().any(by_knock) {
        door.confirm();
    }
}

const WHY_SHUT: &str = "spad status there counts why, or nothing arrived. Mostly it is the \
    clock (above); a record that does not allow the service, the address or the mode (window; where one \
    connection is let in for each knock, say --mode once); a network that \
    drops UDP; or one that shows the server another address for TCP than for UDP (--source ADDR)";
