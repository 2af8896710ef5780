//! `spad.toml`. What is accepted can be made a ruleset of, which can be encoded
//! for the kernel and read back.

use spad::config::Config;
use spad::firewall::Saved;

/// The input is the text. Through: it is a configuration.
pub fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let _ = Config::directories_in(text);
    match Config::parse(text) {
        Err((line, what)) => {
            let lines = text.split('\n').count();
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{line:?} of {lines}");
            assert!(!what.is_empty(), "refused without a word");
            false
        }
        Ok(config) => {
            accepted(&config);
            true
        }
    }
}

fn accepted(config: &Config) {
    assert!(!config.services.is_empty() && config.listen_port != 0);
    let ruleset = config.ruleset();
    assert!(ruleset.to_string().contains("inet spad"), "a ruleset of something else");
    let _ = config.attachment();
    let saved = Saved::of(&ruleset, config.options()).unwrap();
    assert!(Saved::from_bytes(&saved.to_bytes()) == Some(saved), "not kept as it is");
    for (name, service) in &config.services {
        assert!(
            !service.ports.is_empty() && service.lasting.ttl <= service.lasting.max_ttl,
            "{name}"
        );
    }
}
