//! Examples in help texts: each command has one, and each can be typed.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// Sees to it that `program` and each of its commands has an example of itself in
/// the text after its help, and that every example is one: the same definitions
/// that make the help take it.
///
/// # Errors
/// Names every command without an example, and every example that is none.
pub fn check_examples(program: &Command) -> Result<(), String> {
    let mut built = program.clone();
    built.build();
    let faults = faults(program, &built, &[]);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn faults(program: &Command, command: &Command, path: &[String]) -> Vec<String> {
    let examples: Vec<_> =
        help_lines(command).iter().flat_map(|line| invocations(line, program.get_name())).collect();
    let full = [&[program.get_name().to_owned()], path].concat().join(" ");
    let mut faults: Vec<_> =
        examples.iter().filter_map(|words| fault(program, &full, words)).collect();
    if !examples.iter().any(|words| command_of(program, words).starts_with(path)) {
        faults.push(format!("{full}: no example after its help"));
    }
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in commands.filter(|command| command.get_name() != "help") {
        faults.extend(self::faults(
            program,
            command,
            &[path, &[command.get_name().to_owned()]].concat(),
        ));
    }
    faults
}

/// Which command an example runs, as far as it can be parsed.
fn command_of(program: &Command, words: &[String]) -> Vec<String> {
    let lenient = program.clone().ignore_errors(true);
    let Ok(mut matches) = lenient.try_get_matches_from(words) else { return Vec::new() };
    let mut path = Vec::new();
    while let Some((name, of_command)) = matches.remove_subcommand() {
        path.push(name);
        matches = of_command;
    }
    path
}

/// The lines that are set off: what there is to type is among them.
fn help_lines(command: &Command) -> Vec<String> {
    let texts = [command.get_after_help(), command.get_after_long_help()];
    let text: String = texts.into_iter().flatten().map(|text| format!("{text}\n")).collect();
    text.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// What of a shell's line runs the program: each with its words. What stands
/// behind three spaces is an explanation.
fn invocations(line: &str, program: &str) -> Vec<Vec<String>> {
    let typed = line.trim_start().split("   ").next().unwrap_or_default();
    let words = shlex::split(typed).unwrap_or_default();
    let commands = words.split(|word| ["|", "&&", "||", ";"].contains(&word.as_str()));
    let ours = commands.filter(|words| words.first().is_some_and(|word| word == program));
    let before_redirection = |words: &[String]| {
        words.iter().take_while(|word| !word.starts_with(['>', '<'])).cloned().collect()
    };
    ours.map(before_redirection).collect()
}

fn fault(program: &Command, full: &str, words: &[String]) -> Option<String> {
    let error = program.clone().try_get_matches_from(words).err()?;
    let shown = error.to_string();
    let why = shown.lines().next().unwrap_or_default();
    (!is_placeholder(&error)).then(|| format!("{full}: the example `{}`: {why}", words.join(" ")))
}

/// Asking for help is no error; and nobody has a value for what only a shell can
/// put in, for what is left out with …, or for a date that goes by one day.
fn is_placeholder(error: &Error) -> bool {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::ValueValidation => value.contains(['…', '$']) || is_date(value),
        _ => false,
    }
}

/// `2031-12-31`, and perhaps a time behind it.
fn is_date(value: &str) -> bool {
    let shape: String =
        value.chars().take(10).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, value_parser};

    fn program(after: &'static str, of_knock: &'static str) -> Command {
        let port = Arg::new("port").long("port").value_parser(value_parser!(u16));
        let knock = Command::new("knock").arg(port).arg(Arg::new("host")).after_help(of_knock);
        let hidden = Command::new("inner").hide(true);
        Command::new("door").subcommands([knock, hidden]).after_help(after)
    }

    const GOOD: &str = "Example:\n  door knock a";

    #[test]
    fn takes_examples_that_can_be_typed() {
        for example in [
            "Example:\n  door knock --port 1 a",
            "Examples:\n  door knock a && ssh a\n  door knock a > file",
            "  echo a | door knock a | ssh 'door knick'",
            "  door knock a            knocks at a",
            "  door knock --port \"$(cat port)\" a\n  door knock --port 1… a",
            "  door knock --port 2031-12-31 a",
            "  door knock a && door --help",
        ] {
            assert_eq!(check_examples(&program(GOOD, example)), Ok(()), "{example}");
        }
    }

    #[test]
    fn complains_of_the_others() {
        for (after, example, complaint) in [
            (GOOD, "", "door knock: no example"),
            (GOOD, "Knocks: door knock a", "door knock: no example"),
            ("", GOOD, "door: no example"),
            (GOOD, "  ssh a", "door knock: no example"),
            (GOOD, "  door knock --prot 1 a", "`door knock --prot 1 a`: error: unexpected"),
            (GOOD, "  true && door knock --port x a", "invalid value 'x'"),
            ("  door knick a\n  door --help", GOOD, "door: the example `door knick a`"),
        ] {
            let said = check_examples(&program(after, example)).unwrap_err();
            assert!(said.contains(complaint), "{complaint}: {said}");
        }
    }
}
