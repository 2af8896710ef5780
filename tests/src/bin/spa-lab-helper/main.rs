//! What the lab has done inside its hosts: packets, connections and servers.
//!
//! Not for people: the library calls it, see `lab::packet` and `lab::probe`.

mod capture;
mod connect;
mod keep;
mod listen;
mod scan;
mod send;
mod storm;
mod syns;

use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use spa_tests::Result;
use spa_tests::lab::fail;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spa-lab-helper {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result {
    match words {
        ["keep", dir] => keep::until_end_of_input(dir.as_ref()),
        ["send"] => send::datagrams(),
        ["forge"] => send::forged(),
        ["syns", from, to, first, count] => {
            syns::forged(parse(from)?, address(to)?, parse(first)?, parse(count)?)
        }
        ["junk", to, count, seed] => send::junk(address(to)?, parse(count)?, parse(seed)?),
        ["capture"] => capture::print_all(),
        ["connect", to, limit] => connect::once(address(to)?, millis(limit)?),
        ["ask-udp", to, limit, from] => {
            connect::ask_udp(address(to)?, millis(limit)?, parse(from)?)
        }
        ["storm", to] => storm::storm(address(to)?),
        ["hammer", to] => connect::hammer(address(to)?),
        ["hold", to] => connect::hold(address(to)?),
        ["scan", pid] => scan::memory(parse(pid)?),
        ["listen", "tcp", port] => listen::tcp(parse(port)?),
        ["listen", "udp", port] => listen::udp(parse(port)?),
        _ => fail("unknown command"),
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    parse(text)
}

fn millis(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(parse(text)?))
}

fn parse<T: FromStr>(text: &str) -> Result<T>
where
    T::Err: std::error::Error,
{
    text.parse().map_err(|error| spa_tests::LabError::new(format!("{text}: {error}")))
}
