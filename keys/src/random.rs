//! The operating system's randomness: the only place it comes in.

use std::fmt;

use zeroize::Zeroizing;

/// The operating system has no randomness to give.
#[derive(Clone, Copy, Debug)]
pub struct NoRandomness(getrandom::Error);

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operating system gives no random numbers: {}", self.0)
    }
}

impl std::error::Error for NoRandomness {}

/// `N` random bytes, fit for keys.
///
/// # Errors
/// [`NoRandomness`] where the operating system has none to give.
pub fn bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut out = Zeroizing::new([0; N]);
    getrandom::fill(out.as_mut_slice()).map_err(NoRandomness)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_twice_the_same() {
        let (one, other) = (bytes::<32>().unwrap(), bytes::<32>().unwrap());
        assert!(*one != *other);
    }
}
