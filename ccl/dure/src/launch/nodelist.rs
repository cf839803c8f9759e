//! Slurm's lists of hosts: `gpu[003-005,010],login1`.

/// The first host of a list; `None` when it is not one. Several brackets in a name multiply, as in `rack[1-2]node[1-4]`:
/// the first host takes the first number of each.
pub(super) fn first(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list.trim();
    while let Some(end) = rest.find(['[', ',']) {
        host.push_str(&rest[..end]);
        if rest[end..].starts_with(',') {
            return valid(host);
        }
        let (numbers, after) = rest[end + 1..].split_once(']')?;
        let number = numbers.split([',', '-']).next().filter(|number| !number.is_empty())?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        host.push_str(number);
        rest = after;
    }
    host.push_str(rest);
    valid(host)
}

fn valid(host: String) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(good)).then_some(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::first;

    #[test]
    fn first_host() {
        for (list, expected) in [
            ("node7", "node7"),
            ("n[001-003,007]", "n001"),
            ("n[007,001-003],login", "n007"),
            ("gpu-a,gpu-b", "gpu-a"),
            ("rack[2-3]node[04-08].cluster,x", "rack2node04.cluster"),
        ] {
            assert_eq!(first(list).as_deref(), Some(expected));
        }
        for list in ["", "n[1-2", "n[]", "n[a-b]", ",n1", "a b", "n]1"] {
            assert_eq!(first(list), None, "{list}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_not(list in "[n0-9,\\-\\[\\]]{0,20}") {
            let _ = first(&list);
        }
    }
}
