//! A line as a QR code: for a terminal, as PNG, as SVG. Pure.

use std::fmt;

use qrcode::render::{svg, unicode::Dense1x2};
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules around a code (ISO/IEC 18004).
const QUIET: usize = 4;
/// Pixels of a module, each way.
const SCALE: usize = 8;
/// Black on white, whatever the terminal's own colours are.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const USUAL_COLOURS: &str = "\x1b[0m";

/// Why there is no code.
#[derive(Debug)]
pub(crate) enum QrError {
    /// The line is too long for the largest.
    TooLong,
    /// The image cannot be written.
    Png(png::EncodingError),
}

impl fmt::Display for QrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("a token for so many services does not go into a QR code"),
            Self::Png(error) => write!(f, "cannot make the PNG: {error}"),
        }
    }
}

/// A line as a QR code, with as little redundancy as there is: screens have no
/// scratches, and the code has to fit on one.
pub(crate) struct Qr(QrCode);

impl Qr {
    pub(crate) fn of(line: &str) -> Result<Self, QrError> {
        let code = QrCode::with_error_correction_level(line, EcLevel::L);
        code.map(Self).map_err(|_| QrError::TooLong)
    }

    /// How wide the code is in the characters of a terminal.
    pub(crate) fn columns(&self) -> usize {
        self.0.width() + 2 * QUIET
    }

    /// Two rows of modules in each line.
    pub(crate) fn to_terminal(&self) -> Zeroizing<String> {
        let picture = Zeroizing::new(self.0.render::<Dense1x2>().build());
        let mut text = Zeroizing::new(String::with_capacity(picture.len() * 2));
        for line in picture.lines() {
            [BLACK_ON_WHITE, line, USUAL_COLOURS, "\n"].into_iter().for_each(|s| text.push_str(s));
        }
        text
    }

    pub(crate) fn to_svg(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.render::<svg::Color<'_>>().build())
    }

    /// One bit a pixel, so that a module is a byte of each row.
    pub(crate) fn to_png(&self) -> Result<Zeroizing<Vec<u8>>, QrError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
        self.write_png(&mut bytes).map_err(QrError::Png)?;
        Ok(bytes)
    }

    fn write_png(&self, out: &mut Vec<u8>) -> Result<(), png::EncodingError> {
        let modules = self.columns();
        let side = u32::try_from(modules * SCALE).map_err(std::io::Error::other)?;
        let mut encoder = png::Encoder::new(out, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let rows = (0..modules).flat_map(|y| std::iter::repeat_n(y, SCALE));
        let pixels: Vec<u8> =
            rows.flat_map(|y| (0..modules).map(move |x| (x, y))).map(|at| self.light(at)).collect();
        let pixels = Zeroizing::new(pixels);
        encoder.write_header()?.write_image_data(&pixels)
    }

    /// A module's byte, the quiet zone's included.
    fn light(&self, (x, y): (usize, usize)) -> u8 {
        let inside = QUIET..QUIET + self.0.width();
        let is_dark = inside.contains(&x)
            && inside.contains(&y)
            && self.0[(x - QUIET, y - QUIET)] == Color::Dark;
        if is_dark { 0 } else { 0xff }
    }
}
