//! How a token is handed over.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct TokenOptions {
    /// Show the token as a QR code, in place of the line
    #[arg(long)]
    pub(crate) qr: bool,

    /// Write it as a QR code into a new file that only you can read, in place of the line
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,

    /// The same as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Put the token under a passphrase, which is asked for: tell it by another way
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) passphrase: bool,

    /// The same, with the first line of a file, or of a pipe such as /dev/stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// As a JSON object, with the token's line in it
    #[arg(long, conflicts_with = "qr")]
    pub(crate) json: bool,
}

impl TokenOptions {
    /// Whether the token's line itself is to be printed.
    pub(crate) fn is_text(&self) -> bool {
        !self.qr && self.png.is_none() && self.svg.is_none()
    }
}
