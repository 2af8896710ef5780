//! The protocol of spa.
