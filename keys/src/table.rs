//! Tables of clients to add, as CSV (RFC 4180) with a heading: each column is an
//! option of `spa-keys add`, and is read as that is.

use clap::{CommandFactory, Parser};
use spa_keys::{ClientName, NewClient, Policy, PublicKeyLine};

use crate::bulk::Planned;
use crate::cli::Rights;

const NAME: &str = "name";

/// One row, as if it were a command line.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Row {
    name: ClientName,
    #[command(flatten)]
    rights: Rights,
    #[arg(long, value_parser = PublicKeyLine::decode)]
    pubkey: Option<PublicKeyLine>,
}

/// Reads a table; `file` is what it is called. Either all clients in it, or all
/// that is wrong with it, a line each.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Planned>, Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let columns = columns(file, text, &mut reader).map_err(|problem| vec![problem])?;
    let (mut planned, mut problems) = (Vec::new(), Vec::new());
    for record in reader.records() {
        match record.map_err(|error| unreadable(file, text, &error)) {
            Err(problem) => problems.push(problem),
            Ok(record) => {
                let place = place(file, text, record.position());
                match client(&columns, &record) {
                    Ok(client) => planned.push(Planned { place, client }),
                    Err(what) => problems.push(format!("{place}: {what}")),
                }
            }
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

/// What the heading names.
fn columns(file: &str, text: &str, reader: &mut csv::Reader<&[u8]>) -> Result<Vec<String>, String> {
    let heading = reader.headers().map_err(|error| unreadable(file, text, &error))?;
    let columns: Vec<_> = heading.iter().map(str::to_owned).collect();
    let row = Row::command();
    let mut known: Vec<_> = row.get_arguments().filter_map(|one| one.get_long()).collect();
    known.insert(0, NAME);
    let all = known.join(", ");
    for (at, column) in columns.iter().enumerate() {
        if !known.contains(&column.as_str()) {
            return Err(format!("{file}:1: {column:?} is no column: there can be {all}"));
        }
        if columns.iter().take(at).any(|other| other == column) {
            return Err(format!("{file}:1: the column {column} is there twice"));
        }
    }
    match columns.iter().any(|column| column == NAME) {
        true => Ok(columns),
        false => {
            Err(format!("{file}:1: a heading with a column {NAME} is missing: there can be {all}"))
        }
    }
}

fn client(columns: &[String], record: &csv::StringRecord) -> Result<NewClient, String> {
    let cells = columns.iter().zip(record).filter(|(_, cell)| !cell.is_empty());
    let (names, options): (Vec<_>, Vec<_>) = cells.partition(|(column, _)| *column == NAME);
    let options = options.into_iter().map(|(column, cell)| {
        // Lists in a cell need no quotes if they are written with semicolons.
        format!("--{column}={}", cell.replace("; ", ",").replace(';', ","))
    });
    let names = names.into_iter().map(|(_, name)| name.to_owned());
    let words = options.chain(["--".to_owned()]).chain(names);
    let row = Row::try_parse_from(words).map_err(|error| complaint(&error))?;
    let (mut policy, mut expires) = (Policy::default(), None);
    row.rights.apply(&mut policy, &mut expires);
    let key = row.pubkey.map(|line| line.key);
    Ok(NewClient { name: row.name, expires, policy, key })
}

/// What is wrong, without what is said of command lines.
fn complaint(error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::MissingRequiredArgument {
        return "there is no name".to_owned();
    }
    let text = error.to_string();
    let said = text.trim_start_matches("error: ").lines().take_while(|line| !line.is_empty());
    said.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The line that a record begins on: it is said to begin where the one before ended.
fn place(file: &str, text: &str, position: Option<&csv::Position>) -> String {
    let Some(position) = position else { return file.to_owned() };
    let begin = usize::try_from(position.byte()).ok().and_then(|at| text.get(at..));
    let is_left_out = |line: &&str| line.trim().is_empty() || line.starts_with('#');
    let left_out = begin.unwrap_or_default().lines().take_while(is_left_out).count();
    let line = usize::try_from(position.line()).unwrap_or(usize::MAX).saturating_add(left_out);
    format!("{file}:{line}")
}

fn unreadable(file: &str, text: &str, error: &csv::Error) -> String {
    let place = place(file, text, error.position());
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{place}: {len} columns where the heading has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => format!("{place}: not UTF-8 text"),
        _ => format!("{place}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_keys::AddressRule;

    fn problems(text: &str) -> Vec<String> {
        parse("t.csv", text).err().unwrap_or_default()
    }

    #[test]
    fn reads_what_add_takes() {
        let text = "name,service,max-ttl,from,hours,address,expires\n\
                    # a remark\n\
                    alice/laptop,\"ssh,web\",5m,192.0.2.0/24; 10.0.0.0/8,mon-fri 08:00-18:00; sat 10:00-12:00,this,\n\
                    \n\
                    bob, ssh ,,,,,2999-12-31\n";
        let rows = parse("t.csv", text).ok().unwrap();
        let (alice, bob) = (&rows[0], &rows[1]);
        assert_eq!((alice.place.as_str(), bob.place.as_str()), ("t.csv:3", "t.csv:5"));
        assert_eq!(alice.client.name.as_str(), "alice/laptop");
        let policy = &alice.client.policy;
        assert_eq!((policy.services.len(), policy.sources.len(), policy.hours.len()), (2, 2, 2));
        assert_eq!((policy.max_ttl.unwrap().as_secs(), policy.address), (300, AddressRule::This));
        assert_eq!(bob.client.policy.services, ["ssh".parse().unwrap()]);
        assert!(bob.client.expires.is_some() && bob.client.policy.max_ttl.is_none());
    }

    #[test]
    fn says_all_that_is_wrong_and_on_which_lines() {
        let said = problems("name,service,ttl\nalice,ssh,30\nBob,ssh,\n,ssh,\ncarol,ssh\n");
        for (at, part) in [
            "t.csv:2: invalid value '30'",
            "t.csv:3: ",
            "t.csv:4: there is no name",
            "t.csv:5: 2 columns",
        ]
        .iter()
        .enumerate()
        {
            assert!(said[at].contains(part), "{part}: {said:?}");
        }
        assert_eq!(said.len(), 4);
        for (text, part) in [
            ("", "a column name is missing"),
            ("alice,ssh\n", "\"alice\" is no column"),
            ("name,name\n", "is there twice"),
            ("service\nssh\n", "a column name is missing"),
            ("name,help\n", "\"help\" is no column"),
        ] {
            assert!(problems(text)[0].contains(part), "{text:?}: {:?}", problems(text));
        }
    }

    /// Nothing in a cell becomes another option.
    #[test]
    fn a_cell_is_a_value_and_nothing_else() {
        for text in ["name,service\n--ttl=5m,ssh\n", "name,service\nalice,--ttl=5m\n", "name\n-h\n"]
        {
            assert_eq!(problems(text).len(), 1, "{text:?}");
        }
        let two = parse("t.csv", "name,ttl\nalice/x,5m --max-ttl=6m\n");
        assert!(two.is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_table_makes_it_panic(
            rows in "([a-z/]{0,9},[a-z0-9;\"\n -]{0,20},[0-9a-z:\"-]{0,9}\n){0,5}", any in ".{0,80}",
        ) {
            for text in [format!("name,service,ttl\n{rows}"), format!("name,hours\n{any}"), any] {
                match parse("t.csv", &text) {
                    Ok(rows) => proptest::prop_assert!(rows.iter().all(|row| row.place.starts_with("t.csv:"))),
                    Err(problems) => proptest::prop_assert!(problems.iter().all(|one| one.starts_with("t.csv"))),
                }
            }
        }
    }
}
