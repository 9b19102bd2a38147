//! Binary floating-point numbers, kept by their bits, so that no print or parse on the way can move them.

use super::number::Number;
use super::scan::Malformed;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A 64-bit float, kept and compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Float(u64);

impl Float {
    /// Keeps the float's bits.
    pub fn from_f64(float: f64) -> Float {
        Float(float.to_bits())
    }

    /// Widens a 32-bit float; exact, its value is the same.
    pub fn from_f32(float: f32) -> Float {
        Float(f64::from(float).to_bits())
    }

    /// Reads a literal, `NaN`, `Infinity` or `-Infinity`.
    pub fn parse(text: &str) -> Result<Float, Malformed> {
        text.parse().map(Float::from_f64).map_err(|_| Malformed { expected: "a number such as 1.5e3" })
    }

    /// The float.
    pub fn to_f64(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// The nearest 32-bit float; may be an infinity.
    #[allow(clippy::cast_possible_truncation, reason = "`as` rounds to nearest, which is what is asked for")]
    pub fn nearest_f32(self) -> f32 {
        self.to_f64() as f32
    }

    /// Whether a 32-bit float holds it exactly.
    pub fn fits_f32(self) -> bool {
        self.to_f64().is_nan() || f64::from(self.nearest_f32()).to_bits() == self.0
    }

    /// Whether both are the same number: -0 is 0, and NaN is NaN.
    pub fn same_number(self, other: Float) -> bool {
        let (a, b) = (self.to_f64(), other.to_f64());
        self.0 == other.0 || a == b || (a.is_nan() && b.is_nan())
    }

    pub(crate) fn number(self) -> Number {
        Number::of_float(self.to_f64())
    }
}

impl fmt::Display for Float {
    /// The shortest text that reads back as the same float: `0.1`, `1e300`, `-0`, `NaN`, `Infinity`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let float = self.to_f64();
        let magnitude = float.abs();
        if float.is_infinite() {
            return f.write_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
        }
        if magnitude != 0.0 && !(1e-5..1e16).contains(&magnitude) && !float.is_nan() {
            return write!(f, "{float:e}");
        }
        write!(f, "{float}")
    }
}
