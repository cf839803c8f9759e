//! Shapes of a picture. All text is in a font of one width, so that its size is known without a font at hand.

use std::fmt::Write;

use crate::markup::escape;

/// Width of a letter, and height of a line.
pub(super) const LETTER: f64 = 7.3;
pub(super) const LINE: f64 = 15.0;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    /// The first line of a box.
    Bold,
    /// A figure that nobody stated.
    Pale,
    /// On a dark ground.
    Light,
    Title,
}

impl Ink {
    fn class(self) -> &'static str {
        match self {
            Self::Plain => "p",
            Self::Bold => "b",
            Self::Pale => "h",
            Self::Light => "i",
            Self::Title => "t",
        }
    }
}

/// Where a text is that belongs to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
}

/// A picture in the making.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    /// Lines, under everything else but frames.
    lines: String,
    /// The innermost first.
    frames: Vec<String>,
    boxes: String,
    texts: String,
}

/// A rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) fn middle(self) -> f64 {
        self.x + self.width / 2.0
    }

    pub(super) fn bottom(self) -> f64 {
        self.y + self.height
    }
}

/// Width of a text.
pub(super) fn width(text: &str) -> f64 {
    let letters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    f64::from(letters) * LETTER
}

impl Canvas {
    pub(super) fn frame(&mut self, class: &str, area: Area) {
        self.frames.push(rectangle(class, area, 6.0));
    }

    pub(super) fn block(&mut self, class: &str, area: Area) {
        self.boxes.push_str(&rectangle(class, area, 3.0));
    }

    /// Whether something of a class is in the picture.
    pub(super) fn has(&self, class: &str) -> bool {
        let class = format!("class=\"{class}\"");
        self.boxes.contains(&class) || self.frames.iter().any(|frame| frame.contains(&class))
    }

    /// Lines from point to point, horizontal or vertical.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ =
            writeln!(self.lines, r#"<polyline class="{class}" points="{}"/>"#, points.join(" "));
    }

    pub(super) fn text(&mut self, ink: Ink, anchor: Anchor, (x, y): (f64, f64), text: &str) {
        let anchor = if anchor == Anchor::Middle { " m" } else { "" };
        let class = ink.class();
        let text = escape(text);
        let _ = writeln!(
            self.texts,
            r#"<text class="{class}{anchor}" x="{x:.1}" y="{y:.1}">{text}</text>"#
        );
    }

    pub(super) fn document(&self, title: &str, width: f64, height: f64, style: &str) -> String {
        let Self { lines, frames, boxes, texts } = self;
        let frames: String = frames.iter().rev().map(String::as_str).collect();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>\n<style>{style}</style>\n\
             <rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n{frames}{lines}{boxes}{texts}</svg>\n",
            escape(title)
        )
    }
}

fn rectangle(class: &str, area: Area, round: f64) -> String {
    let Area { x, y, width, height } = area;
    let size = format!(r#"x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#);
    format!("<rect class=\"{class}\" {size} rx=\"{round}\"/>\n")
}
