//! The matrices as heat maps, in SVG.

use std::fmt::Write as _;

use super::Matrix;
use super::outlier::Figure;
use crate::markup::escape;

/// Pixels of a cell where its value is written, and the least of one where there are too many for that.
const CELL: u32 = 56;
const SMALL: u32 = 4;
/// Ranks up to which values are written; with more the cells share this many pixels.
const WRITTEN: u32 = 24;
const SHARED: u32 = 1024;
/// Room for headings above and rank numbers on the left.
const TOP: u32 = 56;
const LEFT: u32 = 64;
/// Room for the names of the ranks below.
const NAME: u32 = 18;

/// All maps, one below the other, and the names of the ranks.
pub(super) fn svg(matrix: &Matrix) -> String {
    let count = matrix.numbers().end;
    let cell = if count <= WRITTEN { CELL } else { (SHARED / count).max(SMALL) };
    let figures: Vec<_> = matrix.figures().collect();
    let map = TOP + count * cell + NAME;
    let maps = u32::try_from(figures.len()).unwrap_or(0);
    let (width, height) = (LEFT + (count * cell).max(560) + NAME, maps * map + (count + 1) * NAME);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, figure) in (0..).zip(&figures) {
        draw(&mut text, matrix, *figure, (place * map, cell));
    }
    for (rank, name) in (0..).zip(&matrix.ranks) {
        let y = maps * map + (rank + 1) * NAME;
        let _ = writeln!(text, "<text x=\"8\" y=\"{y}\">{rank}: {}</text>", escape(name));
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, matrix: &Matrix, figure: Figure, (top, cell): (u32, u32)) {
    let written = cell == CELL;
    let heading = escape(&matrix.heading(figure));
    let _ = writeln!(text, "<text x=\"8\" y=\"{}\" font-size=\"15\">{heading}</text>", top + 20);
    let _ = writeln!(
        text,
        "<text x=\"8\" y=\"{}\" fill=\"#555\">from the rank of the row to that of the column; red frames are outliers</text>",
        top + 36
    );
    let values = || matrix.cells.iter().filter_map(|cell| matrix.value(figure, cell.from, cell.to));
    let (least, most) = values().fold((f64::INFINITY, 0.0_f64), |(a, b), v| (a.min(v), b.max(v)));
    for from in matrix.numbers() {
        let y = top + TOP + from * cell;
        if written {
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{from}</text>",
                LEFT - 8,
                y + cell / 2 + 4
            );
            let x = LEFT + from * cell + cell / 2;
            let _ = writeln!(
                text,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{from}</text>",
                top + TOP - 6
            );
        }
        for to in matrix.numbers() {
            let Some(value) = matrix.value(figure, from, to) else { continue };
            let x = LEFT + to * cell;
            let good = goodness(figure, value, (least, most));
            let frame = if matrix.is_outlier(figure, from, to) {
                " stroke=\"#d00\" stroke-width=\"3\""
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "<rect x=\"{}\" y=\"{}\" width=\"{size}\" height=\"{size}\" fill=\"{}\"{frame}><title>{from} to {to}: {value:.2}</title></rect>",
                x + 1,
                y + 1,
                colour(good),
                size = cell - 2
            );
            if written {
                let _ = writeln!(
                    text,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\">{}</text>",
                    x + cell / 2,
                    y + cell / 2 + 4,
                    short(value)
                );
            }
        }
    }
}

/// From 0, the worst of the map, to 1, the best; a map whose values hardly differ is all good.
fn goodness(figure: Figure, value: f64, (least, most): (f64, f64)) -> f64 {
    if most - least < 0.1 * most {
        return 1.0;
    }
    let part = (value - least) / (most - least);
    if figure == Figure::Bandwidth { part } else { 1.0 - part }
}

/// Between orange, which is bad, and blue: told apart by most who do not see all colours. Light, under dark text.
fn colour(good: f64) -> String {
    let mix = |bad: f64, best: f64| bad + (best - bad) * good.clamp(0.0, 1.0);
    format!("rgb({:.0},{:.0},{:.0})", mix(253.0, 146.0), mix(174.0, 197.0), mix(97.0, 222.0))
}

/// A value in at most six letters.
fn short(value: f64) -> String {
    match value {
        value if value < 100.0 => format!("{value:.2}"),
        value if value < 10_000.0 => format!("{value:.0}"),
        value => format!("{:.1}k", value / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_path_is_a_cell_and_outliers_have_frames() {
        let drawn = svg(&sample());
        assert_eq!(drawn.matches("<title>").count(), 3 * 12);
        assert_eq!(drawn.matches("stroke=\"#d00\"").count(), 3);
        assert!(drawn.contains("host&lt;0&gt;") && drawn.ends_with("</svg>\n"));
    }

    #[test]
    fn the_worst_is_orange_and_the_best_blue() {
        assert_eq!(goodness(Figure::Bandwidth, 1.0, (1.0, 9.0)), 0.0);
        assert_eq!(goodness(Figure::Latency, 1.0, (1.0, 9.0)), 1.0);
        assert_eq!(goodness(Figure::Latency, 9.0, (8.9, 9.0)), 1.0);
        assert_eq!(
            (colour(0.0), colour(1.0)),
            ("rgb(253,174,97)".to_owned(), "rgb(146,197,222)".to_owned())
        );
        assert_eq!([0.5, 123.4, 27_999.0].map(short), ["0.50", "123", "28.0k"]);
    }
}
