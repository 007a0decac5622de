//! Strings: escapes read and written.

/// Reads the escape that `bytes` begin with. Returns its character and its length in bytes.
pub(crate) fn escape(bytes: &[u8]) -> Result<(char, usize), &'static str> {
    let simple = match bytes.get(1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = hexadecimal(bytes)?;
            if !(0xd800..0xe000).contains(&first) {
                return Ok((char::from_u32(first).expect("it is no surrogate"), 6));
            }
            let half = "half of a surrogate pair";
            if first >= 0xdc00 || bytes.get(6) != Some(&b'\\') || bytes.get(7) != Some(&b'u') {
                return Err(half);
            }
            let second = hexadecimal(&bytes[6..])?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(half);
            }
            let scalar = 0x10000 + ((first - 0xd800) << 10 | (second - 0xdc00));
            return Ok((char::from_u32(scalar).expect("pairs make characters"), 12));
        }
        _ => return Err("an escape that JSON has not"),
    };
    Ok((simple, 2))
}

/// The four digits behind `\u`.
fn hexadecimal(bytes: &[u8]) -> Result<u32, &'static str> {
    let mut number = 0;
    for i in 2..6 {
        let digit = bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        number = number << 4 | digit.ok_or("\\u without four hexadecimal digits")?;
    }
    Ok(number)
}

/// The text of a string that the parser has let pass, without its quotes.
pub(crate) fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (character, length) = escape(&rest.as_bytes()[at..]).expect("it was parsed");
        out.push(character);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

/// Writes a text as a string of JSON.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1f => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..i]);
        plain = i + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}
