//! One error for the whole lab: a text that says what was done and what came of it.

use std::fmt;

/// What went wrong, in words. `Debug` prints the same, so that a test that returns it is readable.
pub struct LabError(String);

/// What every fallible function of this crate returns.
pub type Result<T = ()> = std::result::Result<T, LabError>;

impl LabError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `LabError` is no `std::error::Error` itself: that is what allows this conversion from all others.
impl<E: std::error::Error> From<E> for LabError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// An error with this text, as a result of any type.
pub fn fail<T>(text: impl Into<String>) -> Result<T> {
    Err(LabError::new(text))
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    /// `what` is a phrase such as "starting sshd".
    fn doing(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<LabError>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| LabError::new(format!("{what}: {}", error.into())))
    }
}
