//! What `dure perf --regret --json` wrote, as far as a fit needs it.

use dure::{Candidate, Collective, Rank};
use dure_topology::Cluster;
use serde::Deserialize;

/// A file.
#[derive(Debug, Deserialize)]
pub(super) struct Sweep {
    config: Config,
    ranks: Vec<Place>,
    regret: Option<Regret>,
}

#[derive(Debug, Deserialize)]
struct Config {
    collective: String,
}

#[derive(Debug, Deserialize)]
struct Place {
    hostname: String,
    transport: String,
}

#[derive(Debug, Deserialize)]
struct Regret {
    rows: Vec<Row>,
}

/// A size.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) size: u64,
    candidates: Vec<Timed>,
}

#[derive(Debug, Deserialize)]
struct Timed {
    algorithm: String,
    lanes: u16,
    #[serde(default)]
    by_fabric: bool,
    /// Microseconds.
    time: f64,
}

impl Sweep {
    /// Reads a file.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let sweep: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if sweep.rows().is_empty() {
            return Err("no rows of dure perf --regret".to_owned());
        }
        if sweep.ranks.len() < 2 {
            return Err("one rank alone has nothing to measure".to_owned());
        }
        let wrong = |row: &Row| {
            row.candidates.iter().any(|timed| !(timed.time.is_finite() && timed.time > 0.0))
        };
        match sweep.rows().iter().find(|row| wrong(row)) {
            Some(row) => Err(format!("size {}: a time that is not above 0", row.size)),
            None => Ok(sweep),
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        self.regret.as_ref().map_or(&[], |regret| &regret.rows)
    }

    /// Names of the transports that rank 0 reaches the others by.
    pub(super) fn transport(&self) -> &str {
        &self.ranks[1].transport
    }

    /// Where its ranks were, on hosts of so many cores.
    pub(super) fn cluster(&self, cores: u32) -> Cluster {
        let mut names: Vec<&str> = Vec::new();
        let mut host_of = Vec::new();
        for place in &self.ranks {
            let known = names.iter().position(|name| *name == place.hostname);
            let host = known.unwrap_or_else(|| {
                names.push(&place.hostname);
                names.len() - 1
            });
            host_of.push(u32::try_from(host).expect("there are no more hosts than ranks"));
        }
        Cluster::of_processors(&host_of, &vec![cores; names.len()], None)
    }

    /// Most lanes of a candidate.
    pub(super) fn lanes(&self) -> u16 {
        let lanes = self.rows().iter().flat_map(|row| &row.candidates).map(|timed| timed.lanes);
        lanes.max().unwrap_or(1)
    }

    /// What was measured.
    ///
    /// # Errors
    /// Names what is no collective.
    pub(super) fn collective(&self) -> Result<Collective, String> {
        let name = &self.config.collective;
        Collective::all(Rank(0))
            .into_iter()
            .find(|what| what.name() == name)
            .ok_or_else(|| format!("\"{name}\" is no collective"))
    }
}

impl Row {
    /// The candidates and their times, seconds.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (Candidate, f64)> {
        self.candidates.iter().map(|timed| {
            let Timed { algorithm, lanes, by_fabric, time } = timed;
            (
                Candidate { algorithm: algorithm.clone(), lanes: *lanes, by_fabric: *by_fabric },
                time / 1e6,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sweep_is_named() {
        let file = |rows: &str, ranks: &str| {
            format!(
                "{{\"config\":{{\"collective\":\"all-reduce\"}},\"ranks\":[{ranks}],\"regret\":{{\"rows\":[{rows}]}}}}"
            )
        };
        let rank = r#"{"hostname":"a","transport":"pool"}"#;
        let two = format!("{rank},{rank}");
        let row = |time: &str| {
            format!(r#"{{"size":8,"candidates":[{{"algorithm":"ring","lanes":1,"time":{time}}}]}}"#)
        };
        let sweep = Sweep::parse(&file(&row("2.5"), &two)).unwrap();
        assert_eq!(
            (sweep.transport(), sweep.lanes(), sweep.collective()),
            ("pool", 1, Ok(Collective::AllReduce))
        );
        assert_eq!(sweep.cluster(2).size(), 2);
        for (text, expected) in [
            ("{", "EOF"),
            (&file("", &two), "no rows"),
            (&file(&row("2.5"), rank), "one rank alone"),
            (&file(&row("0"), &two), "size 8: a time"),
        ] {
            let error = Sweep::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
