use super::Job;
use serde::{Deserialize, Serialize};
use spa_tests::Result;
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receive {}
impl Job for Receive {
    const NAME: &'static str = "receive";
    type Outcome = ();
    fn work(self) -> Result<()> {
        Ok(())
    }
}
