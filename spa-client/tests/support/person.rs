//! Somebody who knows passphrases.

use std::fs;
use std::process::Command;

use super::{Client, Ran, alone, set_mode};

/// A person who knows what to say, and how often it was asked for. There is no terminal: what
/// `SSH_ASKPASS` names asks.
pub(crate) struct Person<'a> {
    client: &'a Client,
}

impl<'a> Person<'a> {
    pub(crate) fn of(client: &'a Client) -> Self {
        Self { client }
    }

    /// Runs the program; these words of a prompt are answered with these, and all others with
    /// the last.
    pub(crate) fn run(&self, words: &[&str], answers: &[(&str, &str)]) -> Ran {
        self.command(words, answers).output().unwrap().into()
    }

    /// The same, not yet run.
    pub(crate) fn command(&self, words: &[&str], answers: &[(&str, &str)]) -> Command {
        let asked = self.client.dir().join("asked");
        let program = self.client.dir().join("askpass");
        let cases: String = answers
            .iter()
            .map(|(prompt, answer)| format!("  *'{prompt}'*) echo '{answer}';;\n"))
            .collect();
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$1\" >> {}\ncase \"$1\" in\n{cases}  *) exit 1;;\nesac\n",
            asked.display()
        );
        fs::write(&program, script).unwrap();
        set_mode(&program, 0o755);
        drop(fs::remove_file(asked));
        let mut command = alone(&self.client.command(words));
        command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
        command
    }

    /// What was asked since the last run began.
    pub(crate) fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.client.dir().join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn sets(&self, passphrase: &str) {
        let answers = [("new passphrase", passphrase), ("the same again", passphrase)];
        let ran = self.run(&["passphrase", "127.0.0.1"], &answers);
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    }
}
