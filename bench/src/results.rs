//! What was measured, as values and as files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use spa_tests::Result;
use spa_tests::lab::Doing;

use crate::stats;

/// One thing that was measured: tries, and numbers beside them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What it was, such as `fwknop udp`.
    pub(crate) name: String,
    /// The unit of the samples.
    pub(crate) unit: String,
    /// One for each try that came to something.
    pub(crate) samples: Vec<f64>,
    /// Whatever else was counted, by name; the unit is in the name.
    pub(crate) numbers: BTreeMap<String, f64>,
}

impl Row {
    /// A row without samples.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The same with samples.
    pub(crate) fn samples(mut self, unit: &str, samples: Vec<f64>) -> Self {
        self.unit = unit.to_owned();
        self.samples = samples;
        self
    }

    /// The same with one more number.
    pub(crate) fn number(mut self, name: &str, value: f64) -> Self {
        self.numbers.insert(name.to_owned(), value);
        self
    }

    /// A number, if it was counted.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    /// What the share `p` of the samples does not exceed; `None` where they are too few to say
    /// what one of a hundred exceeds.
    pub(crate) fn percentile(&self, p: f64) -> Option<f64> {
        /// Two beyond it.
        const ENOUGH_FOR_P99: usize = 200;
        let enough = p < 0.99 || self.samples.len() >= ENOUGH_FOR_P99;
        enough.then(|| stats::percentile(&self.samples, p)).flatten()
    }
}

/// A measurement's rows, and where and when they were measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The machine.
    pub(crate) machine: Machine,
    /// What was found.
    pub(crate) rows: Vec<Row>,
}

/// What a figure depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// How many of them.
    pub(crate) cpus: usize,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// Load average of one minute, when the measurement had ended.
    pub(crate) load: String,
    /// What was measured.
    #[serde(default)]
    pub(crate) source: Source,
}

/// State of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its last commit, in short; empty where that is not known.
    pub(crate) commit: String,
    /// Whether something was changed after it, beside documents.
    pub(crate) changed: bool,
}

impl Source {
    /// Of the tree that this was built from.
    fn here() -> Self {
        let git = |arguments: &[&str]| {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
            let done = Command::new("git").args(["-C", root]).args(arguments).output().ok()?;
            done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
        };
        let changes = git(&["status", "--porcelain", "--", ".", ":!docs"]);
        Self {
            commit: git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default(),
            changed: changes.is_none_or(|changes| !changes.is_empty()),
        }
    }
}

impl Machine {
    /// The one that this runs on.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let mut models = processors.lines().filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            processor: models.next().unwrap_or_default(),
            cpus: 1 + models.count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            time: since.unwrap_or_default().as_secs(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            source: Source::here(),
        }
    }
}

/// The folder with a file for each measurement.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// It need not be there yet.
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Keeps what was measured, in place of what was there.
    pub(crate) fn write(&self, name: &str, rows: &[Row]) -> Result {
        fs::create_dir_all(&self.0).doing(format!("making {}", self.0.display()))?;
        let measured = Measured { machine: Machine::here(), rows: rows.to_vec() };
        let text = serde_json::to_string_pretty(&measured)?;
        let file = self.file(name);
        fs::write(&file, text).doing(format!("writing {}", file.display()))
    }

    /// What was measured last; `None` if it never was.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Measured>> {
        let file = self.file(name);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).doing(file.display())?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_a_hundred_exceeds_takes_two_hundred_tries() {
        let row = |tries| Row::new("spa").samples("µs", vec![1.0; tries]);
        assert_eq!([row(199).percentile(0.99), row(199).percentile(0.95)], [None, Some(1.0)]);
        assert_eq!(row(200).percentile(0.99), Some(1.0));
    }

    #[test]
    fn figures_of_before_sources_were_recorded_can_be_read() {
        let old = r#"{"processor":"","cpus":2,"kernel":"","time":1,"load":"0"}"#;
        let machine: Machine = serde_json::from_str(old).unwrap();
        assert_eq!(machine.source, Source::default());
        // Empty where the sources are no clone.
        assert!([0, 12].contains(&Machine::here().source.commit.len()));
    }
}
