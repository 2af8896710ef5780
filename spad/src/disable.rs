//! What whoever runs `spad disable` is told, before and after.

use std::io::{self, IsTerminal, Write};

use crate::config::Config;
use crate::control::client;
use crate::control::report::Disabled;

/// Says what will be open, and asks whether that is meant.
///
/// # Errors
/// Where it is not, or nobody is there to ask.
pub fn ask(config: &Config, yes: bool) -> Result<(), String> {
    if yes {
        return Ok(());
    }
    let disabled =
        Disabled { is_running: client::is_running(&config.run_dir), ..Disabled::of(config) };
    let open = open(&disabled);
    let mut out = io::stderr();
    let there = io::stdin().is_terminal() && out.is_terminal();
    if !there {
        return Err(format!(
            "this opens to everybody: {open}; there is no terminal to ask on: if that is meant, say --yes"
        ));
    }
    let _ = write!(out, "{}go on? [y/N] ", warning(&disabled)).and_then(|()| out.flush());
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| error.to_string())?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err("nothing has changed".into()),
    }
}

fn warning(disabled: &Disabled) -> String {
    let grants = if disabled.is_running { "bans and grants" } else { "and bans" };
    format!(
        "this opens to everybody, now and after a reboot: {}\n{}\
         bans and rates do not hold meanwhile; keys, records, {grants} stay, connections live on\n",
        open(disabled),
        inner(disabled)
    )
}

/// What was done.
#[must_use]
pub fn text(disabled: &Disabled) -> String {
    let state = if disabled.already { "not in force, as before" } else { "not in force any more" };
    let spad = if disabled.is_running {
        "spad goes on hearing knocks; to end that too: systemctl disable --now spad spad-close"
    } else {
        "no spad is running, and nothing of it is left in the kernel: no grants, and no translation of addresses"
    };
    format!(
        "{state}: {} open to everybody\n\
         after a reboot too, until you run: spad enable\n{}{spad}\n",
        open(disabled),
        inner(disabled)
    )
}

fn open(disabled: &Disabled) -> String {
    let all_else = disabled.all_else.then(|| "all else that mode managed drops".to_owned());
    let open: Vec<_> = disabled.services.iter().cloned().chain(all_else).collect();
    if open.is_empty() { "nothing of this host itself".into() } else { open.join(", ") }
}

/// What no longer being shut does not open.
fn inner(disabled: &Disabled) -> String {
    let how = if disabled.is_running { "by a knock alone, as before" } else { "by nobody" };
    match disabled.inner.as_slice() {
        [] => String::new(),
        inner => format!("inner hosts are reached {how}: {}\n", inner.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disabled(mode: &str) -> Disabled {
        let text = format!("[firewall]\nmode = \"{mode}\"\n[service.ssh]\nport = 22\n");
        Disabled::of(&Config::parse(&text).unwrap())
    }

    #[test]
    fn what_will_be_open_is_said_and_what_stays() {
        assert_eq!(open(&disabled("guard")), "ssh (tcp/22)");
        assert_eq!(open(&disabled("managed")), "ssh (tcp/22), all else that mode managed drops");
        let running = Disabled { is_running: true, ..disabled("guard") };
        let said = warning(&running);
        assert!(said.contains("everybody, now and after a reboot: ssh (tcp/22)\n"), "{said}");
        assert!(said.contains("records, bans and grants stay"), "{said}");
        assert!(!warning(&disabled("guard")).contains("grants"), "they go with the table");
        let said = text(&running);
        assert!(said.starts_with("not in force any more: ssh (tcp/22) open"), "{said}");
        assert!(said.contains("spad enable\nspad goes on hearing"), "{said}");
        let said = text(&Disabled { already: true, ..disabled("guard") });
        assert!(said.contains("as before") && said.contains("no spad is running"), "{said}");
    }

    #[test]
    fn an_inner_host_is_not_said_to_be_open() {
        let config = "[service.nas]\nport = 443\ntarget = \"10.0.0.5\"\n";
        let disabled = Disabled::of(&Config::parse(config).unwrap());
        let said = text(&disabled);
        assert!(said.contains("nothing of this host itself open"), "{said}");
        assert!(said.contains("reached by nobody: nas (tcp/443)\n"), "{said}");
        let said = text(&Disabled { is_running: true, ..disabled });
        assert!(said.contains("by a knock alone, as before: nas (tcp/443)\n"), "{said}");
    }

    #[test]
    fn nobody_is_asked_who_has_said_yes() {
        let config = Config::parse("[service.ssh]\nport = 22\n").unwrap();
        assert_eq!(ask(&config, true), Ok(()));
    }
}
