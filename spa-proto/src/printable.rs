//! Whether a type can be printed, for tests that no secret can; the other crates'
//! tests have this file too.

use std::fmt::{Debug, Display};
use std::marker::PhantomData;

/// Answers by an inherent constant, which goes before a trait's where its bound holds.
pub(crate) struct Printable<T: ?Sized>(PhantomData<T>);

pub(crate) trait Otherwise {
    const DEBUG: bool = false;
    const DISPLAY: bool = false;
}

impl<T: ?Sized> Otherwise for Printable<T> {}

impl<T: Debug + ?Sized> Printable<T> {
    pub(crate) const DEBUG: bool = true;
}

impl<T: Display + ?Sized> Printable<T> {
    pub(crate) const DISPLAY: bool = true;
}

/// Asserts that none of these types can be printed, in either way.
macro_rules! assert_not_printable {
    ($($kind:ty),*) => {{
        use $crate::printable::{Otherwise as _, Printable};
        $(
            let both = (Printable::<$kind>::DEBUG, Printable::<$kind>::DISPLAY);
            assert_eq!(both, (false, false), "{}", stringify!($kind));
        )*
    }};
}
pub(crate) use assert_not_printable;

#[test]
fn the_question_can_be_answered() {
    struct Neither;
    assert_eq!((Printable::<u8>::DEBUG, Printable::<str>::DISPLAY), (true, true));
    assert_eq!((Printable::<Neither>::DEBUG, Printable::<Neither>::DISPLAY), (false, false));
}
