//! What to type, for the ends of help texts and man pages.

pub(super) const ENROLL_EXAMPLES: &str = "\
Examples:
  spa enroll                    asks for the token, without showing it
  spa enroll token.txt
  ssh admin@server spa-keys add laptop --service ssh | spa enroll -";

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
  spa knock fw.example.com --from 203.0.113.9 --save - | ssh friend spa send -

In ~/.ssh/config, so that ssh knocks by itself:
  Match host fw.example.com exec \"spa knock %h --wait\"
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
the host's name, and nobody else for anything, except a server for the time if config.toml in
the directory of the keys names one: time-server = \"ntp.example.com\". Ends with 1 if
anything is bad.";

pub(super) const SEND_EXAMPLES: &str = "\
Examples:
  spa send knock.toml
  ssh admin@elsewhere spa knock fw.example.com --from 203.0.113.9 --save - | spa send -";

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
