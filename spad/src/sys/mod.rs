//! The only unsafe code of the daemon, one small file for each system interface.

#![allow(unsafe_code)]

pub(crate) mod memory;
pub(crate) mod nft;
pub mod ntp;
pub mod packet;
pub mod peer;
pub mod ready;
