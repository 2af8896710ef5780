//! What to type, for the ends of help texts and man pages.

pub(super) const SPAD: &str = "\
Exit codes: 0 done; 1 failed, or for status: capture or ruleset not in force, or the journal cannot be written; 2 usage; 3 no \
answer: spad does not run, or you may not ask it.

Example:
  spad check --config /etc/spad/spad.toml && spad run --config /etc/spad/spad.toml";

pub(super) const RUN: &str = "\
Meant for a service manager: packaging/ has the unit for systemd.

Example:
  spad run --config /etc/spad/spad.toml";

pub(super) const CHECK: &str = "\
Examples:
  spad check
  spad check > /dev/null && spad reload";

pub(super) const STATUS: &str = "\
Examples:
  spad status
  spad status --json | jq .ruleset.in_force";

pub(super) const LOG: &str = "\
Reads the audit-file that the configuration names; without one, the systemd journal.

Examples:
  spad log --client alice --since 2d
  spad log --source 203.0.113.0/24 --reason any
  spad log -f
  zcat audit.jsonl.2.gz | spad log --file -";

pub(super) const GRANTS: &str = "\
Examples:
  spad grants
  spad grants --json | jq -r '.[].client'";

pub(super) const RULES: &str = "\
Example:
  spad rules";

pub(super) const SESSIONS: &str = "\
Examples:
  spad sessions
  spad sessions --json";

pub(super) const REVOKE: &str = "\
Examples:
  spad revoke alice
  spad revoke --grant 17";

pub(super) const BAN: &str = "\
A valid knock from a banned address is served all the same, unless the configuration says \
bans = \"absolute\" under [firewall].

Example:
  spad ban 192.0.2.0/24 --for 1h --why 'guesses names'";

pub(super) const UNBAN: &str = "\
Example:
  spad unban 192.0.2.0/24";

pub(super) const BANS: &str = "\
Example:
  spad bans";

pub(super) const RATES: &str = "\
Examples:
  spad rates
  spad rates https --source 192.0.2.7 --clear";

pub(super) const RELOAD: &str = "\
Example:
  spad check > /dev/null && spad reload";

pub(super) const STOP: &str = "\
A running daemon is asked to end, as by SIGTERM. With --open its table goes as well, also where no \
daemon runs: then nothing of it is left in the kernel.

Exit codes: 0 done; 1 failed; 3 no answer: spad does not run (with --open that is no failure),
or you may not ask it

Examples:
  spad stop
  spad stop --open";

pub(super) const ENABLE: &str = "\
Until then spad hears knocks and shuts nothing. There must be a client. Connections that exist live \
on. Root alone may do it, and there is nothing to confirm where it was done before. Said is also \
where nobody listens on what is shut, and on which ports ssh can be reached all the same.

Exit codes: 0 in force; 1 not, and why; 3 no answer: spad does not run, or you may not ask it

Example:
  spad enable --confirm-within 60s";

pub(super) const CONFIRM: &str = "\
Run it from a session that came in through a knock.

Exit codes: 0 in force, from now on and after a reboot; 1 not, and why; 3 no answer: spad does not run, or you may not ask it

Example:
  spad confirm";

pub(super) const DISABLE: &str = "\
The reverse of spad enable, where the configuration says enforce = \"when-enabled\": all is as \
before, and stays so until spad enable is run again. Says what will be open, and asks; without a \
terminal it takes --yes. Keys, records and bans stay, and grants while spad runs, though bans do not \
hold meanwhile; spad goes on hearing knocks, and services with a target are reached by a knock alone. \
Where no spad runs, what it has left in the kernel is taken out, grants too. Root alone may do it.

Exit codes: 0 not in force; 1 it still is, and why

Example:
  spad disable --yes";

pub(super) const CLOSE: &str = "\
Needs neither keys nor configuration: the ruleset that was last in force is kept in state-dir. \
Connections from before end, but those made through a grant. Does nothing where spad runs, or \
where nothing was ever in force for good.

Exit codes: 0 shut, or there is nothing to shut; 1 nothing could be shut

Example:
  spad close";

pub(super) const COMPLETIONS: &str = "\
Example:
  spad completions bash > /etc/bash_completion.d/spad";

pub(super) const WATCH: &str = "\
On a terminal a page that is drawn anew each second; elsewhere a line for each event. Nothing in
the daemon waits for it: what it is too slow for, it misses, and says how much.

Examples:
  spad watch
  spad watch --json | jq .client";

pub(super) const EXPLAIN: &str = "\
FILE is a capture (pcap or pcapng, of Ethernet, loopback, raw IP or Linux cooked), what spa knock \
--save writes, or the 336 bytes of a knock. Each packet for the knock port is judged as the \
daemon would with the keys and configuration that are here now; beyond that, its sender is looked \
for whatever its clock says. Whether a knock was used before only the daemon knows; within the \
files, copies are told.

Needs to read the keys, and no daemon; writes nothing, opens nothing.

Example:
  tcpdump -ni any -s 0 -w knocks.pcap udp port 62201
  spad explain knocks.pcap";
