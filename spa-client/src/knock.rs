//! `spa knock`.

use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use spa_keys::date;
use spa_proto::{GrantMode, Mode, Service, Services};

use crate::alias::Alias;
use crate::cli::{KnockOptions, Words};
use crate::config::ConfigDir;
use crate::door::{Door, Host, too_many_services, warn_of_clock};
use crate::exit::{Exit, Failure};
use crate::host_file::HostEntry;
use crate::reporter::{Manner, Reporter};
use crate::story::listed;
use crate::wait::Watch;
use crate::within_ssh::Told;
use crate::{again, parallel, ports, report, within_ssh};

/// For how long to wait, and at which port.
#[derive(Clone, Copy)]
struct Wait {
    limit: Duration,
    port: NonZeroU16,
}

/// Knocks at all, and waits if that was asked for.
pub(crate) fn run(
    config: &ConfigDir,
    options: KnockOptions,
    words: &Words,
) -> Result<Exit, Failure> {
    if is_needless(config, &options) {
        let step = "spa ssh sees to the knock: this one is left out";
        Reporter::new(Manner::of_steps(options.request.verbose), "").step(|| step.to_owned());
        return Ok(Exit::Done);
    }
    warn_of_clock();
    let again = options.again;
    let options = if again { last(config, &options, words)? } else { options };
    if let Some(file) = &options.save {
        return save(config, &options, file);
    }
    let KnockOptions { json, dry_run, .. } = options;
    let manner = Manner::new(options.request.verbose, json, dry_run, options.host.len());
    // One after the other: for a passphrase a person can be asked only once at a time.
    let find = |name: &String| (name.clone(), Host::find(config, name));
    let hosts: Vec<_> = options.host.iter().map(find).collect();
    let exits = parallel::each(hosts, |(name, host)| {
        let reporter = Reporter::new(manner, &name);
        let ended = host.and_then(|host| knock_at(&options, host, &reporter));
        reporter.finish(ended)
    });
    if manner.is_for_a_person() && !again {
        remember(config, &words.again(&options.host));
    }
    Ok(exits.into_iter().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done))
}

/// Whether ssh runs this for a `spa ssh` that has knocked already, or that asks ssh only where it
/// would connect to. What asks for more than to get in is done in any case.
fn is_needless(config: &ConfigDir, options: &KnockOptions) -> bool {
    let (Some(told), [name]) = (within_ssh::told(), options.host.as_slice()) else { return false };
    let Told::Knocked { host, at } = told else { return true };
    let entry = |alias: Alias| config.load(&alias).ok();
    let is_done = |entry: HostEntry| {
        let is_for_ssh = options.service.iter().all(|it| Some(*it) == entry.service_of_ssh());
        is_for_ssh && within_ssh::is_fresh(entry.host(), &host, at, date::now())
    };
    options.is_plain()
        && config.find_known(name).ok().flatten().and_then(entry).is_some_and(is_done)
}

/// What was asked for the last time, told as it is asked for now.
fn last(
    config: &ConfigDir,
    options: &KnockOptions,
    words: &Words,
) -> Result<KnockOptions, Failure> {
    if let Some(word) = words.again(&options.host).first() {
        return Err(Failure::usage(format!(
            "--again knocks as last time, without changes such as {word}: say all of it anew"
        )));
    }
    Ok(again::recall(config)?.in_manner_of(options))
}

fn remember(config: &ConfigDir, words: &[String]) {
    if let Err(why) = again::remember(config, words) {
        report::note(&format!("spa: this knock is not remembered for --again: {why}"));
    }
}

fn knock_at(options: &KnockOptions, host: Host<'_>, reporter: &Reporter) -> Result<Exit, Failure> {
    let services = choose_services(options, &host)?;
    let wait = choose_wait(options, &services)?;
    let mode = choose_mode(options, host.mode(&options.request))?;
    let door = host.door(&options.request, services, reporter)?;
    match wait {
        None => once(&door, mode),
        Some(wait) => until_open(&door, mode, wait),
    }
}

fn save(config: &ConfigDir, options: &KnockOptions, file: &Path) -> Result<Exit, Failure> {
    let [name] = options.host.as_slice() else {
        return Err(Failure::usage("--save writes one knock, at one host"));
    };
    let host = Host::find(config, name)?;
    let services = choose_services(options, &host)?;
    let mode = choose_mode(options, host.mode(&options.request))?;
    let time = options.at.unwrap_or_else(date::now);
    host.save(&options.request, &services, mode, time)?.write(file)?;
    Ok(Exit::Done)
}

/// In the order given: waiting looks at the first.
fn choose_services(options: &KnockOptions, host: &Host<'_>) -> Result<Vec<Service>, Failure> {
    if options.service.len() > Services::MAX {
        return Err(too_many_services());
    }
    if !options.service.is_empty() {
        return Ok(options.service.clone());
    }
    if options.all_services {
        return Ok(host.all_services());
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
        // Else the server might open for the one connection that looks whether it is open.
        (None, None) if options.wait().is_some() => Ok(Mode::Window),
        (None, None) => Ok(Mode::Default),
    }
}

fn once(door: &Door<'_>, mode: Mode) -> Result<Exit, Failure> {
    door.knock(&door.targets(mode))?;
    door.story.end();
    Ok(Exit::Done)
}

/// The connection that shows the opening is closed again. In mode bound it has come from the
/// caller's own port, which is then free for the caller (`bound`).
fn until_open(door: &Door<'_>, mode: Mode, Wait { limit, port }: Wait) -> Result<Exit, Failure> {
    let Mode::Bound { source_port } = mode else {
        return door.open(&door.targets(mode), Watch::new(port), limit).map(|_| Exit::Done);
    };
    let (targets, sockets) = door.bind(source_port);
    door.open(&targets, Watch::bound(port, sockets, limit), limit).map(|_| Exit::Done)
}
