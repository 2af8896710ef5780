//! Words beside an answer, on standard error.

use std::fmt;
use std::io::{self, Write};

/// As `eprintln!`; but that nobody listens is no error. What was asked for is done, and answered,
/// all the same.
#[macro_export]
macro_rules! note {
    ($($word:tt)*) => {
        $crate::note::note(::core::format_args!($($word)*))
    };
}

/// What [`note!`](crate::note!) stands for.
pub fn note(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
