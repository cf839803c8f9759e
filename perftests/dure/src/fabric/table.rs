//! The rows, in the columns of perftest.

use super::figures::{Bandwidth, Figures, Latency};
use super::row::{Counters, Row};

/// Bytes of a MiB, which earlier versions of perftest call MB.
pub(super) const MIB: f64 = 1_048_576.0;

/// In which unit bandwidth is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) gbits: bool,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        if self.gbits { "Gb/sec" } else { "MiB/sec" }
    }

    /// Of bytes a second.
    pub(crate) fn of(self, rate: f64) -> f64 {
        if self.gbits { rate * 8.0 / 1e9 } else { rate / MIB }
    }
}

/// The line of column names.
pub(crate) fn columns(bandwidth: bool, unit: Unit) -> String {
    if bandwidth {
        let unit = unit.name();
        format!(
            " #bytes     #iterations    BW peak[{unit}]    BW average[{unit}]   MsgRate[Mpps]\n"
        )
    } else {
        " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec] \n".to_owned()
    }
}

/// One row.
pub(crate) fn row(row: &Row, unit: Unit) -> String {
    let Row { size, messages, .. } = row;
    let mut text = match row.figures {
        Figures::Bandwidth(Bandwidth { peak, average, rate }) => format!(
            " {size:<10} {messages:<10}     {:<18.2} {:<19.2} {:.6}",
            unit.of(peak),
            unit.of(average),
            rate / 1e6
        ),
        Figures::Latency(Latency { min, max, typical, average, deviation, p99, p999, .. }) => {
            format!(
                " {size:<7} {messages:<14} {min:<14.2} {max:<13.2} {typical:<16.2} {average:<14.2} {deviation:<15.2} {p99:<22.2} {p999:.2}"
            )
        }
    };
    if row.loaded {
        text.push_str("   # under load");
    }
    text.push('\n');
    text
}

/// Lines about counters that moved: those that count errors, and the others if asked for.
pub(crate) fn counters(counters: &[Counters; 2], all: bool) -> String {
    let mut text = String::new();
    for (side, counters) in ["client", "server"].iter().zip(counters) {
        let moved = counters.errors.iter().chain(counters.traffic.iter().filter(|_| all));
        let moved: Vec<_> = moved.map(|(name, by)| format!("{name} +{by}")).collect();
        if !moved.is_empty() {
            text.push_str(&format!(" # {side}: {}\n", moved.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(figures: Figures) -> Row {
        let counters = Default::default();
        Row { size: 65_536, messages: 5000, loaded: false, figures, wrong: 0, counters }
    }

    fn words(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    #[test]
    fn bandwidth_rows_have_perftests_columns() {
        let figures = Figures::Bandwidth(Bandwidth { peak: 2.0 * MIB, average: MIB, rate: 16.0 });
        let megabytes = Unit { gbits: false };
        assert_eq!(
            words(&row(&sample(figures), megabytes)),
            ["65536", "5000", "2.00", "1.00", "0.000016"]
        );
        assert_eq!(
            words(&columns(true, megabytes)).join(" "),
            "#bytes #iterations BW peak[MiB/sec] BW average[MiB/sec] MsgRate[Mpps]"
        );
        let bits = Figures::Bandwidth(Bandwidth { peak: 1e9, average: 0.5e9, rate: 1e6 });
        let gigabits = Unit { gbits: true };
        assert_eq!(
            words(&row(&sample(bits), gigabits)),
            ["65536", "5000", "8.00", "4.00", "1.000000"]
        );
        assert!(columns(true, gigabits).contains("BW average[Gb/sec]"));
    }

    #[test]
    fn latency_rows_have_perftests_columns() {
        let latency =
            Latency { min: 1.0, max: 9.0, typical: 2.0, p99: 5.0, p999: 8.5, ..Latency::default() };
        let mut sample = sample(Figures::Latency(latency));
        let unit = Unit { gbits: false };
        assert_eq!(
            words(&row(&sample, unit)),
            ["65536", "5000", "1.00", "9.00", "2.00", "0.00", "0.00", "5.00", "8.50"]
        );
        let names = "#bytes #iterations t_min[usec] t_max[usec] t_typical[usec] t_avg[usec] t_stdev[usec] 99% percentile[usec] 99.9% percentile[usec]";
        assert_eq!(words(&columns(false, unit)).join(" "), names);
        sample.loaded = true;
        assert!(row(&sample, unit).ends_with("# under load\n"));
    }

    #[test]
    fn counters_of_errors_are_told() {
        let moved = Counters {
            errors: vec![("rxe0/1 out_of_sequence".to_owned(), 3)],
            traffic: vec![("rxe0/1 sent_pkts".to_owned(), 100)],
            ..Counters::default()
        };
        let both = [Counters::default(), moved];
        assert_eq!(counters(&both, false), " # server: rxe0/1 out_of_sequence +3\n");
        assert!(counters(&both, true).contains("sent_pkts +100"));
    }
}
