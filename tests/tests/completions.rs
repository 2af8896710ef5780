//! Shells complete what the programs take.

use std::process::Command;

use spa_tests::Result;
use spa_tests::lab::program;

/// What bash offers for these words, of which the last is begun.
fn offered(name: &str, words: &[&str]) -> Result<Vec<String>> {
    let script = "\
        program=$1 name=$2; shift 2\n\
        eval \"$(\"$program\" completions bash)\"\n\
        of=$(complete -p \"$name\" | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
        COMP_WORDS=(\"$name\" \"$@\") COMP_CWORD=$#\n\
        \"$of\" \"$name\" \"${COMP_WORDS[$#]}\" \"${COMP_WORDS[$#-1]}\"\n\
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash"]).arg(program(name)?).arg(name).args(words);
    let output = bash.output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_and_options_of_all_programs() -> Result {
    for (name, words, expected) in [
        ("spa", &["enr"][..], "enroll"),
        ("spa", &["knock", "--all"], "--all-services"),
        ("spa-keys", &["pen"], "pending"),
        ("spa-keys", &["renew", "--q"], "--qr"),
        ("spad", &["sta"], "status"),
        ("spad", &["status", "--j"], "--json"),
    ] {
        assert_eq!(offered(name, words)?, [expected], "{name} {words:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_for_people_is_not_offered() -> Result {
    assert_eq!(offered("spad", &["gate"])?, [""]);
    Ok(())
}
