//! The functions of a program, by their addresses.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::Pid;
use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

/// Address, length and name of each function, in the order of addresses.
pub(super) struct Symbols(Vec<(u64, u64, String)>);

impl Symbols {
    /// By `nm`, of binutils, which is there where something is linked.
    pub(super) fn of_program(path: &Path) -> Result<Self> {
        let said = Command::new("nm")
            .args(["--defined-only", "--print-size"])
            .arg(path)
            .output()
            .doing("nm")?;
        let symbols = Self::parse(&String::from_utf8(said.stdout)?);
        match symbols.0.is_empty() {
            false => Ok(symbols),
            true => fail(format!("{} names no functions", path.display())),
        }
    }

    /// Lines such as `00000000000d4170 000000000000036c t _ZN4spad5clock4wall17h492b568adb6aaf87E`.
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut number = || u64::from_str_radix(words.next()?, 16).ok();
            let (at, length) = (number()?, number()?);
            let is_code = words.next()?.eq_ignore_ascii_case("t");
            Some((at, length, words.next()?.to_owned())).filter(|_| is_code)
        };
        let mut all: Vec<_> = text.lines().filter_map(line).collect();
        all.sort();
        Self(all)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, _, name)| name.as_str())
    }

    /// The function that has this address in it; none of this program's where it is in a library.
    pub(super) fn at(&self, address: u64) -> Option<&str> {
        let after = self.0.partition_point(|(at, ..)| *at <= address);
        let (at, length, name) = self.0.get(after.checked_sub(1)?)?;
        (address - at < *length).then_some(name)
    }
}

/// Where a process has its program's first byte.
pub(super) fn begin(pid: Pid) -> Result<u64> {
    let (maps, exe) = (format!("/proc/{pid}/maps"), format!("/proc/{pid}/exe"));
    let text = fs::read_to_string(&maps).doing(&maps)?;
    let exe = fs::read_link(&exe).doing(&exe)?;
    let exe = exe.to_string_lossy();
    let line = text.lines().find(|line| line.ends_with(&*exe));
    let first = line.and_then(|line| line.split('-').next());
    first
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .map_or_else(|| fail(format!("{maps} does not have {exe}")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_function_that_has_it() {
        let text = "0000000000000020 0000000000000008 T second\n\
                    0000000000000010 0000000000000010 t first\n\
                    0000000000000018 0000000000000001 d data\n\
                    0000000000000040 T without_a_length\n                 U elsewhere\n";
        let symbols = Symbols::parse(text);
        assert_eq!(symbols.names().collect::<Vec<_>>(), ["first", "second"]);
        let of = [
            (0xf, None),
            (0x10, Some("first")),
            (0x1f, Some("first")),
            (0x20, Some("second")),
            (0x28, None),
            (0x99, None),
        ];
        for (address, name) in of {
            assert_eq!(symbols.at(address), name, "{address:#x}");
        }
    }

    #[test]
    fn this_program_has_functions_and_a_beginning() {
        let path = std::env::current_exe().unwrap();
        assert!(Symbols::of_program(&path).unwrap().names().any(|name| name == "main"));
        assert!(begin(Pid::this()).unwrap() > 0);
    }
}
