//! Reads measured times: one row for each algorithm in each cell.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;
use dure_plan::{Collective, Rank};

use crate::output::Failure;

/// What times are compared within: the same operation, on the same machine, in the same library.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) system: String,
    pub(super) ranks: u32,
    pub(super) tasks_per_node: u32,
    pub(super) collective: String,
    pub(super) mpi: String,
    pub(super) memory: String,
    /// Of the whole vector: the larger of a rank's input and output.
    pub(super) bytes: u64,
}

impl fmt::Display for Key {
    /// As in the file, with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, ranks, tasks_per_node, collective, mpi, memory, bytes } = self;
        write!(f, "{system},{ranks},{tasks_per_node},{collective},{mpi},{memory},{bytes}")
    }
}

impl Key {
    /// Which half of a file the cell is in: the FNV-1a hash (64 bits; Fowler, Noll and Vo) of the key's text is even.
    pub(super) fn is_even(&self) -> bool {
        fnv1a(self.to_string().as_bytes()).is_multiple_of(2)
    }

    /// The collective of that name, if Dure has it.
    pub(super) fn what(&self) -> Option<Collective> {
        let root = Rank(0);
        Some(match self.collective.as_str() {
            "ALLREDUCE" => Collective::AllReduce,
            "ALLGATHER" => Collective::AllGather,
            "REDUCE_SCATTER" => Collective::ReduceScatter,
            "ALLTOALL" => Collective::AllToAll,
            "BCAST" => Collective::Broadcast { root },
            "REDUCE" => Collective::Reduce { root },
            "GATHER" => Collective::Gather { root },
            "SCATTER" => Collective::Scatter { root },
            _ => return None,
        })
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A row of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) key: Key,
    /// The name that the file has for it.
    pub(super) algorithm: String,
    /// Median over the iterations of the slowest rank's time.
    pub(super) seconds: f64,
}

/// The columns that are read, in the order of [`Row`].
const COLUMNS: [&str; 9] = [
    "system",
    "ranks",
    "tasks_per_node",
    "collective",
    "mpi",
    "memory",
    "bytes",
    "algorithm",
    "median_us",
];

/// Reads a file: comma-separated, with a line of column names in any order; lines that begin with `#` are comments.
///
/// # Errors
///
/// A file that cannot be read, has no such columns, or whose numbers are none: with line and column.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, Failure> {
    let file = File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Failure::Usage(format!("{}: no such file", path.display())),
        _ => Failure::system(path.display().to_string(), source),
    })?;
    parse(file).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn parse(input: impl Read) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(input);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let places = places(&header)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(row(&record.map_err(|error| error.to_string())?, places)?);
    }
    if rows.is_empty() {
        return Err("no measurements".to_owned());
    }
    Ok(rows)
}

/// Where each of [`COLUMNS`] is.
fn places(header: &StringRecord) -> Result<[usize; COLUMNS.len()], String> {
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        *place = header.iter().position(|column| column.trim() == name).ok_or_else(|| {
            let columns: Vec<_> = header.iter().collect();
            format!(
                "no column {name} (needed: {}; there: {})",
                COLUMNS.join(", "),
                columns.join(", ")
            )
        })?;
    }
    Ok(places)
}

fn row(record: &StringRecord, places: [usize; COLUMNS.len()]) -> Result<Row, String> {
    let cell = Cells { record, places };
    Ok(Row {
        key: Key {
            system: cell.name(0)?,
            ranks: cell.number(1, "a whole number from 1 to 1000000", |ranks| {
                (1..=1_000_000).contains(ranks)
            })?,
            tasks_per_node: cell
                .number(2, "a whole number from 1 to 1024", |tasks| (1..=1024).contains(tasks))?,
            collective: cell.name(3)?,
            mpi: cell.name(4)?,
            memory: cell.name(5)?,
            bytes: cell.number(6, "a whole number from 0", |_| true)?,
        },
        algorithm: cell.name(7)?,
        seconds: cell.number(8, "microseconds from 0", |us: &f64| us.is_finite() && *us >= 0.0)?
            / 1e6,
    })
}

/// The cells of a row, by their place in [`COLUMNS`].
struct Cells<'a> {
    record: &'a StringRecord,
    places: [usize; COLUMNS.len()],
}

impl Cells<'_> {
    fn text(&self, column: usize) -> &str {
        self.record.get(self.places[column]).unwrap_or_default().trim()
    }

    fn wrong(&self, column: usize, allowed: &str) -> String {
        let line = self.record.position().map_or(0, csv::Position::line);
        let (name, text) = (COLUMNS[column], self.text(column));
        format!("line {line}, column {name}: {text:?} (allowed: {allowed})")
    }

    fn name(&self, column: usize) -> Result<String, String> {
        match self.text(column) {
            "" => Err(self.wrong(column, "a name")),
            name => Ok(name.to_owned()),
        }
    }

    fn number<T: FromStr>(
        &self,
        column: usize,
        allowed: &str,
        fits: impl Fn(&T) -> bool,
    ) -> Result<T, String> {
        let number = self.text(column).parse().ok().filter(fits);
        number.ok_or_else(|| self.wrong(column, allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# where from\nsystem,nodes,ranks,tasks_per_node,collective,mpi,memory,\
                          algorithm,bytes,iters,median_us,min_us,p90_us,run\n";

    fn of(line: &str) -> Result<Vec<Row>, String> {
        parse(format!("{HEADER}{line}\n").as_bytes())
    }

    fn key() -> Key {
        Key {
            system: "lumi".to_owned(),
            ranks: 16,
            tasks_per_node: 2,
            collective: "ALLREDUCE".to_owned(),
            mpi: "CRAY_MPICH".to_owned(),
            memory: "host".to_owned(),
            bytes: 32,
        }
    }

    #[test]
    fn a_row_is_read() {
        let rows =
            of("lumi,8,16,2,ALLREDUCE,CRAY_MPICH,host,ring_over,32,100,12.5,11,13,now").unwrap();
        let row = Row { key: key(), algorithm: "ring_over".to_owned(), seconds: 12.5e-6 };
        assert_eq!(rows, [row]);
        assert_eq!(rows[0].key.to_string(), "lumi,16,2,ALLREDUCE,CRAY_MPICH,host,32");
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let text = "median_us,algorithm,bytes,memory,mpi,collective,tasks_per_node,ranks,system\n\
                    12.5,ring_over,32,host,CRAY_MPICH,ALLREDUCE,2,16,lumi\n";
        assert_eq!(parse(text.as_bytes()).unwrap()[0].key, key());
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_column() {
        let tail = "ring_over,32,100,12.5,11,13,now";
        let wrong = [
            (format!("lumi,8,zero,2,ALLREDUCE,CRAY,host,{tail}"), "line 3, column ranks: \"zero\""),
            (
                format!("lumi,8,0,2,ALLREDUCE,CRAY,host,{tail}"),
                "column ranks: \"0\" (allowed: a whole",
            ),
            (format!("lumi,8,16,0,ALLREDUCE,CRAY,host,{tail}"), "column tasks_per_node"),
            (
                format!(",8,16,2,ALLREDUCE,CRAY,host,{tail}"),
                "column system: \"\" (allowed: a name)",
            ),
            ("lumi,8,16,2,A,C,host,x,-1,1,1,1,1,now".to_owned(), "column bytes: \"-1\""),
            ("lumi,8,16,2,A,C,host,x,1,1,inf,1,1,now".to_owned(), "column median_us: \"inf\""),
            ("lumi,8,16".to_owned(), "line: 3"),
        ];
        for (line, text) in wrong {
            let error = of(&line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
        assert_eq!(parse(HEADER.as_bytes()).unwrap_err(), "no measurements");
        let error = parse("system,ranks\nlumi,2\n".as_bytes()).unwrap_err();
        assert!(
            error.contains("no column tasks_per_node") && error.contains("there: system, ranks")
        );
    }

    /// Test vectors of the hash's authors.
    #[test]
    fn the_hash_is_fnv_1a() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.as_bytes()), hash, "{text}");
        }
    }

    /// Hashed by another program.
    #[test]
    fn cells_are_halved_by_the_hash_of_their_text() {
        let halves = [32, 256, 2048, 16384].map(|bytes| Key { bytes, ..key() }.is_even());
        assert_eq!(halves, [true, true, false, false]);
    }

    #[test]
    fn unknown_collectives_are_no_collectives() {
        assert_eq!(key().what(), Some(Collective::AllReduce));
        assert_eq!(Key { collective: "ALLTOALLV".to_owned(), ..key() }.what(), None);
    }
}
