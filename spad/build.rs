//! Has the linker put what a knock runs next to each other (`knock.ld`), in programs that are
//! optimised. Where another linker was chosen than those that know such scripts (lld and GNU
//! ld), nothing changes.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=knock.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if !linux || is("OPT_LEVEL", "0") || !knows_scripts() {
        return;
    }
    if let Ok(dir) = env::var("CARGO_MANIFEST_DIR") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{dir}/knock.ld");
    }
}

fn knows_scripts() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let chosen = flags.split("fuse-ld=").skip(1);
    chosen.into_iter().all(|rest| rest.starts_with("lld") || rest.starts_with("bfd"))
}
