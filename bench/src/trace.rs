//! What the kernel saw its processes do, and when: its own trace, as ftrace writes it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use spa_tests::Result;
use spa_tests::lab::Doing;

/// Where the kernel's documentation says it is.
const TRACEFS: &str = "/sys/kernel/tracing";

/// A trace of its own, which disturbs no other.
pub(crate) struct Trace(PathBuf);

impl Trace {
    /// Empty, and without anything that it writes down yet; `None` where the kernel has no traces.
    pub(crate) fn new() -> Result<Option<Self>> {
        let instances = Path::new(TRACEFS).join("instances");
        if !instances.exists() {
            // Errors: it is seen below whether it is there now.
            let _ = mount(Some("nodev"), TRACEFS, Some("tracefs"), MsFlags::empty(), None::<&str>);
        }
        if !instances.exists() {
            return Ok(None);
        }
        let dir = instances.join(format!("spa-bench-{}", std::process::id()));
        fs::create_dir(&dir).doing(format!("making {}", dir.display()))?;
        let trace = Self(dir);
        trace.write("trace_clock", "mono")?;
        Ok(Some(trace))
    }

    /// Has an event written down where the filter says so.
    pub(crate) fn watch(&self, event: &str, filter: &str) -> Result {
        self.write(&format!("events/{event}/filter"), filter)?;
        self.write(&format!("events/{event}/enable"), "1")
    }

    /// What was written down since this was last asked.
    pub(crate) fn take(&self) -> Result<Vec<Event>> {
        let path = self.0.join("trace");
        let text = fs::read_to_string(&path).doing(path.display())?;
        self.write("trace", "")?;
        Ok(text.lines().filter_map(Event::parse).collect())
    }

    fn write(&self, file: &str, value: &str) -> Result {
        let path = self.0.join(file);
        fs::write(&path, value).doing(format!("writing {value:?} to {}", path.display()))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A line of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    /// Of the trace's clock, in microseconds.
    pub(crate) at_us: f64,
    /// Who ran on the processor where it happened.
    pub(crate) pid: i32,
    /// What happened.
    pub(crate) what: What,
}

/// What a line says, as far as somebody here wants to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `sched_switch`: this one runs from now on.
    Switch(i32),
    /// `sys_enter` of the system call of this number.
    Enter(i64),
    /// `sys_exit`.
    Exit(i64),
    /// `netif_receive_skb`: a packet of so many bytes, from the IP header on.
    Packet(u32),
}

impl Event {
    /// Such as `spad-71  [000] .....  17.114002: sys_enter: NR 45 (6, 7fff, 200, 20, 0, 0)`.
    fn parse(line: &str) -> Option<Self> {
        let (who, rest) = line.split_once(" [")?;
        let pid = who.trim_end().rsplit('-').next()?.parse().ok()?;
        let (head, said) = rest.split_once(": ")?;
        let at_us = head.rsplit(' ').next()?.parse::<f64>().ok()? * 1e6;
        let (name, said) = said.split_once(": ")?;
        let what = match name {
            "sched_switch" => What::Switch(number_after(said, "next_pid=")?),
            "sys_enter" => What::Enter(number_after(said, "NR ")?),
            "sys_exit" => What::Exit(number_after(said, "NR ")?),
            "netif_receive_skb" => What::Packet(number_after(said, "len=")?),
            _ => return None,
        };
        Some(Self { at_us, pid, what })
    }
}

fn number_after<N: std::str::FromStr>(text: &str, key: &str) -> Option<N> {
    text.split_once(key)?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_kernel_writes_them() {
        let event = |at_us, pid, what| Some(Event { at_us, pid, what });
        let lines = [
            (
                "            spad-6576    [000] .....  1174.500000: sys_exit: NR 232 = 1",
                event(1_174_500_000.0, 6576, What::Exit(232)),
            ),
            (
                "  a - strange-[name-7    [001] d..2.     2.250000: sys_enter: NR 45 (6, 7ff, 2)",
                event(2_250_000.0, 7, What::Enter(45)),
            ),
            (
                "          <idle>-0       [000] d..2.     0.000002: sched_switch: \
                 prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=exe \
                 next_pid=6596 next_prio=101",
                event(2.0, 0, What::Switch(6596)),
            ),
            (
                "       spa-bench-9    [001] ..s1.     1.000000: netif_receive_skb: dev=eth0 \
                 skbaddr=000000006726e574 len=364",
                event(1e6, 9, What::Packet(364)),
            ),
            ("# tracer: nop", None),
            ("       spa-bench-9    [001] ..s1.     1.000000: another_event: NR 9", None),
        ];
        for (line, expected) in lines {
            assert_eq!(Event::parse(line), expected, "{line}");
        }
    }
}
