//! Links gcc's unwinder in, rather than have it loaded from `libgcc_s.so`: that
//! takes a tenth of a knock's time, and `spa` does not unwind. Where gcc is not
//! what links, or has no such library, nothing changes.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let native = env::var("TARGET").ok() == env::var("HOST").ok();
    let (true, true, Some(dir)) = (gnu, native, env::var_os("OUT_DIR").map(PathBuf::from)) else {
        return;
    };
    // The linker looks here first, and takes what is called so.
    if let Some(library) = unwinder()
        && fs::copy(library, dir.join("libgcc_s.a")).is_ok()
    {
        println!("cargo:rustc-link-search=native={}", dir.display());
    }
}

/// Where gcc has it.
fn unwinder() -> Option<PathBuf> {
    let asked = Command::new("gcc").arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim_end());
    path.is_absolute().then_some(path)
}
