//! Several things at once, where each mostly waits.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// As many as wait at the same time.
const MOST: usize = 16;

/// Does `act` with every item, and gives what comes of it in the order of the
/// items. Where no more threads can be had, it takes longer.
pub(crate) fn each<T: Send, R: Send>(items: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let helpers = items.len().min(MOST).saturating_sub(1);
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let done = std::iter::from_fn(|| next().map(|(at, item)| (at, act(item))));
        done.collect::<Vec<_>>()
    };
    let mut done = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (0..helpers).filter_map(start).collect();
        let mut done = work();
        helpers.into_iter().for_each(|helper| done.extend(helper.join().unwrap_or_default()));
        done
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn all_are_done_at_once_and_told_in_order() {
        let (begun, deadline) = (AtomicUsize::new(0), Instant::now() + Duration::from_secs(20));
        let doubled = each((0..MOST).collect(), |number| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < MOST && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(begun.load(Ordering::SeqCst), MOST, "all have begun before any ends");
            2 * number
        });
        assert_eq!(doubled, (0..MOST).map(|number| 2 * number).collect::<Vec<_>>());
        assert_eq!(each((0..100).collect(), |number: u32| number).len(), 100);
        assert!(each(Vec::new(), |(): ()| ()).is_empty());
    }
}
