//! The results as JSON, in perftest's layout with percentiles and counters besides.

use serde_json::{Value, json};

use super::figures::{Bandwidth, Figures, Latency};
use super::header::Header;
use super::row::{Counters, Row};
use super::table::Unit;

/// All that was measured. `results` is one object for one row, as perftest writes it, and a list for several.
pub(super) fn report(header: &Header, rows: &[Row], unit: Unit) -> Value {
    let rows: Vec<_> = rows.iter().map(|row| result(row, unit)).collect();
    let results = match &rows[..] {
        [only] => only.clone(),
        _ => Value::Array(rows),
    };
    json!({ "version": 1, "test_info": header.json(), "results": results })
}

fn result(row: &Row, unit: Unit) -> Value {
    let mut result = match row.figures {
        Figures::Bandwidth(Bandwidth { peak, average, rate }) => json!({
            "BW_peak": unit.of(peak),
            "BW_average": unit.of(average),
            "BW_unit": unit.name(),
            "MsgRate": rate / 1e6,
        }),
        Figures::Latency(latency) => of_latency(&latency),
    };
    if let Some(result) = result.as_object_mut() {
        result.insert("MsgSize".to_owned(), row.size.into());
        result.insert("n_iterations".to_owned(), row.messages.into());
        result.insert("loaded".to_owned(), row.loaded.into());
        result.insert("wrong_bytes".to_owned(), row.wrong.into());
        let [client, server] = row.counters.each_ref().map(of_counters);
        result.insert("counters".to_owned(), json!({ "client": client, "server": server }));
    }
    result
}

/// Times in microseconds.
pub(super) fn of_latency(latency: &Latency) -> Value {
    let Latency { min, max, typical, average, deviation, p50, p90, p99, p999 } = latency;
    json!({
        "t_min": min, "t_max": max, "t_typical": typical, "t_avg": average, "t_stdev": deviation,
        "percentile_50": p50, "percentile_90": p90, "percentile_99": p99, "percentile_99.9": p999,
    })
}

pub(super) fn of_counters(counters: &Counters) -> Value {
    let values = counters.values.iter().map(|(port, name, before, after)| {
        json!({ "port": port, "counter": name, "before": before, "after": after })
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::args;
    use super::super::cxl::Pool;
    use super::*;

    fn header(line: &str) -> Header {
        let settings = args(line).settings(None).unwrap();
        let ends = ["here".to_owned(), "there".to_owned()];
        Header { settings, ports: Vec::new(), pool: Pool::default(), mtu: None, inline: 256, ends }
    }

    fn row(figures: Figures) -> Row {
        let counters = Default::default();
        Row { size: 64, messages: 100, loaded: false, figures, wrong: 0, counters }
    }

    #[test]
    fn one_row_is_an_object_and_several_are_a_list() {
        let header = header("write-bw --transport tcp -s 64");
        let figures = Figures::Bandwidth(Bandwidth { peak: 0.0, average: 2_097_152.0, rate: 5e5 });
        let one = report(&header, &[row(figures)], Unit { gbits: false });
        assert_eq!(one["results"]["BW_average"], 2.0);
        assert_eq!(
            (&one["results"]["MsgSize"], &one["results"]["MsgRate"]),
            (&64.into(), &0.5.into())
        );
        assert_eq!(one["test_info"]["test"], "RDMA_Write_BW_Test");
        let two = report(&header, &[row(figures), row(figures)], Unit { gbits: true });
        assert_eq!(two["results"].as_array().unwrap().len(), 2);
        assert_eq!(two["results"][1]["BW_unit"], "Gb/sec");
    }

    #[test]
    fn latency_has_percentiles() {
        let figures = Figures::Latency(Latency { p90: 3.0, p999: 4.0, ..Latency::default() });
        let report =
            report(&header("write-lat --transport pool"), &[row(figures)], Unit { gbits: false });
        assert_eq!(
            (&report["results"]["percentile_90"], &report["results"]["percentile_99.9"]),
            (&3.0.into(), &4.0.into())
        );
    }
}
