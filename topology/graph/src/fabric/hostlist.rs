//! Slurm's lists of names: `gpu[003-005,010],login1`, `rack[1-2]node[1-4]`.

use thiserror::Error;

/// Most names of a list.
const MOST: usize = 1 << 20;

/// Why a text is no list of names.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ListError {
    /// A bracket without its partner.
    #[error("`{0}`: a bracket without its partner")]
    Bracket(String),
    /// What stands between brackets is no list of numbers.
    #[error("`[{0}]`: expected numbers and ranges such as 1-3,7")]
    Numbers(String),
    /// There is no name between two commas.
    #[error("`{0}`: a comma without a name")]
    Empty(String),
    /// A name with a space in it.
    #[error("`{0}`: a space in a name")]
    Space(String),
    /// More names than any cluster has.
    #[error("`{0}`: more than 1048576 names")]
    TooMany(String),
}

/// The names of a list, in its order. Numbers keep their leading zeros; several brackets in a name multiply.
///
/// # Errors
///
/// The text is no list; the error has the part that is wrong.
pub fn expand(list: &str) -> Result<Vec<String>, ListError> {
    let mut names = Vec::new();
    for part in parts(list)? {
        if part.is_empty() {
            return Err(ListError::Empty(list.to_owned()));
        }
        if part.contains(char::is_whitespace) {
            return Err(ListError::Space(part.to_owned()));
        }
        let mut of_part = vec![String::new()];
        let mut rest = part;
        while let Some((before, after)) = rest.split_once('[') {
            let (inside, after) =
                after.split_once(']').ok_or_else(|| ListError::Bracket(part.to_owned()))?;
            let numbers = numbers(inside)?;
            let count = names.len().saturating_add(of_part.len().saturating_mul(numbers.len()));
            if count > MOST {
                return Err(ListError::TooMany(list.to_owned()));
            }
            let longer = |name: &String| {
                let name = format!("{name}{before}");
                numbers.iter().map(move |number| format!("{name}{number}"))
            };
            of_part = of_part.iter().flat_map(longer).collect();
            rest = after;
        }
        names.extend(of_part.into_iter().map(|name| name + rest));
    }
    Ok(names)
}

/// The parts between commas that stand in no bracket.
fn parts(list: &str) -> Result<Vec<&str>, ListError> {
    let mut inside = false;
    for c in list.chars() {
        if matches!(c, '[' | ']') {
            if inside == (c == '[') {
                return Err(ListError::Bracket(list.to_owned()));
            }
            inside = !inside;
        }
    }
    if inside {
        return Err(ListError::Bracket(list.to_owned()));
    }
    let mut inside = false;
    let split = |c: char| {
        inside = (inside || c == '[') && c != ']';
        c == ',' && !inside
    };
    Ok(list.split(split).map(str::trim).collect())
}

/// `001-003,7` written out.
fn numbers(inside: &str) -> Result<Vec<String>, ListError> {
    let wrong = || ListError::Numbers(inside.to_owned());
    let mut numbers = Vec::new();
    for part in inside.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| -> Result<usize, ListError> {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(wrong)
        };
        let (from, to, width) = (number(first)?, number(last)?, first.len());
        if to < from {
            return Err(wrong());
        }
        if numbers.len().saturating_add(to - from) >= MOST {
            return Err(ListError::TooMany(format!("[{inside}]")));
        }
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists() {
        for (list, expected) in [
            ("node7", "node7"),
            ("n[008-010]", "n008 n009 n010"),
            ("n[007,001-2],login", "n007 n001 n002 login"),
            (
                "rack[2-3]node[4-5].cluster,x",
                "rack2node4.cluster rack2node5.cluster rack3node4.cluster rack3node5.cluster x",
            ),
            ("[1101-1102]", "1101 1102"),
            ("a, b", "a b"),
        ] {
            assert_eq!(expand(list).unwrap().join(" "), expected);
        }
        for (list, expected) in [
            ("n[1-2", "`n[1-2`: a bracket without its partner"),
            ("n]1", "`n]1`: a bracket without its partner"),
            ("n[[1]]", "`n[[1]]`: a bracket without its partner"),
            ("n[]", "`[]`: expected numbers and ranges such as 1-3,7"),
            ("n[a-b]", "`[a-b]`: expected numbers and ranges such as 1-3,7"),
            ("n[3-1]", "`[3-1]`: expected numbers and ranges such as 1-3,7"),
            ("a,,b", "`a,,b`: a comma without a name"),
            ("", "``: a comma without a name"),
            ("a b", "`a b`: a space in a name"),
            ("n[0-99999999999]", "`[0-99999999999]`: more than 1048576 names"),
            ("a[1-2000]b[1-2000]", "`a[1-2000]b[1-2000]`: more than 1048576 names"),
        ] {
            assert_eq!(expand(list).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_not(list in "[n0-9,\\-\\[\\]]{0,20}") {
            let _ = expand(&list);
        }
    }
}
