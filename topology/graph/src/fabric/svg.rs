//! A picture of a fabric: switches in rows, the highest on top; below the leaves their hosts; cables as bundles.
//!
//! Leaves that share hosts stand together in a frame over these hosts, each in the colour of its rail. All text is in a
//! font of one width, so that what it needs is known without a font at hand.

mod layout;

use std::fmt::Write as _;

use self::layout::{Label, Layout, Shape};
use super::rails::Rails;
use super::tiers::Tiers;
use super::{Reading, oddities, summary};
use crate::Cluster;
use crate::xml::escape::escape;

/// Colours of rails, told apart by people with any colour sense (after Okabe and Ito), without red, which is for what is odd.
const RAILS: [&str; 8] =
    ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C564B", "#6A51A3", "#999933"];
/// Colour of what is odd.
const ODD: &str = "#C00000";
/// Lines of contradictions and warnings that are written below the picture.
const LINES: usize = 24;

impl Reading {
    /// The picture as an SVG document. A fabric without a host on a switch is a picture that says so.
    pub fn svg(&self) -> String {
        let Some(tiers) = Tiers::of(&self.graph) else {
            let text = Label::new(20.0, 40.0, 16.0, "no host hangs on a switch");
            return document(400.0, 80.0, &write_label(&text));
        };
        let rails = Rails::of(&self.graph, &tiers);
        let layout = Layout::of(&self.graph, &tiers, &rails);
        let mut body = String::new();
        for shape in &layout.shapes {
            write_shape(shape, &mut body);
        }
        for label in &layout.labels {
            body.push_str(&write_label(label));
        }
        let title = match Cluster::of_fabric(&self.graph) {
            Ok((cluster, _)) => format!("{}: {cluster}", self.format),
            Err(error) => format!("{}: {error}", self.format),
        };
        let mut width = layout.width;
        let mut line = |x: f64, y: f64, size: f64, text: &str| {
            let label = Label::new(x, y, size, text);
            width = width.max(label.x + label.width() + layout::MARGIN);
            body.push_str(&write_label(&label));
        };
        line(layout::MARGIN, 34.0, 18.0, &title);
        line(layout::MARGIN, 56.0, 12.0, &self.legend(&rails));
        let mut y = layout.height + 20.0;
        for text in self.remarks(&tiers, &rails) {
            line(layout::MARGIN, y, 12.0, &text);
            y += 17.0;
        }
        document(width, y + layout::MARGIN, &body)
    }

    fn legend(&self, rails: &Rails) -> String {
        let bundles = oddities::bundles(&self.graph);
        let usual = layout::usual_bundle(&self.graph, &bundles);
        let cables = usual.map_or_else(String::new, |usual| {
            format!(
                "a line is {usual} {}; thin red ones have fewer.  ",
                if usual == 1 { "cable" } else { "cables" }
            )
        });
        let dots = "A dot on a host is a port, in the colour of its leaf.  ";
        format!("{cables}{dots}{}", summary::rails(rails))
    }

    fn remarks(&self, tiers: &Tiers, rails: &Rails) -> Vec<String> {
        let odd = oddities::find(&self.graph, tiers, rails);
        let warnings = self.warnings.iter().map(ToString::to_string);
        let mut remarks: Vec<String> =
            tiers.notes.iter().cloned().chain(odd).chain(warnings).collect();
        let more = remarks.len().saturating_sub(LINES);
        if more > 0 {
            remarks.truncate(LINES);
            remarks.push(format!("and {more} more: see the text form"));
        }
        remarks
    }
}

fn document(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"DejaVu Sans Mono, Liberation Mono, monospace\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn write_shape(shape: &Shape, to: &mut String) {
    // Writing to a string does not fail.
    let _ = match shape {
        Shape::Box { x, y, width, height, fill, stroke } => writeln!(
            to,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\" fill=\"{fill}\" \
             stroke=\"{stroke}\"/>"
        ),
        Shape::Line { from, to: end, width, colour, odd } => writeln!(
            to,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width:.1}\" \
             stroke-opacity=\"{}\"/>",
            from[0],
            from[1],
            end[0],
            end[1],
            if *odd { "0.9" } else { "0.3" },
        ),
    };
}

fn write_label(label: &Label) -> String {
    format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{}\" fill=\"{}\">{}</text>\n",
        label.x,
        label.y,
        label.size,
        label.colour,
        escape(&label.text)
    )
}
