//! What the kernel knows of its clock's discipline.

use std::io;
use std::time::Duration;

use crate::clock::Discipline;

/// Asks for it; nothing is set.
///
/// # Errors
/// Where a filter of system calls forbids it.
pub fn discipline() -> io::Result<Discipline> {
    // SAFETY: `timex` is a plain structure of integers, for which zero is valid.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is live and of the kernel's size; with `modes` zero it is
    // only written to.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let micros = u64::try_from(timex.maxerror).unwrap_or(u64::MAX);
    let synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    Ok(Discipline { synchronised, max_error: Duration::from_micros(micros) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        let found = discipline().unwrap();
        assert!(found.max_error > Duration::ZERO);
        assert!(found.synchronised || found.max_error >= Duration::from_secs(1), "{found:?}");
    }
}
