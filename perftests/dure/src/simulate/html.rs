//! Predictions of a sweep as one page that needs nothing else.

use std::fmt::Write as _;

use super::plot;
use super::table::{HEADS, MARK, Report, Row, Swept};
use crate::explain::Constant;
use crate::markup::escape;

/// Colours in light and dark, and the lines of plots. There are [`plot::COLOURS`] of them.
const STYLE: &str = "
:root{color-scheme:light dark;--page:#fff;--ink:#1c2126;--soft:#5d6872;--rule:#dde2e6;
--c0:#c2410c;--c1:#1d6fb8;--c2:#2f8f4e;--c3:#8a4fbf;--c4:#b8860b;--c5:#c0307a;--c6:#0f8b8d;--c7:#6b5b4b}
@media(prefers-color-scheme:dark){:root{--page:#15191d;--ink:#e4e8eb;--soft:#9aa5ae;--rule:#333b42;
--c0:#fb8a4c;--c1:#62aef0;--c2:#65c985;--c3:#bb8cf0;--c4:#e3bb4a;--c5:#f076b4;--c6:#4cc7c9;--c7:#bda58c}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem}p.note{color:var(--soft)}
div.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.87rem}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--soft);font-weight:500}td.number,th.number{text-align:right}
table.constants td{white-space:normal}
svg{width:100%;height:auto;font:12px system-ui,sans-serif;fill:var(--ink)}
svg .grid{stroke:var(--rule);fill:none}svg .end{text-anchor:end}svg .middle{text-anchor:middle}
svg .end,svg .middle{fill:var(--soft)}
svg g polyline,svg g path{fill:none;stroke:currentColor;stroke-width:1.8}svg g circle{fill:currentColor}
svg .again polyline,svg .again path{stroke-dasharray:2 3}
svg .bound{color:var(--soft)}svg .bound polyline,svg .bound path{stroke-dasharray:7 4}svg .bound circle{fill:none}
";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut style = STYLE.to_owned();
    for colour in 0..plot::COLOURS {
        let _ = writeln!(style, "svg .c{colour}{{color:var(--c{colour})}}");
    }
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>dure simulate: {ranks} ranks</title><style>{style}</style></head><body>\n\
         <h1>Predicted times of collectives on {ranks} ranks</h1>\n<p><code>{layout}</code></p>\n",
        ranks = report.ranks,
        layout = escape(&report.layout)
    );
    constants(&mut page, &report.constants);
    page.push_str(
        "<p class=\"note\">Times are predictions of the cost model. The bound is the least time that any algorithm \
         could take there.",
    );
    if report.is_marked() {
        let _ = write!(page, " {MARK}.");
    }
    page.push_str("</p>\n");
    for swept in &report.collectives {
        section(&mut page, swept);
    }
    page.push_str("</body></html>\n");
    page
}

fn constants(page: &mut String, constants: &[Constant]) {
    page.push_str(
        "<div class=\"wide\"><table class=\"constants\"><tr><th>constants</th><th></th><th>source</th></tr>\n",
    );
    for Constant { class, source, text } in constants {
        let (text, source) = (escape(text), escape(source));
        let _ = writeln!(page, "<tr><td>{class}</td><td>{text}</td><td>{source}</td></tr>");
    }
    page.push_str("</table></div>\n");
}

/// A collective: its plot, and its table.
fn section(page: &mut String, swept: &Swept) {
    let _ = write!(page, "<h2>{}</h2>\n{}", escape(&swept.collective), plot::svg(swept));
    page.push_str("<div class=\"wide\"><table>\n");
    line(page, "th", HEADS);
    for cells in swept.rows.iter().map(Row::cells) {
        line(page, "td", cells.each_ref().map(String::as_str));
    }
    page.push_str("</table></div>\n");
}

/// A line of a table; all but the names of algorithms are numbers.
fn line(page: &mut String, cell: &str, texts: [&str; 7]) {
    page.push_str("<tr>");
    for (column, text) in texts.into_iter().enumerate() {
        let class = if matches!(column, 1 | 5) { "" } else { " class=\"number\"" };
        let _ = write!(page, "<{cell}{class}>{}</{cell}>", escape(text));
    }
    page.push_str("</tr>\n");
}
