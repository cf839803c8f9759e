//! A host as a picture: packages and NUMA nodes side by side, in them the PCIe trees with their devices, below them what
//! joins devices otherwise.

mod bar;
mod canvas;
mod layout;
mod piece;

use std::collections::HashMap;

use dure_topology::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};

use self::canvas::{Anchor, Area, Canvas, Ink, LINE};
use self::layout::Layout;
use self::piece::{Piece, Pieces};
use super::words;

/// Room around everything.
const MARGIN: f64 = 20.0;
/// Height of title and legend.
const HEAD: f64 = 84.0;

const STYLE: &str = "text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1c1c1c;\
    paint-order:stroke;stroke:none}.b{font-weight:bold}.h{fill:#7a7a7a}.i{fill:#ffffff;font-weight:bold}\
    .t{font-size:18px;font-weight:bold}.m{text-anchor:middle}polyline{fill:none;stroke:#444;stroke-width:1.3}\
    polyline.x{stroke:#3f7d20;stroke-width:1.6}polyline.y{stroke:#7a4fa3;stroke-width:1.6}polyline.z{stroke:#b05c00;stroke-width:2}\
    rect{stroke:#555;stroke-width:1}.fh{fill:#f6f6f6}.fp{fill:#e9edf3}.fn{fill:#ffffff}.r{fill:#dddddd}.s{fill:#f2dfae}\
    .a{fill:#b9dba0}.n{fill:#a9cdea}.c{fill:#dcc6ee}.w{fill:#3f7d20}.g{fill:#7a4fa3}.l{fill:#ffffff;stroke:none}";

/// The kinds that have a colour.
const LEGEND: [(&str, &str); 9] = [
    ("fp", "package"),
    ("fn", "NUMA node"),
    ("r", "host bridge"),
    ("s", "PCIe switch"),
    ("a", "accelerator"),
    ("n", "adapter with ports"),
    ("c", "CXL memory"),
    ("w", "links of accelerators"),
    ("g", "CXL region"),
];

/// Draws all hosts of a graph, one below the other.
pub(super) fn draw(graph: &Graph, origin: &str) -> String {
    let mut canvas = Canvas::default();
    let mut pieces = Pieces::new(graph);
    let (mut width, mut y) = (0.0_f64, HEAD);
    let mut notes = Vec::new();
    for root in graph.roots() {
        for piece in pieces.of(root) {
            let mut layout = Layout::default();
            let area = layout.piece(&mut canvas, &piece, (MARGIN, y));
            let area = match &piece {
                Piece::Frame(frame) => {
                    let bars = bar::of(graph, frame.id);
                    let area = layout.bars(&mut canvas, &bars, area);
                    canvas.frame(frame.class, area);
                    notes.extend(sockets(graph, root, &layout, &mut canvas));
                    area
                }
                Piece::Tree(_) => area,
            };
            width = width.max(area.x + area.width);
            y = area.bottom() + MARGIN;
        }
    }
    notes.extend(left_out(graph, &pieces.drawn));
    let title = title(graph, origin);
    canvas.text(Ink::Title, Anchor::Start, (MARGIN, 30.0), &title);
    width = width.max(MARGIN + canvas::width(&title) * 1.5).max(legend(&mut canvas));
    for note in notes {
        width = width.max(MARGIN + canvas::width(&note));
        canvas.text(Ink::Plain, Anchor::Start, (MARGIN, y + LINE), &note);
        y += LINE + 2.0;
    }
    canvas.document(&title, width + MARGIN, y + MARGIN, STYLE)
}

fn title(graph: &Graph, origin: &str) -> String {
    let counted = words::census(graph, &[Kind::Accelerator, Kind::Nic, Kind::CxlMemory]);
    if counted.is_empty() { origin.to_owned() } else { format!("{origin}, {counted}") }
}

/// Draws the legend and gives its right edge.
fn legend(canvas: &mut Canvas) -> f64 {
    let mut x = MARGIN;
    for (class, name) in LEGEND {
        if !canvas.has(class) {
            continue;
        }
        canvas.block(class, Area { x, y: 42.0, width: 14.0, height: 14.0 });
        canvas.text(Ink::Plain, Anchor::Start, (x + 20.0, 53.0), name);
        x += 20.0 + canvas::width(name) + 18.0;
    }
    let meaning = "figures: GB/s in one direction; ~ is assumed, as nothing states it";
    canvas.text(Ink::Pale, Anchor::Start, (MARGIN, 74.0), meaning);
    x.max(MARGIN + canvas::width(meaning))
}

/// Draws what joins NUMA nodes that stand side by side, and says what joins others.
fn sockets(graph: &Graph, host: NodeId, layout: &Layout, canvas: &mut Canvas) -> Vec<String> {
    let is_numa = |node: &Node| node.kind == Kind::Numa;
    let numas: Vec<_> =
        graph.nodes().filter(|(id, node)| is_numa(node) && graph.host(*id) == Some(host)).collect();
    let between_numas = |link: &Link| {
        link.kind == LinkKind::Socket && link.ends.iter().all(|end| is_numa(graph.node(*end)))
    };
    let place = |id: NodeId| layout.places.get(&id).copied();
    let mut others = Vec::new();
    for (_, link) in graph.links().filter(|(_, link)| between_numas(link)) {
        let [a, b] = link.ends;
        let (Some(at), Some(to)) = (place(a), place(b)) else { continue };
        let mark = if link.source == Source::Default { "~" } else { "" };
        let label = format!("{mark}{}", words::figure(link.gb_per_s));
        let between = |id: NodeId| place(id).is_some_and(|here| here.x > at.x && here.x < to.x);
        if to.x > at.x && !numas.iter().any(|(id, _)| between(*id)) {
            let (left, right, y) = (at.x + at.width, to.x, at.y.max(to.y) + 24.0);
            canvas.line("z", &[(left, y), (right, y)]);
            let ink = if link.source == Source::Default { Ink::Pale } else { Ink::Plain };
            canvas.text(ink, Anchor::Middle, (f64::midpoint(left, right), y - 5.0), &label);
        } else {
            others.push((label, format!("{} - {}", graph.node(a).name, graph.node(b).name)));
        }
    }
    let mut by_label = Vec::<(String, Vec<String>)>::new();
    for (label, pair) in others {
        match by_label.iter_mut().find(|(known, _)| *known == label) {
            Some((_, pairs)) => pairs.push(pair),
            None => by_label.push((label, vec![pair])),
        }
    }
    by_label
        .into_iter()
        .map(|(label, pairs)| format!("{}: {label} GB/s", pairs.join(", ")))
        .collect()
}

/// Says what the picture leaves out.
fn left_out(graph: &Graph, drawn: &HashMap<Kind, usize>) -> Option<String> {
    // These are in bars and titles.
    let elsewhere = [Kind::AcceleratorSwitch, Kind::CxlRegion, Kind::Dax, Kind::Cache];
    let mut counts = Vec::<(&str, usize)>::new();
    let names = [
        (Kind::Bridge, "bridges with nothing below that is drawn"),
        (Kind::Port, "ports of no adapter"),
        (Kind::Other, "nodes of other kinds"),
        (Kind::Switch, "switches"),
        (Kind::HostBridge, "host bridges with nothing below that is drawn"),
    ];
    for (kind, name) in names.into_iter().filter(|(kind, _)| !elsewhere.contains(kind)) {
        let all = graph
            .nodes()
            .filter(|(id, node)| node.kind == kind && !words::is_link(graph, *id))
            .count();
        let missing = all - drawn.get(&kind).copied().unwrap_or(0).min(all);
        if missing > 0 {
            counts.push((name, missing));
        }
    }
    let told: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    (!told.is_empty()).then(|| format!("not drawn, but in the text: {}", told.join(", ")))
}
