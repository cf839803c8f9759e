//! A fabric in a few lines of text, for those who have nothing else.
//!
//! ```text
//! # A comment, also at the end of a line.
//! switch leaf[1-4] up spine[1-2] 4x400     each leaf to each spine, with 4 cables of 400 Gb/s
//! host a[1-8] on leaf1 8x400               each host with 8 ports on one leaf
//! host b[1-8] on leaf[2-4] 400             each host with a port on each of three leaves: rails 0, 1 and 2
//! pool p[1-6] of a[1-3] 22.5               each pool device reached by three hosts, GB/s
//! ```
//!
//! Names may be Slurm's lists. Widths may be left out: then what is usual holds. A switch without `up` only names it.

use super::Warning;
use super::build::Builder;
use super::hostlist::expand;
use crate::{Graph, Kind, LinkKind, Node, NodeId};

/// Most cables that one line makes.
const MOST_CABLES: usize = 1 << 20;

/// Reads lines of text.
pub(super) fn read(text: &str) -> (Graph, Vec<Warning>) {
    let mut builder = Builder::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if let Err(what) = read_line(&mut builder, &words) {
            builder.warn(number, what);
        }
    }
    builder.finish()
}

/// One line; an error says what is wrong with it, and then nothing of it counts.
fn read_line(builder: &mut Builder, words: &[&str]) -> Result<(), String> {
    let (width, words) = match words {
        [before @ .., last] if before.len() == 4 => (Some(*last), before),
        _ => (None, words),
    };
    match *words {
        ["switch", names] if width.is_none() => {
            list(names)?.iter().for_each(|name| {
                builder.switch(name);
            });
            Ok(())
        }
        ["switch", names, "up", uppers] => {
            let (count, gb_per_s) = width.map_or(Ok((1, None)), cables)?;
            let (names, uppers) = (list(names)?, list(uppers)?);
            few([names.len(), uppers.len(), count])?;
            for name in &names {
                let lower = builder.switch(name);
                for upper in &uppers {
                    let upper = builder.switch(upper);
                    (0..count).for_each(|_| builder.cable(upper, lower, gb_per_s));
                }
            }
            Ok(())
        }
        ["host", names, "on", leaves] => {
            let (count, gb_per_s) = width.map_or(Ok((1, None)), cables)?;
            let (names, leaves) = (list(names)?, list(leaves)?);
            few([names.len(), leaves.len(), count])?;
            for name in &names {
                let host = builder.host(name);
                for leaf in &leaves {
                    (0..count).for_each(|_| port(builder, host, leaf, gb_per_s));
                }
            }
            Ok(())
        }
        ["pool", names, "of", hosts] => {
            let gb_per_s = width.map(number).transpose()?;
            let (names, hosts) = (list(names)?, list(hosts)?);
            few([names.len(), hosts.len(), 1])?;
            for name in &names {
                let pool = builder.add(None, Node::new(Kind::Pool, name));
                for host in &hosts {
                    let host = builder.host(host);
                    builder.join(pool, host, LinkKind::Cxl, gb_per_s);
                }
            }
            Ok(())
        }
        _ => Err("expected `switch NAMES [up NAMES [COUNTxGBPS]]`, `host NAMES on NAMES [COUNTxGBPS]` or \
                  `pool NAMES of NAMES [GBPERS]`"
            .to_owned()),
    }
}

fn list(names: &str) -> Result<Vec<String>, String> {
    expand(names).map_err(|error| error.to_string())
}

/// A port of a host, on a leaf.
fn port(builder: &mut Builder, host: NodeId, leaf: &str, gb_per_s: Option<f64>) {
    let port = builder.add(Some(host), Node::new(Kind::Port, format!("port on {leaf}")));
    let leaf = builder.switch(leaf);
    builder.join(host, port, LinkKind::Inside, None);
    builder.cable(leaf, port, gb_per_s);
}

fn few(counts: [usize; 3]) -> Result<(), String> {
    let cables = counts.iter().fold(1, |product: usize, count| product.saturating_mul(*count));
    if cables <= MOST_CABLES {
        Ok(())
    } else {
        Err(format!("{cables} cables in one line, at most {MOST_CABLES}"))
    }
}

/// `4x400`, or `400`: how many, and GB/s of each.
fn cables(width: &str) -> Result<(usize, Option<f64>), String> {
    let (count, gbps) = width.split_once('x').unwrap_or(("1", width));
    let count = count.parse().ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| format!("`{width}`: expected COUNTxGBPS such as 4x400"))?;
    Ok((count, Some(number(gbps)? / 8.0)))
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| format!("`{text}`: expected a number above 0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn switches_hosts_and_pools() {
        let (graph, warnings) = read(
            "switch leaf[1-2] up spine[1-3] 2x200 # two cables each\nhost a[1-4] on leaf1\n\
             host b on leaf[1-2] 400\npool p of a[1-2],b 30\n",
        );
        assert_eq!(warnings, []);
        let count = |kind| graph.nodes().filter(|(_, node)| node.kind == kind).count();
        assert_eq!([Kind::Switch, Kind::Host, Kind::Port, Kind::Pool].map(count), [5, 5, 6, 1]);
        let links = |kind, gb_per_s| {
            graph.links().filter(|(_, link)| link.kind == kind && link.gb_per_s == gb_per_s).count()
        };
        assert_eq!(links(LinkKind::Cable, 25.0), 12);
        assert_eq!(links(LinkKind::Cable, 50.0), 6);
        assert_eq!(links(LinkKind::Cxl, 30.0), 3);
    }

    #[test]
    fn lines_that_are_wrong_are_reported() {
        let (_, warnings) = read(
            "switch\nswitch a up b 0x3\nhost a[ on b\nhost a on b 3xfast\nhub a\npool p of a -1\n\
             host a[1-2000] on b[1-2000]\n",
        );
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 7);
        for (warning, expected) in warnings.iter().zip([
            "line 1: expected `switch NAMES [up NAMES [COUNTxGBPS]]`",
            "line 2: `0x3`: expected COUNTxGBPS such as 4x400",
            "line 3: `a[`: a bracket without its partner",
            "line 4: `fast`: expected a number above 0",
            "line 5: expected `switch",
            "line 6: `-1`: expected a number above 0",
            "line 7: 4000000 cables in one line, at most 1048576",
        ]) {
            assert!(warning.starts_with(expected), "{warning}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "(switch|host|pool) [ab1\\[\\]-]{0,5} (up|on|of) [ab]{1,2} [0-9x]{0,3}") {
            let _ = read(&line);
        }
    }
}
