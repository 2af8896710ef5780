//! Documents that tell people what to type, followed word by word, in the places where the programs
//! look by default.
//!
//! In a document's `console` blocks `server# COMMAND` is typed on the host `server` as root,
//! `laptop$ COMMAND` on `laptop`; a line without such a prompt is part of what the command before it
//! shows, where `…` stands for anything. `<!-- carried from A to B: FILE -->` says which file somebody
//! takes along meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::lab::{Host, Output, Result, Running, SshLogin, fail, program};
use crate::wait;

/// What somebody does.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Types a command on a host, and is shown these lines among others.
    Types {
        /// On which host.
        host: String,
        /// The command.
        command: String,
        /// What it shows.
        shown: Vec<String>,
    },
    /// Takes a file along.
    Carries {
        /// From which host.
        from: String,
        /// To which.
        to: String,
        /// Its name.
        file: String,
    },
}

/// All that a document tells people to do, in order.
#[must_use]
pub fn steps(document: &str) -> Vec<Step> {
    let (mut steps, mut typed_here) = (Vec::new(), false);
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(kind) => typed_here = !typed_here && kind == "console",
            None if typed_here => type_or_show(line, &mut steps),
            None => steps.extend(carried(line)),
        }
    }
    steps
}

fn type_or_show(line: &str, steps: &mut Vec<Step>) {
    if let Some((host, command)) = prompt(line) {
        let (host, command) = (host.to_owned(), command.to_owned());
        steps.push(Step::Types { host, command, shown: Vec::new() });
    } else if let Some(Step::Types { shown, .. }) = steps.last_mut() {
        shown.push(line.to_owned());
    }
}

/// `HOST# COMMAND` or `HOST$ COMMAND`.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (host, command) = line.split_once(' ')?;
    let host = host.strip_suffix(['#', '$'])?;
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_lowercase());
    is_name.then_some((host, command.trim()))
}

fn carried(line: &str) -> Option<Step> {
    let words = line.trim().strip_prefix("<!-- carried from ")?.strip_suffix(" -->")?;
    let (from, rest) = words.split_once(" to ")?;
    let (to, file) = rest.split_once(": ")?;
    let [from, to, file] = [from, to, file].map(str::to_owned);
    Some(Step::Carries { from, to, file })
}

/// Whether the lines come in this order in what was shown, however they are spaced.
fn shows(output: &str, lines: &[String]) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (output, mut at) = (plain(output), 0);
    let mut parts = lines.iter().flat_map(|line| line.split('…')).map(plain);
    parts.all(|part| match output[at..].find(&part) {
        Some(found) => {
            at += found + part.len();
            true
        }
        None => false,
    })
}

/// A host with system directories of its own, and the programs in its path.
pub struct Newcomer<'a> {
    name: &'static str,
    host: &'a Host,
    running: Vec<Running>,
}

impl<'a> Newcomer<'a> {
    /// Somebody to whom this host is what the document calls `name`.
    pub fn new(name: &'static str, host: &'a Host) -> Result<Self> {
        host.sh("mkdir etc bin && cp -r /etc/. etc 2>/dev/null; mount --bind etc /etc && \
             mount -t tmpfs tmpfs /var/lib")?
            .ok()?;
        Ok(Self { name, host, running: Vec::new() })
    }

    /// `ssh` without options, for this login.
    pub fn give_ssh(&self, login: &SshLogin) -> Result {
        let wrapper =
            format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", login.config().display());
        fs::write(self.host.dir().join("bin/ssh"), wrapper)?;
        self.host.sh("chmod +x bin/ssh")?.ok()?;
        Ok(())
    }

    /// Types a command; one with `&` at its end goes on running.
    pub fn types(&mut self, command: &str) -> Result<Output> {
        let programs = program("spad")?;
        let programs = programs.parent().unwrap_or(Path::new("/"));
        let (dir, programs) = (self.host.dir().display(), programs.display());
        let settings = format!("export HOME={dir}; export PATH={dir}/bin:{programs}:$PATH; ");
        let Some(command) = command.strip_suffix('&') else {
            // As on a terminal, one after the other.
            return self.host.sh(&format!("{settings}{{ {command}\n}} 2>&1"));
        };
        let script = format!("{settings}exec {command}");
        self.running.push(self.host.spawn(["sh", "-c", &script])?);
        wait::until("spad is up", Duration::from_secs(10), || {
            Ok(self.host.sh(&format!("{settings}spad status"))?.success())
        })?;
        self.host.sh("true")
    }
}

/// Does what a step says.
///
/// # Errors
/// The host is unknown, the command failed, or something else was shown.
pub fn follow(people: &mut [Newcomer<'_>], step: &Step) -> Result {
    match step {
        Step::Carries { from, to, file } => {
            let [from, to] = [find(people, from)?, find(people, to)?];
            fs::copy(people[from].host.dir().join(file), people[to].host.dir().join(file))?;
        }
        Step::Types { host, command, shown } => {
            let place = find(people, host)?;
            let output = people[place].types(command)?;
            let said = format!("{host}: {command}\n{}", output.all());
            println!("{said}");
            assert!(output.success(), "{said}");
            assert!(shows(&said, shown), "{said}\nshows not {shown:#?}");
        }
    }
    Ok(())
}

fn find(people: &[Newcomer<'_>], name: &str) -> Result<usize> {
    let found = people.iter().position(|newcomer| newcomer.name == name);
    found.map_or_else(|| fail(format!("the document types on an unknown host: {name}")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_typed_shown_and_carried() {
        let document = "text\n```console\nserver# a b\nout\n  put … x\nlaptop$ c\n```\n\
                        <!-- carried from server to laptop: a.token -->\n```sh\nserver# no\n```\n";
        let types = |host: &str, command: &str, shown: &[&str]| Step::Types {
            host: host.into(),
            command: command.into(),
            shown: shown.iter().map(|&line| line.into()).collect(),
        };
        let carries =
            Step::Carries { from: "server".into(), to: "laptop".into(), file: "a.token".into() };
        let expected =
            [types("server", "a b", &["out", "  put … x"]), types("laptop", "c", &[]), carries];
        assert_eq!(steps(document), expected);
    }

    #[test]
    fn what_is_shown_is_there_in_its_order() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let output = "one  two\n\nthree 17 four\n";
        for shown in [&[][..], &["one two"], &["one … four"], &["one", "three … four"]] {
            assert!(shows(output, &lines(shown)), "{shown:?}");
        }
        for shown in [&["four", "one"][..], &["five"], &["one … one"], &["onetwo"]] {
            assert!(!shows(output, &lines(shown)), "{shown:?}");
        }
    }
}
