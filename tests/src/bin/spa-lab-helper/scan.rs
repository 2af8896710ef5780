//! Looks for bytes in the memory of another process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use spa_tests::Result;
use spa_tests::lab::{Doing, fail};

/// How many bytes are read at once.
const CHUNK: usize = 1 << 20;
/// By how much chunks overlap: no needle is longer.
const LONGEST: usize = 64;

/// Reads needles from standard input, one a line, in hexadecimal; prints how often each is found
/// in memory that the process can read, in the same order.
pub(crate) fn memory(pid: u32) -> Result {
    let needles =
        io::stdin().lock().lines().map(|line| parse(&line?)).collect::<Result<Vec<_>>>()?;
    let mut search = Search::new(&needles);
    let memory = File::open(format!("/proc/{pid}/mem")).doing("opening its memory")?;
    for range in readable(&fs::read_to_string(format!("/proc/{pid}/maps"))?) {
        search.read(&memory, range);
    }
    if search.bytes == 0 {
        return fail("no memory could be read");
    }
    search.found.iter().for_each(|count| println!("{count}"));
    Ok(())
}

/// Address ranges that can be read.
fn readable(maps: &str) -> Vec<Range<u64>> {
    let lines = maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        words.next()?.starts_with('r').then_some(number(start)?..number(end)?)
    });
    lines.collect()
}

struct Search<'a> {
    needles: &'a [Vec<u8>],
    /// Which needles begin with these two bytes.
    starts: HashMap<[u8; 2], Vec<usize>>,
    /// The same, for a quick no.
    possible: Vec<bool>,
    found: Vec<u64>,
    bytes: u64,
}

impl<'a> Search<'a> {
    fn new(needles: &'a [Vec<u8>]) -> Self {
        let mut starts: HashMap<_, Vec<_>> = HashMap::new();
        let mut possible = vec![false; 1 << 16];
        for (at, needle) in needles.iter().enumerate() {
            starts.entry([needle[0], needle[1]]).or_default().push(at);
            possible[index(needle[0], needle[1])] = true;
        }
        Self { needles, starts, possible, found: vec![0; needles.len()], bytes: 0 }
    }

    /// Reads what can be read of a range: the kernel's own pages in it cannot.
    fn read(&mut self, memory: &File, range: Range<u64>) {
        let mut chunk = vec![0; CHUNK + LONGEST];
        for start in range.clone().step_by(CHUNK) {
            let left = usize::try_from(range.end - start).unwrap_or(usize::MAX);
            let part = left.min(chunk.len());
            let Ok(count) = memory.read_at(&mut chunk[..part], start) else { return };
            self.bytes += u64::try_from(count).unwrap_or(u64::MAX);
            self.look(&chunk[..count]);
        }
    }

    /// Counts needles that begin in the chunk itself, not in what the next begins with.
    fn look(&mut self, chunk: &[u8]) {
        for (at, pair) in chunk.windows(2).enumerate().take(CHUNK) {
            if !self.possible[index(pair[0], pair[1])] {
                continue;
            }
            for needle in self.starts.get(pair).into_iter().flatten() {
                if chunk[at..].starts_with(&self.needles[*needle]) {
                    self.found[*needle] += 1;
                }
            }
        }
    }
}

fn index(one: u8, other: u8) -> usize {
    usize::from(one) << 8 | usize::from(other)
}

fn parse(line: &str) -> Result<Vec<u8>> {
    let byte = |at| u8::from_str_radix(line.get(at..at + 2).unwrap_or_default(), 16);
    let bytes = (0..line.len()).step_by(2).map(byte).collect::<std::result::Result<Vec<_>, _>>()?;
    if (8..=LONGEST).contains(&bytes.len()) { Ok(bytes) } else { fail("8 to 64 bytes a line") }
}
