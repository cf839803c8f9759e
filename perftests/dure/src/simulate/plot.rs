//! Time over size, as SVG: a line for each algorithm, and the bound.

use std::fmt::Write as _;

use super::table::Swept;
use crate::explain::time;
use crate::size;

/// The frame of the lines, in pixels.
const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 270.0;
/// Where the legend begins, the height of a line of it, and the width of all.
const LEGEND: f64 = LEFT + WIDTH + 24.0;
const LINE: f64 = 18.0;
const ALL: f64 = 780.0;
/// Most labels on the axis of sizes.
const LABELS: usize = 8;
/// Colours of lines; the page has one for each. Of more lines the others are dashed.
pub(super) const COLOURS: usize = 8;

/// A named line: sizes and seconds.
struct Series<'s> {
    name: &'s str,
    points: Vec<(u64, f64)>,
}

/// Axes, both logarithmic.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn place(&self, (bytes, seconds): (u64, f64)) -> (f64, f64) {
        let share = |(low, high): (f64, f64), at: f64| {
            if high > low { (at - low) / (high - low) } else { 0.5 }
        };
        let x = share(self.x, (bytes as f64).log2());
        let y = share(self.y, seconds.log10());
        (LEFT + x * WIDTH, TOP + (1.0 - y) * HEIGHT)
    }
}

/// Powers of ten, as exponents, from at or below `low` to at or above `high`, at least two.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor();
    let last = high.log10().ceil().max(first + 1.0);
    std::iter::successors(Some(first), |at| Some(at + 1.0)).take_while(|at| *at <= last).collect()
}

/// A power of ten seconds for people.
fn decade(exponent: f64) -> String {
    let (unit, shift) = match exponent {
        _ if exponent < -6.0 => ("ns", 9.0),
        _ if exponent < -3.0 => ("us", 6.0),
        _ if exponent < 0.0 => ("ms", 3.0),
        _ => ("s", 0.0),
    };
    format!("{} {unit}", 10_f64.powf(exponent + shift).round())
}

/// The plot of a collective.
pub(super) fn svg(swept: &Swept) -> String {
    let bound = swept.rows.iter().map(|row| (row.bytes, row.bound)).collect();
    let bound = Series { name: "bound", points: bound };
    let lines = series(swept);
    let all = || lines.iter().chain([&bound]).flat_map(|line| &line.points).filter(|at| at.1 > 0.0);
    let low = all().map(|at| at.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|at| at.1).fold(0.0, f64::max);
    // Where one rank is alone nothing takes time.
    let decades = if high > 0.0 { decades(low, high) } else { decades(1e-9, 1e-6) };
    let sizes: Vec<u64> = swept.rows.iter().map(|row| row.bytes).collect();
    let (first, last) = (sizes[0] as f64, sizes[sizes.len() - 1] as f64);
    let axes = Axes { x: (first.log2(), last.log2()), y: (decades[0], decades[decades.len() - 1]) };
    let height = (TOP + HEIGHT + 46.0).max(TOP + LINE * (lines.len() + 2) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {ALL} {height}\" role=\"img\" \
         aria-label=\"{}: time over size\">\n",
        swept.collective
    );
    grid(&mut svg, &axes, &decades, &sizes);
    draw(&mut svg, &axes, &bound, "bound", lines.len());
    for (index, line) in lines.iter().enumerate() {
        draw(&mut svg, &axes, line, &class(index), index);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line for each algorithm, the slowest at the largest size first: the legend has the order in which lines end.
fn series(swept: &Swept) -> Vec<Series<'_>> {
    let mut lines: Vec<Series<'_>> = Vec::new();
    for row in swept.rows.iter().rev() {
        for of in row.predictions.iter().rev() {
            let point = (row.bytes, of.seconds);
            match lines.iter_mut().find(|line| line.name == of.algorithm) {
                Some(line) => line.points.insert(0, point),
                None => lines.push(Series { name: &of.algorithm, points: vec![point] }),
            }
        }
    }
    lines
}

fn class(index: usize) -> String {
    let again = if index >= COLOURS { " again" } else { "" };
    format!("c{}{again}", index % COLOURS)
}

fn grid(svg: &mut String, axes: &Axes, decades: &[f64], sizes: &[u64]) {
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    for exponent in decades {
        let y = axes.place((1, 10_f64.powf(*exponent))).1;
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
             <text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            decade(*exponent)
        );
    }
    for bytes in sizes.iter().step_by(sizes.len().div_ceil(LABELS)) {
        let x = axes.place((*bytes, 1.0)).0;
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
             <text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            bottom + 18.0,
            size::display(*bytes)
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"middle\" x=\"{}\" y=\"{}\">size of the whole vector</text>",
        LEFT + WIDTH / 2.0,
        bottom + 38.0
    );
}

/// A line, its points and its place in the legend.
fn draw(svg: &mut String, axes: &Axes, line: &Series<'_>, class: &str, place: usize) {
    let seen: Vec<_> = line.points.iter().filter(|at| at.1 > 0.0).collect();
    let corners: Vec<String> =
        seen.iter().map(|at| axes.place(**at)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<g class=\"{class}\"><polyline points=\"{}\"/>", corners.join(" "));
    for at in seen {
        let (x, y) = axes.place(*at);
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"><title>{}, {}: {}</title></circle>",
            line.name,
            size::display(at.0),
            time(at.1)
        );
    }
    let y = TOP + 8.0 + LINE * place as f64;
    let _ = writeln!(
        svg,
        "<path d=\"M{LEGEND} {y}h22\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
        LEGEND + 30.0,
        y + 4.0,
        line.name
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_decades_around_the_times() {
        assert_eq!(decades(2e-6, 3e-4), [-6.0, -5.0, -4.0, -3.0]);
        assert_eq!(decades(2e-6, 3e-6), [-6.0, -5.0]);
        let labels: Vec<String> = [-7.0, -6.0, -4.0, -3.0, -1.0, 0.0, 1.0].map(decade).into();
        assert_eq!(labels, ["100 ns", "1 us", "100 us", "1 ms", "100 ms", "1 s", "10 s"]);
    }

    #[test]
    fn corners_of_the_frame_are_the_ends_of_the_axes() {
        let axes = Axes { x: (10.0, 20.0), y: (-6.0, -3.0) };
        let (x, y) = axes.place((1 << 10, 1e-6));
        assert!((x - LEFT).abs() < 1e-6 && (y - TOP - HEIGHT).abs() < 1e-6, "{x} {y}");
        let (x, y) = axes.place((1 << 20, 1e-3));
        assert!((x - LEFT - WIDTH).abs() < 1e-6 && (y - TOP).abs() < 1e-6, "{x} {y}");
    }
}
