//! What the kernel knows of a running program: time, memory, wake-ups.

use std::fs;

use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

/// A daemon's processes: the first, and those it has made.
#[derive(Clone, Debug)]
pub(crate) struct Family(Vec<Pid>);

impl Family {
    /// A process and its children as they are now.
    pub(crate) fn of(first: Pid) -> Result<Self> {
        let children = read(first, &format!("task/{first}/children"))?;
        let children = children.split_whitespace().map(|pid| Ok(Pid::from_raw(pid.parse()?)));
        Ok(Self([Ok(first)].into_iter().chain(children).collect::<Result<_>>()?))
    }

    /// The members, the first one first.
    pub(crate) fn members(&self) -> &[Pid] {
        &self.0
    }

    /// Of all members together.
    pub(crate) fn sum(&self, of_one: impl Fn(Pid) -> Result<u64>) -> Result<u64> {
        self.0.iter().map(|pid| of_one(*pid)).sum()
    }
}

fn read(pid: Pid, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).doing(path)
}

fn of_threads(pid: Pid, file: &str, number: impl Fn(&str) -> Option<u64>) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path().join(file);
        let text = fs::read_to_string(&path).doing(path.display())?;
        let Some(value) = number(&text) else { return fail(format!("not understood: {text}")) };
        sum += value;
    }
    Ok(sum)
}

/// Processor time used so far, in nanoseconds, of the threads that live.
pub(crate) fn cpu_ns(pid: Pid) -> Result<u64> {
    of_threads(pid, "schedstat", |text| text.split(' ').next()?.parse().ok())
}

/// The share of that time that was spent outside of the kernel, 0 to 1; sampled at the timer's
/// ticks, so it takes seconds of work to be right.
pub(crate) fn user_share(before: [u64; 2], after: [u64; 2]) -> f64 {
    let [user, system] = [after[0] - before[0], after[1] - before[1]].map(|ticks| ticks as f64);
    if user + system > 0.0 { user / (user + system) } else { 0.0 }
}

/// User and system time so far in ticks; with `children`, of those that have ended too.
pub(crate) fn ticks(pid: Pid, children: bool) -> Result<[u64; 2]> {
    let stat = read(pid, "stat")?;
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> =
        fields.split_whitespace().skip(11).take(4).map_while(|text| text.parse().ok()).collect();
    match (fields.as_slice(), children) {
        ([user, system, ..], false) => Ok([*user, *system]),
        ([user, system, their_user, their_system], true) => {
            Ok([user + their_user, system + their_system])
        }
        _ => fail(format!("not understood: {stat}")),
    }
}

/// How often it went to sleep, and so was woken, so far.
pub(crate) fn wake_ups(pid: Pid) -> Result<u64> {
    of_threads(pid, "status", |text| number_after(text, "voluntary_ctxt_switches:"))
}

/// Memory in bytes, with its share of what it has in common with others.
pub(crate) fn proportional_set(pid: Pid) -> Result<u64> {
    kilobytes(pid, "smaps_rollup", "Pss:")
}

/// Memory in bytes that is in no file: what it has allocated.
pub(crate) fn private_memory(pid: Pid) -> Result<u64> {
    kilobytes(pid, "status", "RssAnon:")
}

fn kilobytes(pid: Pid, file: &str, key: &str) -> Result<u64> {
    let text = read(pid, file)?;
    let Some(value) = number_after(&text, key) else {
        return fail(format!("/proc/{pid}/{file} has no {key}"));
    };
    Ok(value * 1024)
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says_of_oneself() {
        let me = Pid::this();
        assert!(cpu_ns(me).unwrap() > 0);
        assert!(ticks(me, true).unwrap()[0] < 1_000_000);
        assert!(proportional_set(me).unwrap() > 100_000);
        assert!(private_memory(me).unwrap() > 10_000);
        assert_eq!(Family::of(me).unwrap().members()[0], me);
    }

    #[test]
    fn the_user_share_is_of_what_was_used_between() {
        assert_eq!(user_share([5, 5], [8, 6]), 0.75);
        assert_eq!(user_share([5, 5], [5, 5]), 0.0);
    }

    #[test]
    fn a_key_is_a_whole_word_at_the_start_of_a_line() {
        let text = "nonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t4\n";
        assert_eq!(number_after(text, "voluntary_ctxt_switches:"), Some(4));
    }
}
