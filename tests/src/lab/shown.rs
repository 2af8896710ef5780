//! What a scenario needs and this machine does not have.

use std::env;

use super::error::{Result, fail};

/// Set to 1 where every scenario has to show something.
const SHOW_ALL: &str = "SPA_SHOW_ALL";

/// Says that the scenario at hand shows nothing, or less, and why.
///
/// # Errors
/// Where `SPA_SHOW_ALL` is 1: what is not shown there has failed.
pub fn not_shown(why: &str) -> Result {
    if env::var_os(SHOW_ALL).is_some_and(|value| value == "1") {
        return fail(format!("not shown, with {SHOW_ALL}=1: {why}"));
    }
    eprintln!("not shown: {why}");
    Ok(())
}
