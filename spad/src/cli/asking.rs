//! Commands that the running daemon answers.

use std::path::Path;
use std::process::ExitCode;

use spa_keys::{ClientName, note};

use super::{FAILED, Failure, failed, print};
use crate::config::Config;
use crate::control::client::{self, Unheard};
use crate::control::{Answer, Request};
use crate::enforcement::always;
use crate::firewall::Mode;
use crate::show::style::Style;
use crate::turn::Turn;
use crate::{boot, disable, enable, show, watch};

/// There is no daemon to ask.
const NOT_RUNNING: u8 = 3;

pub(super) fn ask(path: &Path, request: &Request, json: bool) -> Result<ExitCode, Failure> {
    report(&answer_to(path, request)?, json)
}

/// What concerns this client, or this person.
pub(super) fn ask_of(
    path: &Path,
    request: &Request,
    who: Option<&ClientName>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let answer = answer_to(path, request)?;
    let answer = match who {
        Some(who) => answer.only_of(who),
        None => answer,
    };
    report(&answer, json)
}

fn answer_to(path: &Path, request: &Request) -> Result<Answer, Failure> {
    let run_dir = Config::run_dir(path).map_err(failed)?;
    let mut answer =
        client::ask(&run_dir, request).map_err(|what| Failure { code: NOT_RUNNING, what })?;
    if let Answer::Status(status) = &mut answer {
        status.clock = status.clock.clone().or_as_told_here();
    }
    Ok(answer)
}

fn report(answer: &Answer, json: bool) -> Result<ExitCode, Failure> {
    let code = match answer {
        Answer::Failed(why) => return Err(failed(why)),
        Answer::Status(status) if !status.is_well() => FAILED.into(),
        _ => ExitCode::SUCCESS,
    };
    print(&if json { show::json(answer) } else { show::text_in(answer, &Style::of_stdout()) })?;
    Ok(code)
}

/// With a word about the caller's own way in.
pub(super) fn enable(path: &Path, request: &Request, json: bool) -> Result<ExitCode, Failure> {
    let answer = answer_to(path, request)?;
    if let (Answer::Enabled(enabled), Ok(config)) = (&answer, Config::load(path)) {
        let ssh = std::env::var("SSH_CONNECTION").ok();
        enable::advice(&config, enabled, ssh.as_deref())
            .iter()
            .for_each(|line| note!("spad: {line}"));
    }
    report(&answer, json)
}

/// Only once somebody has seen what will be open.
pub(super) fn disable(path: &Path, yes: bool, json: bool) -> Result<ExitCode, Failure> {
    let config = Config::load(path).map_err(|error| {
        failed(format!("{error}; to open everything until the next start: spad stop --open"))
    })?;
    // A daemon may have another mode than the file: it decides.
    let is_said = config.firewall.mode != Mode::Attach || !client::is_running(&config.run_dir);
    if let Some(why) = always(&config).filter(|_| is_said) {
        return Err(failed(why));
    }
    disable::ask(&config, yes).map_err(failed)?;
    let answered = || client::is_running(&config.run_dir);
    if !answered() {
        let turn = Turn::wait(&config.run_dir)
            .map_err(|why| failed(format!("nothing has changed: {why}")))?;
        // One that was starting is heard by now.
        if !answered() {
            return report(&boot::disable(&config, &turn).map_err(failed)?, json);
        }
    }
    ask(path, &Request::Disable { by: None }, json)
}

pub(super) fn watch(path: &Path, json: bool) -> Result<ExitCode, Failure> {
    let run_dir = Config::run_dir(path).map_err(failed)?;
    let unheard = |why| match why {
        Unheard::Refused(what) => failed(what),
        Unheard::Over(what) => Failure { code: NOT_RUNNING, what },
    };
    watch::run(&run_dir, json).map_err(unheard).map(|()| ExitCode::SUCCESS)
}

pub(super) fn revocation(client: Option<String>, grant: Option<u64>) -> Request {
    match grant {
        Some(grant) => Request::RevokeGrant { grant },
        None => Request::Revoke { client: client.unwrap_or_default() },
    }
}

pub(super) fn stop(path: &Path, open: bool, json: bool) -> Result<ExitCode, Failure> {
    let run_dir = Config::directories(path).run;
    if open {
        note!("spad: removing table inet spad: it shuts nothing any more");
    }
    let _turn = (open && !client::is_running(&run_dir)).then(|| Turn::or_without(&run_dir));
    let answer = if open && !client::is_running(&run_dir) {
        boot::open(path).map_err(failed)?
    } else {
        client::stop(&run_dir, open).map_err(|what| Failure { code: NOT_RUNNING, what })?
    };
    if let Answer::Failed(why) = answer {
        return Err(failed(why));
    }
    print(&if json { show::json(&answer) } else { show::text(&answer) })?;
    Ok(ExitCode::SUCCESS)
}
