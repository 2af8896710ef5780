//! `spa knock`.

use std::num::NonZeroU16;
use std::time::Duration;

use spa_proto::{GrantMode, Mode, Service};

use crate::bound;
use crate::cli::KnockOptions;
use crate::config::ConfigDir;
use crate::door::{Door, Host};
use crate::exit::{Exit, Failure};
use crate::ports;
use crate::report::Reporter;
use crate::story::listed;
use crate::wait::Watch;

/// For how long to wait, and at which port.
#[derive(Clone, Copy)]
struct Wait {
    limit: Duration,
    port: NonZeroU16,
}

/// Knocks, and waits if that was asked for.
pub(crate) fn run(config: &ConfigDir, options: &KnockOptions) -> Result<Exit, Failure> {
    let host = Host::find(config, &options.host)?;
    let services = choose_services(options, &host)?;
    let wait = choose_wait(options, &services)?;
    let mode = choose_mode(options, host.mode(&options.request))?;
    let reporter = Reporter::new(options.request.verbose, options.json);
    let door = host.door(&options.request, services, reporter)?;
    match wait {
        None => once(&door, mode),
        Some(wait) => until_open(&door, mode, wait),
    }
}

/// In the order given: waiting looks at the first.
fn choose_services(options: &KnockOptions, host: &Host<'_>) -> Result<Vec<Service>, Failure> {
    if !options.service.is_empty() {
        return Ok(options.service.clone());
    }
    let default = host.default_service();
    let default = default.ok_or_else(|| Failure::usage("the token names no service: --service"))?;
    Ok(vec![default])
}

fn choose_wait(options: &KnockOptions, services: &[Service]) -> Result<Option<Wait>, Failure> {
    let Some(limit) = options.wait() else { return Ok(None) };
    let known = || services.first().copied().and_then(ports::tcp_port);
    let port = options.wait_port.or_else(known).ok_or_else(|| {
        Failure::usage(format!(
            "cannot tell at which TCP port to wait for {}: say --wait-port N",
            listed(services)
        ))
    })?;
    Ok(Some(Wait { limit, port }))
}

/// What the program that connects afterwards can make use of.
fn choose_mode(options: &KnockOptions, mode: Option<GrantMode>) -> Result<Mode, Failure> {
    match (mode, options.request.source_port) {
        (Some(GrantMode::Bound), Some(port)) => Ok(Mode::Bound { source_port: port.get() }),
        (Some(GrantMode::Bound), None) => Err(Failure::usage(
            "mode bound opens for one source port: say which one you will connect from with \
             --source-port N, or let spa connect: spa proxy",
        )),
        (_, Some(_)) => Err(Failure::usage("--source-port is for --mode bound")),
        (Some(GrantMode::Once), None) if options.wait().is_some() => Err(Failure::usage(
            "--wait would use up the one connection that mode once opens for: let spa connect \
             (spa proxy), or knock without --wait",
        )),
        (Some(GrantMode::Once), None) => Ok(Mode::Once),
        (Some(GrantMode::Window), None) => Ok(Mode::Window),
        (None, None) => Ok(Mode::Default),
    }
}

fn once(door: &Door<'_>, mode: Mode) -> Result<Exit, Failure> {
    let sent = door.knock(&door.targets(mode))?;
    door.story.outcome(&sent, None)?;
    door.story.end();
    Ok(Exit::Done)
}

/// The connection that shows the opening is closed again. In mode bound it has
/// come from the caller's own port, which must then be free for the caller.
fn until_open(door: &Door<'_>, mode: Mode, Wait { limit, port }: Wait) -> Result<Exit, Failure> {
    let Mode::Bound { source_port } = mode else {
        return door.open(&door.targets(mode), Watch::new(port), limit).map(|_| Exit::Done);
    };
    let (targets, sockets) = door.bind(source_port);
    let opened = door.open(&targets, Watch::bound(port, sockets, limit), limit)?;
    bound::abort(opened.stream);
    Ok(Exit::Done)
}
