//! The page, made out of figures (pure, but for reading and writing the files).

pub(crate) mod table;

use std::path::Path;

use spa_tests::Result;

pub(crate) fn write(_results: &Path, _page: &Path) -> Result {
    Ok(())
}
