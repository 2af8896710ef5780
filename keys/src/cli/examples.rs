//! What to type, for the ends of help texts and man pages.

pub(super) const SPA_KEYS: &str = "\
Examples:
  spa-keys init --host fw.example.com
  spa-keys add alice --service ssh | ssh laptop spa enroll -
  spa-keys add bob --service ssh,web --ttl 1m --expires 2026-12-31 --from 192.0.2.0/24
  spa-keys list
  spa-keys rotate psk alice
  spa-keys revoke alice

Exit status: 0 done, 1 failed, 2 wrong usage.";

pub(super) const ADD: &str = "\
The token is all that goes to standard output. It works once; still, give it to nobody but the
client. The running daemon takes the client up within a second.

Examples:
  spa-keys add alice --service ssh | ssh laptop spa enroll -
  spa-keys add bob --service ssh,web --ttl 1m --max-ttl 1h --expires 2026-12-31
  spa-keys add cron --service backup --from 192.0.2.0/24 --address this
  spa-keys add dave --service ssh --modes once,bound --widest-ipv6 64
  spa-keys add erin --service ssh --qr
  spa-keys add erin --service ssh --passphrase --png erin.png
  spa-keys add carol --service ssh --pubkey \"spa1-key.…\"      (what spa request printed)";

pub(super) const ADD_MANY: &str = "\
The first line names the columns: name, and whatever spa-keys add has as options, such as service,
ttl, expires, from, hours. Several values in a cell are separated by semicolons. All of it is looked
at before anything is added: what is wrong is said with its line. Tokens are written into files that
only you can read, and never over another file.

Examples:
  spa-keys add-many staff.csv --tokens tokens/
  spa-keys add-many staff.csv --dry-run
  printf 'name,service\\nalice/laptop,ssh\\n' | spa-keys add-many - --tokens-csv tokens.csv";

pub(super) const FWKNOP: &str = "\
Keys are never taken over: each client makes a key of its own with its token. What else has no
counterpart is said, line by line. Ports become the services that spad has for them; for those that
are missing, the lines to write into its configuration are printed.

Examples:
  spa-keys import-fwknop /etc/fwknop/access.conf --dry-run
  spa-keys import-fwknop /etc/fwknop/access.conf --tokens tokens/";

pub(super) const EXPORT: &str = "\
Whoever has this file and no passphrase is needed for it can be the server, and read knocks.

Examples:
  spa-keys export --passphrase /var/backups/spa-keys
  spa-keys export - --without-server | ssh backup 'cat > clients.backup'";

pub(super) const IMPORT: &str = "\
Either all of it is put back that can be, or nothing. What is here already and says something else is
in the way, unless --replace: then rights are the backup's, keys stay as they are here, and who is
disabled here stays so. Who was revoked, here or in the backup, is no client then, whatever keys were
replaced. A token that nobody had used is over (spa-keys renew), but one of --pubkey: its client counts
as one who has knocked, as does whoever comes back, for nobody knows what was used since.

Where spa-keys init has made another key meanwhile, with which nobody has enrolled, move DIR/server.toml
away before. With --without-server that key stays; the clients that come back need new tokens for it.

Examples:
  spa-keys import /var/backups/spa-keys --dry-run
  spa-keys import /var/backups/spa-keys";

pub(super) const INIT: &str = "\
Examples:
  spa-keys init --host fw.example.com
  spa-keys init --host 192.0.2.1 --port 53";

pub(super) const LIST: &str = "\
Examples:
  spa-keys list
  spa-keys list --json | jq -r '.[] | select(.state == \"enrolled\").name'";

pub(super) const SHOW: &str = "\
Example:
  spa-keys show alice";

pub(super) const REVOKE: &str = "\
The running daemon ends the client's grants and connections within a second. The record is kept in
DIR/revoked, without its secrets; the name can be given again.

Examples:
  spa-keys revoke alice/phone
  spa-keys revoke alice                  (all her devices)";

pub(super) const COMPLETIONS: &str = "\
Example:
  spa-keys completions bash > /etc/bash_completion.d/spa-keys";

pub(super) const SET: &str = "\
What is not named stays as it is. The running daemon goes by it from the next knock on; grants in
force stay (spad revoke ends them). What is said of a person holds for all devices, each of which
can be limited further by its own name, and never less.

Examples:
  spa-keys set alice --service ssh,web --hours \"mon-fri 08:00-18:00 Europe/Berlin\"
  spa-keys set alice/phone --modes once --max-ttl 1m
  spa-keys set bob --clear expires,from";

pub(super) const RENAME: &str = "\
Examples:
  spa-keys rename alice alice/laptop     (and then: spa-keys add alice/phone)
  spa-keys rename alice/laptop alice/old-laptop
  spa-keys rename alice alicia           (with all her devices)";

pub(super) const PENDING: &str = "\
A client that came back with its key by spa-keys import counts as one that has used its token.

Examples:
  spa-keys pending
  spa-keys pending --json | jq -r '.[] | select(.expired).name'";

pub(super) const RENEW: &str = "\
Whatever was told or sent of the token before is worth nothing any more: keys and secret are new.
What the client may do stays, and a new token with a secret is good for a day again.

Examples:
  spa-keys renew alice
  spa-keys renew alice --qr";

pub(super) const WITHDRAW: &str = "\
As spa-keys revoke; but a client that has knocked already is left as it is.

Example:
  spa-keys withdraw alice";

pub(super) const DISABLE: &str = "\
Its grants and connections end. Its record stays.

Example:
  spa-keys disable alice/laptop";

pub(super) const ENABLE: &str = "\
A device stays shut out if its person was disabled, and the other way round.

Example:
  spa-keys enable alice/laptop";

pub(super) const ROTATE: &str = "\
For as long as the overlap lasts, old keys and new ones both work. Nobody is moved without having
taken a token: hand it over safely, and on the client run spa enroll. When the overlap ends, the
running daemon drops the old keys by itself; of a client's, also what was opened with them.

Examples:
  spa-keys rotate psk alice | ssh laptop spa enroll -
  spa-keys rotate client bob --overlap 2d       (a new signing key too, made on the client)
  spa-keys rotate server --overlap 30d
  spa-keys rotate --token alice                 (then, for everybody; or if a token was lost)
  spa-keys rotate --status
  spa-keys rotate server --finish               (refused while anybody has not moved)";
