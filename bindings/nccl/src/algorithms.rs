//! `NCCL_ALGO`, as `DURE_ALGO` has it.

/// Collectives for which NCCL chooses an algorithm, and what its ring and its tree are called here for them.
const COLLECTIVES: [(&str, &str, Option<&str>); 5] = [
    ("allreduce", "ring", Some("double-binary-tree")),
    ("allgather", "ring", None),
    ("reducescatter", "ring", None),
    ("broadcast", "chain", None),
    ("reduce", "chain", None),
];

/// Algorithms that use a GPU's wires or a switch's adders.
const OF_HARDWARE: [&str; 5] = ["collnetdirect", "collnetchain", "nvls", "nvlstree", "pat"];

/// What may be written.
const ALLOWED: &str = "a list of Ring, Tree; with ^ in front all but these; for one collective as allreduce:Ring, several \
    separated by semicolons";

/// Rules for algorithms: empty when they rule out nothing that there is.
///
/// A list for all collectives says nothing of those for which NCCL has none of its algorithms.
///
/// # Errors
/// The text says what is wrong, and what is allowed.
pub(crate) fn translate(text: &str) -> Result<String, String> {
    let mut rules = Vec::new();
    for rule in text.split(';').map(str::trim).filter(|rule| !rule.is_empty()) {
        let (only, list) = match rule.split_once(':') {
            Some((collective, list)) => (Some(known(collective)?), list.trim()),
            None => (None, rule),
        };
        let (exclude, names) = list.strip_prefix('^').map_or(("", list), |rest| ("^", rest));
        let names: Vec<String> =
            names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        let applied: Vec<String> = COLLECTIVES
            .iter()
            .filter(|(collective, ..)| only.is_none_or(|only| only == *collective))
            .filter_map(|row| rule_for(row, exclude, &names).transpose())
            .collect::<Result<_, String>>()?;
        if applied.is_empty() && exclude.is_empty() {
            return Err(format!("nothing of \"{rule}\" is here (allowed: {ALLOWED})"));
        }
        rules.extend(applied);
    }
    Ok(rules.join(";"))
}

fn known(collective: &str) -> Result<&'static str, String> {
    let plain = collective.trim().to_ascii_lowercase();
    let names = COLLECTIVES.map(|(name, ..)| name);
    names.into_iter().find(|name| *name == plain).ok_or_else(|| {
        format!("unknown collective \"{collective}\" (allowed: {})", names.join(", "))
    })
}

/// The rule for one collective; `None` where a list names nothing that is here.
fn rule_for(
    (collective, ring, tree): &(&str, &str, Option<&str>),
    exclude: &str,
    names: &[String],
) -> Result<Option<String>, String> {
    let mut ours = Vec::new();
    for name in names {
        match name.as_str() {
            "ring" => ours.push(*ring),
            "tree" => ours.extend(*tree),
            name if OF_HARDWARE.contains(&name) => {}
            name => return Err(format!("unknown name \"{name}\" (allowed: {ALLOWED})")),
        }
    }
    Ok((!ours.is_empty()).then(|| format!("{collective}:{exclude}{}", ours.join(","))))
}

#[cfg(test)]
mod tests {
    use dure::Config;

    use super::*;

    #[test]
    fn a_list_is_for_the_collectives_that_nccl_chooses_for() {
        assert_eq!(translate("Tree").unwrap(), "allreduce:double-binary-tree");
        assert_eq!(
            translate("ring,NVLS").unwrap(),
            "allreduce:ring;allgather:ring;reducescatter:ring;broadcast:chain;reduce:chain"
        );
        assert_eq!(translate("^tree").unwrap(), "allreduce:^double-binary-tree");
        assert_eq!(translate("^NVLS,PAT").unwrap(), "");
    }

    #[test]
    fn rules_for_one_collective() {
        assert_eq!(
            translate("allreduce:tree,ring; Broadcast:^ring").unwrap(),
            "allreduce:double-binary-tree,ring;broadcast:^chain"
        );
    }

    #[test]
    fn what_is_written_is_understood() {
        for text in ["Tree", "Ring", "^tree", "allreduce:tree,ring;reduce:ring"] {
            let rules = translate(text).unwrap();
            assert!(Config::from_pairs([("DURE_ALGO", &rules)]).is_ok(), "{rules}");
        }
    }

    #[test]
    fn wrong_rules_name_the_culprit() {
        for (text, expected) in [
            ("rnig", "unknown name \"rnig\" (allowed: a list of Ring"),
            ("alltoall:ring", "unknown collective \"alltoall\" (allowed: allreduce,"),
            ("NVLS", "nothing of \"NVLS\" is here (allowed: a list of Ring"),
            ("broadcast:tree", "nothing of \"broadcast:tree\" is here"),
        ] {
            let error = translate(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
