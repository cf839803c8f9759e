//! Text inside of XML.

use std::fmt::Write;

/// Whether XML 1.0 can hold a character at all.
fn possible(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{1_0000}'..)
}

/// Whether a text can be an attribute's value as it is.
pub(super) fn is_plain(text: &str) -> bool {
    text.chars().all(possible)
}

/// Whether a text can be the name of an element or attribute.
pub(super) fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.starts_with(first) && text.chars().all(rest) && !text.starts_with("xml")
}

/// A text as an attribute's value or content. What XML cannot hold becomes U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Readers of attributes make spaces of these.
            '\t' | '\n' | '\r' => push(&mut escaped, format_args!("&#{};", u32::from(character))),
            other if possible(other) => escaped.push(other),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

/// A text in characters that XML can hold: a backslash is doubled, what is impossible becomes `\x` and its six
/// hexadecimal digits.
pub(super) fn wrap(text: &str) -> String {
    let mut wrapped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => wrapped.push_str("\\\\"),
            other if possible(other) => wrapped.push(other),
            other => push(&mut wrapped, format_args!("\\x{:06x}", u32::from(other))),
        }
    }
    wrapped
}

/// The text that was wrapped; none if this is no such text.
pub(super) fn unwrap(wrapped: &str) -> Option<String> {
    let mut text = String::with_capacity(wrapped.len());
    let mut rest = wrapped;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('\\') {
            text.push('\\');
            rest = after;
        } else {
            let after = after.strip_prefix('x')?;
            let code = u32::from_str_radix(after.get(..6)?, 16).ok()?;
            text.push(char::from_u32(code)?);
            rest = after.get(6..)?;
        }
    }
    text.push_str(rest);
    Some(text)
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes all that is written");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives(text: String) {
            let wrapped = wrap(&text);
            prop_assert!(is_plain(&wrapped));
            prop_assert_eq!(unwrap(&wrapped), Some(text));
            let xml = format!("<a b=\"{}\"/>", escape(&wrapped));
            let document = roxmltree::Document::parse(&xml).unwrap();
            prop_assert_eq!(document.root_element().attribute("b"), Some(&wrapped[..]));
        }

        #[test]
        fn any_text_is_unwrapped_or_refused(text: String) {
            let _ = unwrap(&text);
        }
    }

    #[test]
    fn names() {
        for good in ["a", "_b", "link_speed", "a-1.x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "a b", "a:b", "xmlns", "-a", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(unwrap("\\x00004"), None);
        assert_eq!(unwrap("\\q"), None);
    }
}
