//! `spa-keys pending`.

use serde::Serialize;
use spa_keys::{ClientRecord, ClientState, Store, date, note};
use spa_proto::{Timestamp, Verifier};

use super::{Failure, list, print};
use crate::view::{aligned_table, to_json};

/// One token that is still out; the names are those of the JSON.
#[derive(Serialize)]
struct Pending {
    name: String,
    kid: String,
    /// How the client's key gets here: with the token's secret, or by `--pubkey`.
    enrolment: &'static str,
    services: Vec<String>,
    made: String,
    /// None for a token without a secret: it is good until it is withdrawn.
    expires: Option<String>,
    expired: bool,
}

pub(crate) fn run(store: &Store, json: bool) -> Result<(), Failure> {
    list::check_there(store)?;
    let (records, broken) = store.pending()?;
    let now = date::now();
    let pending: Vec<_> = records.iter().map(|record| Pending::of(record, now)).collect();
    print(&if json { to_json(&pending) } else { table(&pending) })?;
    if pending.is_empty() && !json {
        note!("every token is used");
    }
    list::complain(broken)
}

impl Pending {
    fn of(record: &ClientRecord, now: Timestamp) -> Self {
        let (enrolment, token) = match record.verifier {
            Verifier::Pending { expires, .. } => ("secret", Some(expires)),
            Verifier::Bound(_) => ("key", None),
        };
        // A token that was renewed is younger than its client.
        let made = token.map_or(record.created, |until| until.minus(Store::TOKEN_LIFETIME));
        let state = record.state(now);
        Self {
            name: record.name.to_string(),
            kid: record.kid.to_string(),
            enrolment,
            services: record.services().iter().map(ToString::to_string).collect(),
            made: date::format(made),
            expires: token.into_iter().chain(record.ends()).min().map(date::format),
            expired: matches!(state, ClientState::TokenExpired | ClientState::Expired),
        }
    }

    fn row(&self) -> [String; 6] {
        let expires = self.expires.clone().unwrap_or_else(|| "never".to_owned());
        [
            self.name.clone(),
            self.kid.chars().take(8).collect(),
            self.enrolment.to_owned(),
            self.services.join(","),
            self.made.clone(),
            if self.expired { format!("{expires}, over") } else { expires },
        ]
    }
}

fn table(pending: &[Pending]) -> String {
    aligned_table(
        ["NAME", "KEY-ID", "ENROLS BY", "SERVICES", "MADE", "EXPIRES"],
        pending.iter().map(Pending::row).collect(),
    )
}
