//! A measurement brings figures. What they are decides nothing here.

use std::process::Command;

use serde_json::Value;
use spa_tests::Result;
use spa_tests::lab::fail;

fn measured(name: &str, options: &[&str]) -> Result<Value> {
    let results = tempfile::tempdir()?;
    let done = Command::new(env!("CARGO_BIN_EXE_spa-bench"))
        .args([name, "--ours-only", "--results"])
        .arg(results.path())
        .args(options)
        .output()?;
    if !done.status.success() {
        return fail(String::from_utf8_lossy(&done.stderr));
    }
    let text = std::fs::read_to_string(results.path().join(format!("{name}.json")))?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn knocks_are_timed_until_they_open() -> Result {
    let latency = measured("latency", &["--tries", "2"])?;
    let row = &latency["rows"][0];
    assert_eq!((&row["name"], &row["numbers"]["tries"]), (&"spa".into(), &2.0.into()), "{row}");
    let samples = row["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2, "{row}");
    assert!(samples.iter().all(|us| us.as_f64().is_some_and(|us| us > 0.0)), "{row}");
    let seen = row["numbers"]["p50 by the asker's clock, µs"].as_f64().unwrap();
    let least = samples.iter().filter_map(Value::as_f64).fold(f64::INFINITY, f64::min);
    assert!(seen > least, "whoever asks is later than the wire: {row}");
    assert!(latency["machine"]["cpus"].as_u64().is_some_and(|cpus| cpus > 0));
    Ok(())
}

#[test]
fn knocks_are_honoured_while_a_flood_is_sent() -> Result {
    let options = ["--tries", "3", "--only", "junk of a knock's length, IPv6"];
    let flood = measured("flood", &options)?;
    let numbers = &flood["rows"][0]["numbers"];
    assert_eq!(numbers["tries"], 3.0, "{flood}");
    assert!(numbers["honoured"].as_f64().is_some(), "{flood}");
    assert!(numbers["flood per second"].as_f64().is_some_and(|sent| sent > 0.0), "{flood}");
    Ok(())
}

#[test]
fn a_knock_is_followed_step_by_step() -> Result {
    let way = measured("way", &["--tries", "4"])?;
    let rows = way["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 10, "{way}");
    for row in rows {
        let samples = row["samples"].as_array().unwrap();
        assert!((3..=4).contains(&samples.len()), "{row}");
        assert!(samples.iter().all(|us| us.as_f64().is_some_and(|us| us > 0.0)), "{row}");
        assert!(row["numbers"]["awake, p50 µs"].as_f64().is_some_and(|us| us > 0.0), "{row}");
    }
    Ok(())
}

/// Whether they are in the program at hand; to step through a knock takes one that is optimised.
#[test]
fn an_order_of_functions_that_the_program_does_not_have_is_refused() -> Result {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("knock.ld");
    let check = |names: &[&str]| -> Result<(bool, String)> {
        let lines = names.iter().map(|name| format!("    *(.text.{name})\n"));
        std::fs::write(&script, lines.collect::<String>())?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_spa-bench"));
        let done = command.args(["order", "--check", "--script"]).arg(&script).output()?;
        let said = [done.stdout, done.stderr].concat();
        Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (true_of_it, said) = check(&["main", "_start"])?;
    assert!(true_of_it && said.contains("2 of 2"), "{said}");
    for names in [&["main", "another"][..], &[]] {
        let (true_of_it, said) = check(names)?;
        assert!(!true_of_it && said.contains("make order"), "{said}");
    }
    Ok(())
}
