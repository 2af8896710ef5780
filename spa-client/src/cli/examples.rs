//! What to type, for the ends of help texts and man pages.

/// What most people need.
pub(super) const SPA_EXAMPLES: &str = "\
Examples:
  spa enroll token.txt && spa knock fw.example.com --wait
  spa ssh fw.example.com
  spa doctor fw.example.com";

/// What is where.
pub(super) const FILES: &str = "\
Files, in the directory of servers and keys:
  hosts/NAME.toml    a server, with the keys for it; mode = \"once\" in it is what its knocks ask for
  requests/          keys that wait for their token
  config.toml        may hold, for all servers:
    address-url = \"https://...\"    where to ask for this machine's address if its own is not
                                   global; the answer is the address, as plain text; needs curl
    time-server = \"NAME\"         whom spa doctor asks for the time
    keep-unlocked = \"15m\"        for how long keys stay unlocked once their passphrase was
                                 given; 0s for not at all
    keyring = \"auto\"             who keeps them: kernel; desktop, as long as its own keyring is
                                 unlocked too; auto for the desktop where there is one";

pub(super) const PASSPHRASE_EXAMPLES: &str = "\
Examples:
  spa passphrase fw.example.com
  spa passphrase fw.example.com --remove

It is asked for on the terminal; where there is none, by the program that SSH_ASKPASS names
(with SSH_ASKPASS_REQUIRE=force in any case). Whoever copies the file then has to guess it, at
64 MiB of memory for each guess (Argon2id). The old file is overwritten, but
copies that disks and backups have made of it stay: where it was in clear for long, a new token
is better.";

pub(super) const UNLOCK_EXAMPLES: &str = "\
Examples:
  spa unlock fw.example.com
  spa unlock office home --for 8h

They are kept in the kernel's keyring of this user, in memory, and only on Linux; a disk has them
only where the machine hibernates or writes crash dumps meanwhile. spa knock, proxy, ssh and
doctor keep them for a while themselves once they had to ask. At a desktop with a keyring (Secret
Service, asked by secret-tool of libsecret-tools) the kernel has one half, which ends in its time,
and the desktop the other, which is there while its keyring is unlocked.";

pub(super) const LOCK_EXAMPLES: &str = "\
Example:
  spa lock";

pub(super) const ENROLL_EXAMPLES: &str = "\
Examples:
  spa enroll                    asks for the token, without showing it
  spa enroll token.txt
  cat tokens/*.txt | spa enroll -
  zbarimg --quiet --raw token.png | spa enroll -
  ssh admin@server spa-keys add laptop --service ssh | spa enroll -

At a terminal it shows what the token has in it, and asks whether that is to be trusted: compare
the server's key with what spa-keys init printed there.";

pub(super) const KNOCK_EXAMPLES: &str = "\
Examples:
  spa knock fw.example.com && ssh fw.example.com
  spa knock fw.example.com --service ssh,tcp/8443 --ttl 2m --wait
  spa knock office home nas --wait
  spa knock --again
  spa knock fw.example.com --service https --mode once && curl https://fw.example.com/
  spa knock fw.example.com --service https --mode bound --source-port 50000 --wait &&
    curl --local-port 50000 https://fw.example.com/

For somebody else, who has no key and is at 203.0.113.9; within 30 s, the server's tolerance:
  spa knock fw.example.com --source 203.0.113.9 --save - | ssh friend spa send -

In ~/.ssh/config, so that ssh knocks by itself:
  Match host fw.example.com exec \"spa knock %h --wait --wait-port %p\"
";

pub(super) const PROXY_EXAMPLES: &str = "\
Examples:
  ssh -o ProxyCommand=\"spa proxy %h %p\" fw.example.com
  spa proxy fw.example.com 2222 --service git-ssh --mode once

In ~/.ssh/config, for ssh, scp, sftp, rsync and git alike; each connection knocks for itself:
  Host fw.example.com
    ProxyCommand spa proxy %h %p --mode bound
";

pub(super) const SSH_EXAMPLES: &str = "\
Examples:
  spa ssh alice@fw.example.com
  spa ssh --ttl 2m -p 2222 -L 8080:localhost:80 fw.example.com
  rsync -e 'spa ssh' -a docs/ fw.example.com:docs/
  GIT_SSH_COMMAND='spa ssh' GIT_SSH_VARIANT=ssh git fetch

ssh itself is asked (ssh -G) which host and port it means, and ends as it ends; errors before
it runs end with 255, as its own. Where there are no keys for the host, it is ssh without a
knock. A jump host (ProxyJump) is knocked at in place of the host behind it.";

pub(super) const SSH_CONFIG_EXAMPLES: &str = "\
Examples:
  spa ssh-config                       prints the lines, for all servers
  spa ssh-config --write               puts them at the end of ~/.ssh/config
  spa ssh-config --write --proxy fw.example.com
  spa ssh-config --remove

Run it again after spa enroll: the lines are written anew, and come once. The file keeps its
mode, and stays where it is if ~/.ssh/config is a link; as it was, it is kept beside it as
config.before-spa.";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  spa doctor fw.example.com
  spa doctor fw.example.com --service https --json | jq '.findings[] | select(.verdict == \"bad\")'

It knocks once, and connects to the service's port before and after; the resolver is asked for
the host's name, and nobody else for anything, except whom config.toml in the directory of the
keys names: for the time (time-server = \"ntp.example.com\"), and for this machine's address
(address-url, as every knock does). Ends with 1 if anything is bad.";

pub(super) const SEND_EXAMPLES: &str = "\
Examples:
  spa send knock.toml
  ssh admin@elsewhere spa knock fw.example.com --source 203.0.113.9 --save - | spa send -";

pub(super) const REQUEST_EXAMPLES: &str = "\
Example:
  spa request | ssh admin@server 'spa-keys add laptop --service ssh --pubkey \"$(cat)\"' | spa enroll -";

pub(super) const HOSTS_EXAMPLES: &str = "\
Examples:
  spa hosts
  spa hosts --json | jq -r '.[].name'";

pub(super) const FORGET_EXAMPLES: &str = "\
Example:
  spa forget old.example.com";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  spa completions bash > ~/.local/share/bash-completion/completions/spa
  spa completions fish > ~/.config/fish/completions/spa.fish";

/// What `spa knock --json` prints.
pub(super) const JSON_FIELDS: &str = "\
With --json, one object a line for each host, in the order in which they are done:
  name          as given, or the server's alias
  host          name or address that was resolved; null if no keys were found
  services      what was asked for
  ttl_s         for how many seconds at most: as --ttl asks, else as it was when this machine was
                enrolled; null if neither is known
  dry_run       true if nothing was sent
  sent          the first round: for each datagram address, port, services, source_requested
                (an address, or seen), mode (null leaves it to the server); with source_port,
                width and error where there are such
  open          whether the service opened; null without --wait
  waited_ms     from the first knock until it opened or time was up; null without --wait
  error         what went wrong, or null
  exit          the exit code for this host
Fields may be added, but not change.
";
