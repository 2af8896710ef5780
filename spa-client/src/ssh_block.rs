//! Our lines in ssh's configuration. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use spa_proto::Service;

use crate::exit::Failure;

const BEGIN: &str = "# >>> spa: written by `spa ssh-config`, which writes it anew <<<";
const END: &str = "# <<< spa >>>";

/// How ssh is to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Style {
    /// By itself, after a knock; for this service, where the first of the token is another one.
    Exec(Option<Service>),
    /// Through `spa proxy`.
    Proxy,
}

/// The lines for these servers. `Match all` ends them: what may come behind is for all hosts,
/// as before.
pub(crate) fn block(hosts: &[(String, Style)], spa: &str) -> String {
    let mut of_style = BTreeMap::<_, Vec<_>>::new();
    for (host, style) in hosts {
        of_style.entry(style).or_default().push(host.as_str());
    }
    let lines = of_style.into_iter().map(|(style, hosts)| {
        let hosts = hosts.join(",");
        match style {
            Style::Exec(service) => {
                let named = service.map(|service| format!(" --service {service}"));
                let named = named.unwrap_or_default();
                format!("Match host {hosts} exec \"{spa} knock %h{named} --wait --wait-port %p\"\n")
            }
            Style::Proxy => format!("Match host {hosts}\n  ProxyCommand {spa} proxy %h %p\n"),
        }
    });
    format!("{BEGIN}\n{}Match all\n{END}\n", lines.collect::<String>())
}

/// A path as one word for ssh, and for the shell that ssh runs.
pub(crate) fn shell_word(path: &Path) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    let awkward = |c: char| c.is_control() || "'\"\\".contains(c);
    let text = path.to_str().filter(|text| !text.contains(awkward)).ok_or_else(|| {
        Failure::usage(format!("{} cannot be written in ssh's configuration", path.display()))
    })?;
    let text = text.replace('%', "%%");
    Ok(if text.chars().all(plain) { text } else { format!("'{text}'") })
}

/// `text` with `block` where our lines were, or at its end; or without our lines.
///
/// At the end names have been made addresses by the lines before, as `Match host` wants it, and
/// settings that are there for a host go first.
///
/// # Errors
/// The line, from 1, of a mark without its other half.
pub(crate) fn edit(text: &str, block: Option<&str>) -> Result<String, usize> {
    let (before, after) = match find(text)? {
        Some((start, end)) => (&text[..start], &text[end..]),
        None => (text, ""),
    };
    let was_there = before.len() < text.len();
    Ok(match block {
        Some(block) if was_there => format!("{before}{block}{after}"),
        Some(block) => format!("{before}{}{block}", gap(before)),
        // With the empty line that came with it.
        None if was_there => format!(
            "{}{after}",
            before.strip_suffix('\n').filter(|rest| rest.ends_with('\n')).unwrap_or(before)
        ),
        None => text.to_owned(),
    })
}

/// An empty line between what is there and what comes.
fn gap(before: &str) -> &'static str {
    match before {
        "" => "",
        _ if before.ends_with('\n') => "\n",
        _ => "\n\n",
    }
}

/// Where our lines are, in bytes.
fn find(text: &str) -> Result<Option<(usize, usize)>, usize> {
    let (mut begun, mut found, mut at) = (None, None, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let number = number + 1;
        match line.trim() {
            BEGIN if begun.is_some() || found.is_some() => return Err(number),
            BEGIN => begun = Some((at, number)),
            END => {
                let (start, _) = begun.take().ok_or(number)?;
                found = Some((start, at + line.len()));
            }
            _ => {}
        }
        at += line.len();
    }
    begun.map_or(Ok(found), |(_, number)| Err(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(host: &str) -> String {
        block(&[(host.to_owned(), Style::Exec(None))], "spa")
    }

    #[test]
    fn each_host_as_it_is_to_be_reached() {
        let ssh = Style::Exec("ssh".parse().ok());
        let hosts =
            [("a", Style::Exec(None)), ("d", ssh), ("b", Style::Exec(None)), ("c", Style::Proxy)];
        let text = block(&hosts.map(|(host, style)| (host.to_owned(), style)), "spa");
        let expected = "Match host a,b exec \"spa knock %h --wait --wait-port %p\"\n\
                        Match host d exec \"spa knock %h --service ssh --wait --wait-port %p\"\n\
                        Match host c\n  ProxyCommand spa proxy %h %p\nMatch all\n";
        assert_eq!(text, format!("{BEGIN}\n{expected}{END}\n"));
    }

    #[test]
    fn comes_once_and_goes_without_a_trace() {
        for text in ["", "Host x\n  Port 22\n", "Host x", "\n\n", "# only\r\n"] {
            let with = edit(text, Some(&example("a"))).unwrap();
            assert!(with.starts_with(text) && with.ends_with(&example("a")), "{text:?}");
            assert_eq!(edit(&with, Some(&example("a"))).unwrap(), with, "the same again");
            let other = edit(&with, Some(&example("b"))).unwrap();
            assert_eq!(other, with.replace("host a", "host b"));
            let without = edit(&with, None).unwrap();
            assert_eq!(without.trim_end(), text.trim_end());
            assert!(without == text || !text.ends_with('\n'), "{text:?}: {without:?}");
            assert_eq!(edit(text, None).unwrap(), text);
        }
    }

    #[test]
    fn what_others_wrote_behind_it_stays() {
        let with = edit("Host x\n", Some(&example("a"))).unwrap() + "Host y\n";
        assert!(edit(&with, Some(&example("b"))).unwrap().ends_with("Host y\n"));
        assert_eq!(edit(&with, None).unwrap(), "Host x\nHost y\n");
    }

    #[test]
    fn half_a_block_is_not_touched() {
        let whole = example("a");
        let no_end = whole.replace(END, "");
        let no_begin = whole.replace(BEGIN, "");
        for (text, line) in [(&no_end, 1), (&no_begin, 4), (&format!("{whole}{whole}"), 5)] {
            assert_eq!(edit(text, None), Err(line), "{text}");
            assert_eq!(edit(text, Some(&whole)), Err(line), "{text}");
        }
    }

    #[test]
    fn paths_are_one_word() {
        let word = |path: &str| shell_word(Path::new(path)).ok();
        assert_eq!(word("/usr/bin/spa").as_deref(), Some("/usr/bin/spa"));
        assert_eq!(word("/a b/$x").as_deref(), Some("'/a b/$x'"));
        assert_eq!(word("/50%").as_deref(), Some("'/50%%'"));
        for path in ["/it's", "/a\"b", "/a\\b", "/a\nb"] {
            assert_eq!(word(path), None, "{path:?}");
        }
    }
}
