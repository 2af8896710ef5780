//! Not there yet.

use spa_tests::Result;
use spa_tests::lab::fail;

use crate::Options;
use crate::results::Row;

pub(crate) fn run(_options: &Options) -> Result<Vec<Row>> {
    fail("this is not measured yet")
}
