//! Has the linker put what a knock runs next to each other (`knock.ld`), where `packaging/release`
//! asks for it. lld and GNU ld know such scripts; whoever builds with another linker is not to be
//! stopped by this.

use std::env;

/// Set by who wants it so.
const ASKED: &str = "SPA_LINK_ORDER";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=knock.ld");
    println!("cargo::rerun-if-env-changed={ASKED}");
    if env::var_os(ASKED).is_some()
        && let Ok(dir) = env::var("CARGO_MANIFEST_DIR")
    {
        println!("cargo::rustc-link-arg-bins=-T{dir}/knock.ld");
    }
}
