//! Sizes and ranges as people write them.

use std::ops::RangeInclusive;

/// Bytes as nccl-tests reads them: `8`, `64K`, `128M`, `1G`, also `KiB`, `MB` and the like; units are powers of 1024.
///
/// # Errors
/// Says what may be written.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("unknown unit \"{}\" (allowed: B, K, M, G, T)", unit.trim())),
    };
    let number: u64 = number.parse().map_err(|_| "not a size (as 8, 64K or 128M)".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// Bytes for people: `128 MiB`, `1.5 GiB`, `12 B`.
pub(crate) fn display(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.checked_ilog2().unwrap_or(0) / 10).min(4);
    let whole = bytes >> (10 * unit);
    let tenths = ((bytes - (whole << (10 * unit))) * 10) >> (10 * unit);
    let fraction = if tenths == 0 { String::new() } else { format!(".{tenths}") };
    format!("{whole}{fraction} {}", UNITS[unit as usize])
}

/// Numbers from `A..B` (both included), or from `A` alone; at least 1.
///
/// # Errors
/// Says what may be written.
pub(crate) fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let wrong = || format!("\"{text}\" is not A..B, with 1 <= A <= B");
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number =
        |text: &str| text.trim().trim_start_matches('=').parse::<u32>().map_err(|_| wrong());
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 || first > last { Err(wrong()) } else { Ok(first..=last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_in_nccl_tests() {
        assert_eq!(parse("8"), Ok(8));
        assert_eq!(parse("64K"), Ok(65_536));
        assert_eq!(parse("128M"), Ok(134_217_728));
        assert_eq!(parse("1g"), Ok(1 << 30));
        assert_eq!(parse("2 MiB"), Ok(2 << 20));
        for wrong in ["", "M", "8x", "-8", "1.5M", "99999999999T"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(display(0), "0 B");
        assert_eq!(display(1023), "1023 B");
        assert_eq!(display(128 << 20), "128 MiB");
        assert_eq!(display(3 << 29), "1.5 GiB");
    }

    #[test]
    fn ranges_include_both_ends() {
        assert_eq!(range("1..64"), Ok(1..=64));
        assert_eq!(range("2..=3"), Ok(2..=3));
        assert_eq!(range("5"), Ok(5..=5));
        for wrong in ["", "0..3", "4..3", "a..b", "1.."] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
