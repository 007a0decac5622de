//! Numbers as they are written.

use std::cmp::Ordering;

/// Beyond it an exponent counts as this: nobody writes the number that it is.
const EXPONENT: i64 = 1 << 60;

/// A number of any size, exact: ±0.d₁d₂d₃… × 10^scale, with d₁ and the last digit not 0. Zero has no
/// digits.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'t> {
    negative: bool,
    /// Digits, perhaps with a point among them.
    digits: &'t [u8],
    count: i64,
    scale: i64,
}

impl<'t> Decimal<'t> {
    /// Reads a number that the parser of documents has let pass; of anything else it makes some number.
    pub fn read(text: &'t str) -> Decimal<'t> {
        let bytes = text.as_bytes();
        let (negative, bytes) = match bytes.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, bytes),
        };
        let end = bytes.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(bytes.len());
        let exponent = exponent(bytes.get(end + 1..).unwrap_or(&[]));
        let mantissa = &bytes[..end];
        let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(end);
        let zero = |b: &u8| matches!(b, b'0' | b'.');
        let first = match mantissa.iter().position(|b| !zero(b)) {
            Some(first) => first,
            None => return Decimal { negative: false, digits: &[], count: 0, scale: 0 },
        };
        let last = mantissa.iter().rposition(|b| !zero(b)).unwrap_or(first);
        let digits = &mantissa[first..=last];
        let count = digits.len() as i64 - i64::from(digits.contains(&b'.'));
        // Digits before the point count up, zeros behind it count down.
        let scale = point as i64 - first as i64 + i64::from(first > point) + exponent;
        Decimal { negative, digits, count, scale }
    }

    fn each(&self) -> impl Iterator<Item = u8> + 't {
        self.digits.iter().filter(|&&b| b != b'.').map(|b| b.wrapping_sub(b'0'))
    }

    /// Shows bytes that are the same for the same number.
    pub(crate) fn each_byte(&self, see: &mut impl FnMut(u8)) {
        see(u8::from(self.negative));
        self.scale.to_le_bytes().iter().for_each(|&byte| see(byte));
        self.each().for_each(see);
    }

    /// Whether it is a whole number, however it is written: 1.0 and 10e-1 are.
    pub fn is_integer(&self) -> bool {
        self.count <= self.scale
    }

    /// It as a count, if it is one and fits.
    pub fn count(&self) -> Option<u64> {
        if self.negative || !self.is_integer() || self.scale > 20 {
            return None;
        }
        let zeros = (self.scale - self.count) as usize;
        let mut digits = self.each().chain(std::iter::repeat(0).take(zeros));
        digits.try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit)))
    }

    /// Whether it is a whole multiple of `of`, which must not be zero and have at most 18 digits
    /// ([`Decimal::has_few_digits`]).
    pub fn is_multiple(&self, of: &Decimal<'_>) -> bool {
        if self.count == 0 {
            return true;
        }
        // Both as whole numbers without a last zero, and a power of ten.
        let power = (self.scale - self.count) - (of.scale - of.count);
        if power < 0 {
            return false; // a digit remains behind any multiple's last
        }
        let divisor = of.each().fold(0u64, |n, digit| n * 10 + u64::from(digit));
        let modulo = |n: u128| (n % u128::from(divisor)) as u64;
        let rest = self.each().fold(0u64, |rest, digit| modulo(u128::from(rest) * 10 + u128::from(digit)));
        let (mut base, mut factor, mut left) = (modulo(10), modulo(1), power);
        while left > 0 {
            if left & 1 == 1 {
                factor = modulo(u128::from(factor) * u128::from(base));
            }
            base = modulo(u128::from(base) * u128::from(base));
            left >>= 1;
        }
        modulo(u128::from(rest) * u128::from(factor)) == 0
    }

    /// Whether it has at most 18 digits between the first and the last that is not 0.
    pub fn has_few_digits(&self) -> bool {
        self.count <= 18
    }

    /// Whether it is 0 or below.
    pub fn is_at_most_zero(&self) -> bool {
        self.negative || self.count == 0
    }

    fn magnitude(&self, other: &Decimal<'_>) -> Ordering {
        match (self.count, other.count) {
            (0, 0) => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            _ => self.scale.cmp(&other.scale).then_with(|| self.each().cmp(other.each())),
        }
    }
}

fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let size = digits.iter().fold(0i64, |n, b| (n * 10 + i64::from(b.wrapping_sub(b'0'))).min(EXPONENT / 10));
    if negative {
        -size
    } else {
        size
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}
