//! The page, made out of figures. Pure, but for reading and writing the files.

mod micro;
mod page;
mod plot;
mod reach;
pub(crate) mod table;

use std::fs;
use std::path::Path;

use spa_tests::Result;
use spa_tests::lab::Doing;

use crate::results::{Folder, Measured, Row};
use micro::Micro;

/// All that the page is made of; what was not measured is not there.
#[derive(Default)]
pub(crate) struct Figures {
    measured: Vec<(&'static str, Measured)>,
    micro: Micro,
}

/// Where the micro-benchmarks' output is, in the folder of results.
const MICRO: &str = "micro.txt";

impl Figures {
    fn read(results: &Path) -> Result<Self> {
        let folder = Folder::new(results);
        let mut measured = Vec::new();
        for (name, _) in crate::MEASUREMENTS {
            measured.extend(folder.read(name)?.map(|found| (name, found)));
        }
        // Errors: they need not have been run.
        let micro = fs::read_to_string(results.join(MICRO)).unwrap_or_default();
        Ok(Self { measured, micro: Micro::read(&micro) })
    }

    /// The rows of a measurement.
    fn rows(&self, measurement: &str) -> &[Row] {
        let found = self.measured.iter().find(|(name, _)| *name == measurement);
        found.map_or(&[], |(_, measured)| &measured.rows)
    }

    /// The row of this name.
    fn row(&self, measurement: &str, name: &str) -> Option<&Row> {
        self.rows(measurement).iter().find(|row| row.name == name)
    }

    /// A number of that row.
    fn number(&self, measurement: &str, name: &str, number: &str) -> Option<f64> {
        self.row(measurement, name)?.get(number)
    }

    /// The middle of that row's samples.
    fn median(&self, measurement: &str, name: &str) -> Option<f64> {
        self.row(measurement, name)?.percentile(0.5)
    }
}

/// Puts the figures into the page, and the plots beside it.
pub(crate) fn write(results: &Path, page: &Path) -> Result {
    let figures = Figures::read(results)?;
    let text = fs::read_to_string(page).doing(page.display())?;
    fs::write(page, page::filled(&text, &figures)?).doing(page.display())?;
    let folder = page.with_extension("");
    fs::create_dir_all(&folder)?;
    for (name, svg) in page::plots(&figures) {
        fs::write(folder.join(name), svg)?;
    }
    Ok(())
}
