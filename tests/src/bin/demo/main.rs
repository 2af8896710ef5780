//! `make demo`: the whole story, played by the real programs between network namespaces.
//!
//! Each step prints what was done and what was seen. The exit status is 0 only if every step came
//! out as it should.

mod narrator;
mod scene;
mod story;

use std::env;
use std::process::ExitCode;

use spa_tests::lab::Addressing;

use narrator::Narrator;

const USAGE: &str = "usage: demo [--ipv6]\n\nPlays the story over IPv4, or over IPv6 alone.";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let addressing = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Addressing::V4_ONLY,
        ["--ipv6"] => Addressing::V6_ONLY,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut narrator = Narrator::new();
    if let Err(error) = story::play(&mut narrator, addressing) {
        narrator.broke_off(&error.to_string());
    }
    if narrator.verdict() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
