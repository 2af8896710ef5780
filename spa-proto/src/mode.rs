//! Grant modes by name: what records, configuration and command lines say of
//! them. On the wire, [`Mode`] has the port as well (protocol §5.3).

use std::fmt;
use std::str::FromStr;

use crate::request::Mode;

/// How a grant can be used: [`Mode`] without `Default` and without the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantMode {
    /// Any number of new connections while it lasts.
    Window,
    /// One new connection.
    Once,
    /// One source port only.
    Bound,
}

impl GrantMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Window, Self::Once, Self::Bound];

    /// `window`, `once` or `bound`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Once => "once",
            Self::Bound => "bound",
        }
    }
}

impl Mode {
    /// Which one is asked for by name; `None` leaves it to the service.
    #[must_use]
    pub const fn named(self) -> Option<GrantMode> {
        match self {
            Self::Default => None,
            Self::Window => Some(GrantMode::Window),
            Self::Once => Some(GrantMode::Once),
            Self::Bound { .. } => Some(GrantMode::Bound),
        }
    }
}

impl fmt::Display for GrantMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GrantMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| InvalidMode(text.to_owned()))
    }
}

/// Text that is no [`GrantMode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMode(String);

impl fmt::Display for InvalidMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of window, once and bound", self.0)
    }
}

impl std::error::Error for InvalidMode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for mode in GrantMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for text in ["", "Window", "default", "once ", "bound:7"] {
            assert!(text.parse::<GrantMode>().is_err(), "{text:?}");
        }
    }
}
