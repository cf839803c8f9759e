//! The tables of docs/algorithms.md say what the verifier counts.

use std::collections::BTreeSet;

use dure_plan::{Algorithm, Collective, Proof, Rank, Shape, World, algorithms, find, verify};

const ROOT: Rank = Rank(0);

const ALL: [Collective; 9] = Collective::all(ROOT);

/// One row of a table, under the heading of its collective.
struct Row {
    what: Collective,
    name: String,
    cells: Vec<String>,
}

fn rows() -> Vec<Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/algorithms.md");
    let text = std::fs::read_to_string(path).expect("the tables are in the repository");
    let mut what = None;
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            what = ALL.into_iter().find(|what| what.name() == heading);
        }
        let (Some(what), Some(row)) = (what, line.strip_prefix("| `")) else { continue };
        let mut cells = row.split('|').map(|cell| cell.trim().to_owned());
        let name = cells.next().expect("a row has cells").trim_end_matches('`').to_owned();
        rows.push(Row { what, name, cells: cells.collect() });
    }
    rows
}

/// Hosts and ranks of each.
type Size = (u32, u32);

fn sizes(name: &str) -> Vec<Size> {
    if name.starts_with("two-level") {
        let all = (2..=9).flat_map(|hosts| (2..=5).map(move |each| (hosts, each)));
        return all.chain([(2, 16), (16, 2)]).collect();
    }
    (2..=20).chain([31, 32, 33]).map(|n| (1, n)).collect()
}

/// With three lanes, so that what depends on the lane shows.
fn world((hosts, each): Size) -> World {
    let host_of = (0..hosts * each).map(|rank| rank / each).collect();
    World { ranks: hosts * each, host_of, lanes: 3 }
}

/// A formula of a table: sums, products and functions of `n`, `h` and `a`.
struct Formula<'t> {
    rest: &'t str,
    size: Size,
}

impl Formula<'_> {
    fn value(text: &str, size: Size) -> f64 {
        let mut formula = Formula { rest: text, size };
        let value = formula.sum();
        assert!(formula.rest.is_empty(), "`{}` of `{text}` is no formula", formula.rest);
        value
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    fn sum(&mut self) -> f64 {
        let mut value = self.product();
        loop {
            if self.take("+") {
                value += self.product();
            } else if self.take("-") {
                value -= self.product();
            } else {
                return value;
            }
        }
    }

    fn product(&mut self) -> f64 {
        let mut value = self.factor();
        loop {
            if self.take("*") {
                value *= self.factor();
            } else if self.take("/") {
                value /= self.factor();
            } else {
                return value;
            }
        }
    }

    fn factor(&mut self) -> f64 {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let of = |value: u32| f64::from(value);
        let (hosts, each) = self.size;
        match word {
            "n" => return of(hosts * each),
            "h" => return of(hosts),
            "a" => return of(each),
            "" | "lg" | "fl" | "pow" | "odd" | "ceil" => {}
            number => return number.parse().unwrap_or_else(|_| panic!("`{number}` is no number")),
        }
        assert!(self.take("("), "`{}` is no formula", self.rest);
        let inner = self.sum();
        assert!(self.take(")"), "`{}` is no formula", self.rest);
        let logarithm = inner.log2();
        match word {
            "lg" => logarithm.ceil(),
            "fl" => logarithm.floor(),
            "pow" => logarithm.floor().exp2(),
            "odd" => logarithm.ceil() - logarithm.floor(),
            "ceil" => inner.ceil(),
            _ => inner,
        }
    }
}

/// Whether a cell says a value.
fn says(cell: &str, size: Size, value: f64) -> bool {
    match cell.strip_prefix("at most ") {
        Some(formula) => value <= Formula::value(formula, size) + 1e-9,
        None => (value - Formula::value(cell, size)).abs() < 1e-9,
    }
}

fn check(row: &Row, by: &dyn Algorithm, size: Size) -> Proof {
    let world = world(size);
    let proof = verify(row.what, &world, by, 1).unwrap_or_else(|flaw| panic!("{flaw}"));
    let Shape { parts, scratch, .. } = by.shape(row.what, &world);
    let values = [
        ("rounds", f64::from(proof.rounds)),
        ("messages", f64::from(proof.most_messages)),
        ("data", f64::from(proof.most_chunks) / f64::from(parts)),
        ("scratch", f64::from(scratch)),
        ("edges", f64::from(proof.most_edges)),
    ];
    for ((column, value), cell) in values.into_iter().zip(&row.cells) {
        let of = format!("{} as {}", row.name, row.what);
        assert!(
            says(cell, size, value),
            "{of}, (h, a) = {size:?}: {column} is {value}, not {cell}"
        );
    }
    proof
}

#[test]
fn every_row_says_what_the_verifier_counts() {
    for row in rows() {
        let by = find(row.what, &row.name).unwrap_or_else(|| panic!("there is no {}", row.name));
        // Where its nature forbids it, an algorithm refuses a number of ranks.
        let served =
            sizes(&row.name).into_iter().filter(|s| by.serves(row.what, &world(*s)).is_ok());
        let proofs: Vec<Proof> = served.map(|size| check(&row, by, size)).collect();
        assert!(proofs.len() > 1, "{} as {} serves hardly anywhere", row.name, row.what);
        let yes = |column: usize| match row.cells[column].as_str() {
            "yes" => true,
            "no" => false,
            other => panic!("`{other}` is neither yes nor no"),
        };
        let of = format!("{} as {}", row.name, row.what);
        assert_eq!(proofs.iter().all(|proof| proof.bit_equal), yes(5), "{of}: equal");
        assert_eq!(proofs.iter().all(|proof| proof.uniform), yes(6), "{of}: uniform");
        assert_eq!(by.ragged(row.what), yes(7), "{of}: ragged");
    }
}

#[test]
fn every_algorithm_has_its_row() {
    let in_table: BTreeSet<_> = rows().into_iter().map(|row| (row.what.name(), row.name)).collect();
    let world = world((2, 2));
    let in_list: BTreeSet<_> = ALL
        .into_iter()
        .flat_map(|what| algorithms().iter().map(move |by| (what, by)))
        .filter(|(what, by)| by.serves(*what, &world).is_ok())
        .map(|(what, by)| (what.name(), by.name().to_owned()))
        .collect();
    assert_eq!(in_table, in_list);
}

#[test]
fn formulas_are_computed() {
    let value = |text| Formula::value(text, (3, 4));
    assert_eq!(value("2*(n-1)/n+odd(h)"), 2.0 * 11.0 / 12.0 + 1.0);
    assert_eq!(value("lg(n)*fl(n)+pow(n)-ceil(h/2)"), 12.0 + 8.0 - 2.0);
    assert!(says("at most a", (3, 4), 3.0) && !says("a", (3, 4), 3.0));
}
