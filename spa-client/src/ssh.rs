//! `spa ssh`: knocks where ssh is about to connect to, and then is ssh.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::process::{Command, Stdio};

use spa_keys::date;
use spa_proto::{GrantMode, Mode, Service, Services};

use crate::alias::same_host;
use crate::cli::{RequestOptions, SshOptions};
use crate::config::ConfigDir;
use crate::door::{Host, too_many_services, warn_of_clock};
use crate::exit::{Exit, Failure};
use crate::reporter::{Manner, Reporter};
use crate::ssh_target::{Route, Target, configuration, connects};
use crate::wait::Watch;
use crate::{os, ports, report, within_ssh};

/// More jump hosts before each other are taken for a circle, of which ssh has something to say.
const MOST_HOPS: usize = 16;

/// Ends as ssh ends; where it does not come to that, with the code that ssh has for it.
pub(crate) fn run(config: &ConfigDir, options: &SshOptions) -> Result<Exit, Failure> {
    let target = if connects(&options.arguments) { ask_ssh(&options.arguments)? } else { None };
    let knocked = match target {
        None => None,
        Some(target) => knock(config, options, target).map_err(Failure::of_ssh)?,
    };
    let mut ssh = Command::new("ssh");
    if let Some(Knocked { address, is_alias }) = knocked {
        within_ssh::has_knocked(&mut ssh, &address, date::now());
        if is_alias {
            ssh.arg("-o").arg(host_name(&address));
        }
    }
    Err(no_ssh(&os::become_program(ssh.args(&options.arguments))))
}

/// Where it was knocked.
struct Knocked {
    address: String,
    /// ssh has no other name for it.
    is_alias: bool,
}

/// The option that gives ssh this name, and no other: in it `%` begins a token of ssh's
/// (ssh_config(5)), in a scoped IPv6 address the interface.
fn host_name(name: &str) -> String {
    format!("HostName={}", name.replace('%', "%%"))
}

/// Where ssh would connect to, given these words: what its configuration makes of them only
/// ssh knows. `None` where it would not connect, or says what is wrong with them by itself.
fn ask_ssh(arguments: &[OsString]) -> Result<Option<Target>, Failure> {
    let mut ssh = Command::new("ssh");
    within_ssh::asks(&mut ssh);
    ssh.arg("-G").args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = ssh.output().map_err(|error| no_ssh(&error))?;
    let told = String::from_utf8_lossy(&output.stdout);
    Ok(if output.status.success() { Target::parse(&told) } else { None })
}

/// Whom ssh connects to first: for a jump host it looks into its configuration anew, where there
/// may be another before that. `None` where ssh has something to say about one.
fn first_hop(target: Target, configuration: Option<&OsStr>) -> Result<Option<Target>, Failure> {
    let mut first = Some(target);
    for _ in 0..MOST_HOPS {
        match &first {
            Some(Target { route: Route::Jump(hop), .. }) => {
                first = ask_ssh(&hop.arguments(configuration))?;
            }
            _ => return Ok(first),
        }
    }
    Ok(None)
}

fn no_ssh(error: &std::io::Error) -> Failure {
    Failure::of_ssh(Failure::usage(format!(
        "cannot run ssh: {error}; it comes with the package openssh-client, or alike"
    )))
}

/// Knocks, where there is something to knock at.
fn knock(
    config: &ConfigDir,
    options: &SshOptions,
    target: Target,
) -> Result<Option<Knocked>, Failure> {
    warn_of_clock();
    let Target { verbose, quiet, .. } = target;
    let is_direct = target.route == Route::Direct;
    let Some(first) = first_hop(target, configuration(&options.arguments))? else {
        return Ok(None);
    };
    if first.route == Route::Command {
        step(verbose, "another program connects for ssh (ProxyCommand): no knock");
        return Ok(None);
    }
    let (name, port) = (first.host.as_str(), first.port);
    let Some(host) = Host::find_known(config, name)? else {
        if !quiet {
            hint(name, config);
        }
        return Ok(None);
    };
    let address = host.address().to_owned();
    let services = services(options, &host, port)?;
    let request = RequestOptions::for_ssh(options, first.family);
    let mode = host.mode(&request);
    let reporter = Reporter::new(Manner::of_steps(verbose), name);
    let door = host.door(&request, services, &reporter)?;
    match mode {
        // Where the server is left to choose, it might open for the connection that looks alone.
        None | Some(GrantMode::Window) => {
            door.open(&door.targets(Mode::Window), Watch::new(port), options.patience.limit())?;
        }
        // Waiting would use up the connection; ssh's first packet is repeated if need be.
        Some(GrantMode::Once) => drop(door.knock(&door.targets(Mode::Once))?),
        Some(GrantMode::Bound) => {
            return Err(Failure::usage(
                "ssh cannot connect from a chosen port, as mode bound wants it: let spa connect \
                 (spa ssh-config --proxy), or use another mode",
            ));
        }
    }
    let is_alias = is_direct && !same_host(name, &address);
    Ok(Some(Knocked { address, is_alias }))
}

fn step(verbose: bool, text: &str) {
    if verbose {
        report::note(text);
    }
}

/// What is new here is told, and in which files keys for it may be.
fn hint(name: &str, config: &ConfigDir) {
    let dir = config.path().display();
    report::note(&format!("spa: no keys for {name} in {dir}: ssh without a knock"));
    for broken in config.known().map(|known| known.broken).unwrap_or_default() {
        report::note(&format!("spa: not looked at: {broken}"));
    }
}

/// Those named, else the one of the token that lets ssh in.
fn services(
    options: &SshOptions,
    host: &Host<'_>,
    port: NonZeroU16,
) -> Result<Vec<Service>, Failure> {
    if options.service.len() > Services::MAX {
        return Err(too_many_services());
    }
    if !options.service.is_empty() {
        return Ok(options.service.clone());
    }
    ports::for_ssh(&host.all_services(), port)
        .map(|service| vec![service])
        .ok_or_else(|| Failure::usage("the token names no service: say which with --service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scoped_address_is_no_token_of_sshs() {
        assert_eq!(host_name("fe80::1%eth0"), "HostName=fe80::1%%eth0");
        assert_eq!(host_name("fw.example"), "HostName=fw.example");
    }
}
