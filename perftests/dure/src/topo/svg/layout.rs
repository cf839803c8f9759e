//! Where everything is.

use std::collections::HashMap;

use dure_topology::NodeId;

use super::bar::Bar;
use super::canvas::{self, Anchor, Area, Canvas, Ink, LINE};
use super::piece::{Block, Frame, Piece};

/// Room inside a frame, between pieces in it, and between boxes side by side.
const PADDING: f64 = 12.0;
const BETWEEN: f64 = 26.0;
const GAP: f64 = 12.0;
/// Room for the link to NUMA nodes beside.
const SOCKET: f64 = 64.0;
/// Height of the links between a box and those below it, and of the link above the topmost.
const DROP: f64 = 44.0;
const STUB: f64 = 26.0;
/// The least width of a box: a figure stands beside the link above it.
const NARROWEST: f64 = 92.0;
/// Height of a bar, and room between bars, and between links.
const BAR: f64 = 20.0;
const BELOW: f64 = 16.0;

/// Where the nodes of the picture are.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) places: HashMap<NodeId, Area>,
}

impl Layout {
    /// Draws a piece with its upper left corner at a point. The outermost frame is drawn by who knows its final size.
    pub(super) fn piece(&mut self, canvas: &mut Canvas, piece: &Piece, at: (f64, f64)) -> Area {
        match piece {
            Piece::Frame(frame) => self.frame(canvas, frame, at),
            Piece::Tree(block) => {
                let stub = if block.link.is_some() { STUB } else { 0.0 };
                let area = self.block(canvas, block, (at.0, at.1 + stub));
                let middle = self.places[&block.id].middle();
                canvas.line("", &[(middle, at.1), (middle, at.1 + stub)]);
                Area { y: at.1, height: area.height + stub, ..area }
            }
        }
    }

    fn frame(&mut self, canvas: &mut Canvas, frame: &Frame, (x, y): (f64, f64)) -> Area {
        let mut top = y + PADDING;
        for (number, line) in frame.title.iter().enumerate() {
            let ink = if number == 0 { Ink::Bold } else { Ink::Plain };
            canvas.text(ink, Anchor::Start, (x + PADDING, top + LINE - 4.0), line);
            top += LINE;
        }
        let title = frame.title.iter().map(|line| canvas::width(line)).fold(0.0, f64::max);
        let (mut right, mut bottom) = (x + PADDING, top);
        let mut areas = Vec::new();
        for (number, piece) in frame.pieces.iter().enumerate() {
            if number > 0 {
                right += if matches!(piece, Piece::Frame(_)) { SOCKET } else { BETWEEN };
            }
            let area = self.piece(canvas, piece, (right, top + GAP));
            right = area.x + area.width;
            bottom = bottom.max(area.bottom());
            areas.push((piece, area));
        }
        let width = (right - x).max(title + PADDING) + PADDING;
        // Frames that stand side by side end at one height.
        for (piece, area) in areas {
            if let Piece::Frame(inner) = piece {
                let area = Area { height: bottom - area.y, ..area };
                canvas.frame(inner.class, area);
                self.places.insert(inner.id, area);
            }
        }
        Area { x, y, width, height: bottom + PADDING - y }
    }

    /// Draws a box in the middle above those below it; the area is that of the whole tree.
    fn block(&mut self, canvas: &mut Canvas, block: &Block, (x, y): (f64, f64)) -> Area {
        let text = block.lines.iter().map(|line| canvas::width(line)).fold(0.0, f64::max);
        let width = (text + 16.0).max(NARROWEST);
        let lines = u32::try_from(block.lines.len()).unwrap_or(u32::MAX);
        let height = f64::from(lines) * LINE + 8.0;
        let below_y = y + height + DROP;
        let wide = self.width_below(block);
        let mut at = x + (width - wide).max(0.0) / 2.0;
        let mut bottom = y + height;
        let mut middles = Vec::new();
        for child in &block.below {
            let area = self.block(canvas, child, (at, below_y));
            at = area.x + area.width + GAP;
            bottom = bottom.max(area.bottom());
            middles.push(self.places[&child.id].middle());
        }
        let whole = width.max(wide);
        let own = Area { x: x + (whole - width) / 2.0, y, width, height };
        if let (Some(first), Some(last)) = (middles.first(), middles.last()) {
            let bus = own.bottom() + 14.0;
            let (left, right) = (first.min(own.middle()), last.max(own.middle()));
            canvas.line("", &[(own.middle(), own.bottom()), (own.middle(), bus)]);
            canvas.line("", &[(left, bus), (right, bus)]);
            for middle in middles {
                canvas.line("", &[(middle, bus), (middle, below_y)]);
            }
        }
        self.own(canvas, block, own);
        Area { x, y, width: whole, height: bottom - y }
    }

    /// Width of everything below a box.
    fn width_below(&self, block: &Block) -> f64 {
        let widths = block.below.iter().map(|child| {
            let text = child.lines.iter().map(|line| canvas::width(line)).fold(0.0, f64::max);
            (text + 16.0).max(NARROWEST).max(self.width_below(child))
        });
        let gaps = u32::try_from(block.below.len().saturating_sub(1)).unwrap_or(u32::MAX);
        widths.sum::<f64>() + f64::from(gaps) * GAP
    }

    /// The box itself, with its text and the figure of the link above it.
    fn own(&mut self, canvas: &mut Canvas, block: &Block, area: Area) {
        canvas.block(block.class, area);
        let mut y = area.y + LINE;
        for (number, line) in block.lines.iter().enumerate() {
            let ink = if number == 0 { Ink::Bold } else { Ink::Plain };
            canvas.text(ink, Anchor::Middle, (area.middle(), y), line);
            y += LINE;
        }
        if let Some((figure, stated)) = &block.link {
            let ink = if *stated { Ink::Plain } else { Ink::Pale };
            canvas.text(ink, Anchor::Start, (area.middle() + 4.0, area.y - 6.0), figure);
        }
        self.places.insert(block.id, area);
    }

    /// Draws bars below everything in a frame, and gives the frame's area with them.
    pub(super) fn bars(&self, canvas: &mut Canvas, bars: &[Bar], frame: Area) -> Area {
        let mut legs = HashMap::<NodeId, u32>::new();
        for (id, _) in bars.iter().flat_map(|bar| &bar.members) {
            *legs.entry(*id).or_default() += 1;
        }
        let mut used = HashMap::<NodeId, u32>::new();
        let mut y = frame.bottom() + 8.0;
        let mut right = frame.x + frame.width;
        for bar in bars {
            let mut xs = Vec::new();
            for (id, figure) in &bar.members {
                let Some(place) = self.places.get(id) else { continue };
                let (all, at) = (f64::from(legs[id]), used.entry(*id).or_default());
                // Several legs of one device stand beside each other.
                let apart = (place.width - 20.0) / all.max(1.0);
                let x = place.middle() + (f64::from(*at) - (all - 1.0) / 2.0) * apart.min(14.0);
                *at += 1;
                let class = if bar.class == "g" { "y" } else { "x" };
                canvas.line(class, &[(x, place.bottom()), (x, y + BAR / 2.0)]);
                canvas.text(Ink::Plain, Anchor::Start, (x + 4.0, y - 5.0), figure);
                xs.push(x);
            }
            let (Some(first), Some(last)) =
                (xs.iter().copied().reduce(f64::min), xs.iter().copied().reduce(f64::max))
            else {
                continue;
            };
            right = right.max(self.bar(canvas, bar, (first, last, y)) + PADDING);
            y += BAR + if bar.class == "l" { 2.0 } else { BELOW };
        }
        let bottom = if bars.is_empty() { frame.bottom() } else { y };
        Area { height: bottom - frame.y, width: right - frame.x, ..frame }
    }

    /// Draws a bar from its first leg to its last, and gives its right edge.
    fn bar(&self, canvas: &mut Canvas, bar: &Bar, (first, last, y): (f64, f64, f64)) -> f64 {
        let text = canvas::width(&bar.label);
        let middle = f64::midpoint(first, last);
        if bar.class == "l" {
            canvas.line("x", &[(first, y + BAR / 2.0), (last, y + BAR / 2.0)]);
            let area = Area {
                x: middle - text / 2.0 - 3.0,
                y: y + 3.0,
                width: text + 6.0,
                height: BAR - 6.0,
            };
            canvas.block("l", area);
            canvas.text(Ink::Plain, Anchor::Middle, (middle, y + 14.0), &bar.label);
            return last;
        }
        let width = (last - first + 40.0).max(text + 20.0);
        canvas.block(bar.class, Area { x: middle - width / 2.0, y, width, height: BAR });
        canvas.text(Ink::Light, Anchor::Middle, (middle, y + 14.0), &bar.label);
        middle + width / 2.0
    }
}
