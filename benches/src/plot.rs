//! The plot of the page: bars of the medians, as an SVG.

use crate::rounds::{Heat, Measured};
use crate::subject::SUBJECTS;
use std::fmt::Write;

/// Hot above cold for every subject, on one scale.
#[must_use]
pub fn bars(measured: &Measured) -> String {
    const WIDTH: f64 = 460.0;
    let bars: Vec<(&str, Heat, f64)> = SUBJECTS
        .iter()
        .flat_map(|subject| Heat::ALL.map(|heat| (*subject, heat, measured.median(subject, heat))))
        .filter_map(|(subject, heat, time)| Some((subject, heat, time?)))
        .collect();
    let longest = bars.iter().map(|bar| bar.2).fold(1.0, f64::max);
    let height = 24 * bars.len() + 16;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Start to first instruction, milliseconds</title>\n"
    );
    for (place, (subject, heat, time)) in bars.iter().enumerate() {
        let y = 24 * place + 8;
        let colour = match heat {
            Heat::Hot => "#c2542d",
            Heat::Cold => "#3d6f9e",
        };
        let _never = writeln!(
            svg,
            "<text x=\"4\" y=\"{}\">{subject} {}</text><rect x=\"130\" y=\"{y}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.2}</text>",
            y + 13,
            heat.name(),
            time / longest * WIDTH,
            time / longest * WIDTH + 136.0,
            y + 13,
            time / 1000.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
