//! What the command lines of all three programs have in common.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// `PROGRAM completions SHELL`.
#[derive(Args, Debug)]
pub struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    /// What makes the shell complete the words of the program `name`, from the definitions
    /// that its arguments are parsed by.
    #[must_use]
    pub fn script(&self, name: &'static str, program: &Command) -> String {
        let mut script = Vec::new();
        generate(self.shell, &mut for_people(name, program), name, &mut script);
        let script = String::from_utf8_lossy(&script);
        // For bash, clap_complete 4.6 writes a hyphen in the name in two ways, one of which is
        // never looked up (github.com/clap-rs/clap/issues/6421).
        let [looked_up, other] = ["__", "__subcmd__"].map(|hyphen| name.replace('-', hyphen));
        script.replace(&format!("{other}__subcmd__"), &format!("{looked_up}__subcmd__"))
    }
}

/// The program without its hidden commands, which not every shell's script leaves out.
fn for_people(name: &'static str, program: &Command) -> Command {
    let shown = program.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new(name)
        // Which one does not matter: --version is there.
        .version("0")
        .args(program.get_arguments())
        .subcommands(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_gets_the_words() {
        for shell in Shell::value_variants() {
            let program = Command::new("door")
                .subcommand(Command::new("ajar").long_flag("wide"))
                .subcommand(Command::new("inner").hide(true));
            let script = Completions { shell: *shell }.script("door", &program);
            assert!(script.contains("door") && script.contains("ajar"), "{shell}: {script}");
            assert!(!script.contains("inner"), "{shell}: {script}");
        }
    }
}
