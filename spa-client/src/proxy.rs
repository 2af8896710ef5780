//! `spa proxy`: knocks, connects, and is the connection, for programs that let
//! another one connect for them.

use std::net::TcpStream;
use std::num::NonZeroU16;
use std::time::Duration;

use spa_keys::wipe;
use spa_proto::{GrantMode, Mode, Service, Services};

use crate::cli::ProxyOptions;
use crate::config::ConfigDir;
use crate::door::{Door, Host, too_many_services, warn_of_clock};
use crate::exit::{Exit, Failure};
use crate::reporter::{Manner, Reporter};
use crate::wait::Watch;
use crate::{bound, ports, relay};

/// How long mode bound is given before another one is tried: its SYN is
/// repeated after one second and after three, and the knock after two.
const BOUND_LIMIT: Duration = Duration::from_secs(4);

/// How the connection is to come about.
struct Plan {
    port: NonZeroU16,
    /// For all that is tried.
    limit: Duration,
    mode: Option<GrantMode>,
    /// 0 for any.
    source_port: u16,
    fallback: bool,
}

/// Connects, and passes on what comes until both ends are done.
pub(crate) fn run(config: &ConfigDir, options: &ProxyOptions) -> Result<Exit, Failure> {
    // The connection may last for days, and whoever locks the keys meanwhile means it: they
    // are gone from here when it begins.
    let stream = wipe::stack_after(|| enter(config, options))?;
    relay::run(&stream).map_err(|why| Failure::broken(format!("{}: {why}", options.host)))?;
    Ok(Exit::Done)
}

/// Knocks, and connects.
fn enter(config: &ConfigDir, options: &ProxyOptions) -> Result<TcpStream, Failure> {
    warn_of_clock();
    let host = Host::find(config, &options.host)?;
    let plan = plan(options, host.mode(&options.request))?;
    let reporter = Reporter::new(Manner::of_steps(options.request.verbose), &options.host);
    let door = host.door(&options.request, services(options)?, &reporter)?;
    connect(&door, &plan)
}

fn plan(options: &ProxyOptions, mode: Option<GrantMode>) -> Result<Plan, Failure> {
    let port = ports::tcp_port(options.to).ok_or_else(|| {
        let to = options.to;
        Failure::usage(format!("cannot tell the TCP port of {to}: say PORT --service {to}"))
    })?;
    let source_port = options.request.source_port.map_or(0, NonZeroU16::get);
    if source_port != 0 && mode != Some(GrantMode::Bound) {
        return Err(Failure::usage("--source-port is for --mode bound"));
    }
    let fallback = !options.no_fallback;
    Ok(Plan { port, limit: options.patience.limit(), mode, source_port, fallback })
}

/// Those named, else what is connected to.
fn services(options: &ProxyOptions) -> Result<Vec<Service>, Failure> {
    match options.service.as_slice() {
        [] => Ok(vec![options.to]),
        named if named.len() > Services::MAX => Err(too_many_services()),
        named => Ok(named.to_vec()),
    }
}

fn connect(door: &Door<'_>, plan: &Plan) -> Result<TcpStream, Failure> {
    match plan.mode {
        None => connect_in(door, plan, Mode::Default, plan.limit),
        Some(GrantMode::Window) => connect_in(door, plan, Mode::Window, plan.limit),
        Some(GrantMode::Once) => connect_in(door, plan, Mode::Once, plan.limit),
        Some(GrantMode::Bound) if plan.fallback => connect_bound_or_once(door, plan),
        Some(GrantMode::Bound) => connect_bound(door, plan, plan.limit),
    }
}

fn connect_in(
    door: &Door<'_>,
    plan: &Plan,
    mode: Mode,
    limit: Duration,
) -> Result<TcpStream, Failure> {
    let opened = door.open(&door.targets(mode), Watch::to_use(plan.port), limit)?;
    Ok(opened.stream)
}

fn connect_bound(door: &Door<'_>, plan: &Plan, limit: Duration) -> Result<TcpStream, Failure> {
    let (targets, sockets) = door.bind(plan.source_port);
    let watch = Watch::bound(plan.port, sockets, limit);
    let stream = door.open(&targets, watch, limit)?.stream;
    bound::keep(&stream)
        .map_err(|error| Failure::not_open(format!("the connection cannot be kept: {error}")))?;
    Ok(stream)
}

/// No answer says that a router has changed the source port, or that the
/// record does not allow the mode: only that no connection comes up.
fn connect_bound_or_once(door: &Door<'_>, plan: &Plan) -> Result<TcpStream, Failure> {
    let first = BOUND_LIMIT.min(plan.limit / 2);
    match connect_bound(door, plan, first) {
        Err(failure) if failure.exit() == Exit::NotOpen => {}
        end => return end,
    }
    door.story.step(|| "no connection from a source port of our own: asking for one once".into());
    connect_in(door, plan, Mode::Once, plan.limit - first)
}
