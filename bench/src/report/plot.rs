//! Latency against throughput, as a picture: one panel for each operation, SVG 1.1.

use super::{Curve, Report};
use crate::operation::{Mode, Operation, Transport};
use std::fmt::Write;

impl Report {
    /// The curves of the open loop; `None` where there are none.
    pub fn svg(&self) -> Option<String> {
        let mut operations: Vec<Operation> = Vec::new();
        for curve in &self.curves {
            if !operations.contains(&curve.operation) {
                operations.push(curve.operation);
            }
        }
        if operations.is_empty() {
            return None;
        }
        let height = PANEL_HEIGHT * operations.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        for (number, operation) in operations.into_iter().enumerate() {
            let curves: Vec<&Curve> = self
                .curves
                .iter()
                .filter(|curve| curve.operation == operation)
                .collect();
            let panel = Panel::new(&curves, PANEL_HEIGHT * number as f64);
            panel.draw(&mut svg, operation, &curves);
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

/// Where values are in the picture. Throughput grows to the right, latency upwards, by powers of ten.
struct Panel {
    top: f64,
    most_rate: f64,
    // Powers of ten, in milliseconds.
    least_power: i32,
    most_power: i32,
}

impl Panel {
    fn new(curves: &[&Curve], top: f64) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let through = points().map(|point| point.answered()).fold(1.0, f64::max);
        // Where the direct way is far beyond, its figure is told and not drawn.
        let direct = curves.iter().filter_map(|curve| curve.direct);
        let most_rate = direct.filter(|rate| *rate < FAR * through).fold(through, f64::max) * 1.05;
        let least = points()
            .filter_map(|point| point.latency(0.5))
            .fold(f64::INFINITY, f64::min);
        let most = points().filter_map(|point| point.latency(0.99)).fold(0.0, f64::max);
        let power = |value: f64| value.clamp(1e-4, 1e6).log10();
        let least_power = power(least).floor() as i32;
        Self {
            top,
            most_rate,
            least_power,
            most_power: (power(most).ceil() as i32).max(least_power + 1),
        }
    }

    fn x(&self, rate: f64) -> f64 {
        LEFT + rate / self.most_rate * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, milliseconds: f64) -> f64 {
        let power = milliseconds.max(1e-9).log10();
        let (least, most) = (f64::from(self.least_power), f64::from(self.most_power));
        let share = ((power - least) / (most - least)).clamp(0.0, 1.0);
        self.bottom() - share * (PANEL_HEIGHT - ABOVE - BELOW)
    }

    fn bottom(&self) -> f64 {
        self.top + PANEL_HEIGHT - BELOW
    }

    fn draw(&self, svg: &mut String, operation: Operation, curves: &[&Curve]) {
        self.draw_axes(svg, operation);
        if let Some(direct) = curves.iter().find_map(|curve| curve.direct) {
            self.draw_direct(svg, direct);
        }
        for (number, curve) in curves.iter().enumerate() {
            let colour = colour(curve);
            self.draw_line(svg, curve, 0.5, colour, "");
            self.draw_line(svg, curve, 0.99, colour, " stroke-dasharray=\"5 4\"");
            self.draw_legend(svg, curve, number, colour);
        }
    }

    fn draw_axes(&self, svg: &mut String, operation: Operation) {
        let (right, bottom) = (WIDTH - RIGHT, self.bottom());
        text(
            svg,
            LEFT,
            self.top + 22.0,
            "start",
            &format!("{operation}: latency at an arrival rate"),
            " font-size=\"15\" font-weight=\"bold\"",
        );
        for power in self.least_power..=self.most_power {
            let y = self.y(10_f64.powi(power));
            line(svg, [LEFT, y, right, y], GRID, "");
            text(svg, LEFT - 8.0, y + 4.0, "end", &duration(power), "");
        }
        let step = nice_step(self.most_rate / 6.0);
        let mut rate = 0.0;
        while rate <= self.most_rate {
            let x = self.x(rate);
            line(svg, [x, bottom, x, bottom + 5.0], INK, "");
            text(svg, x, bottom + 19.0, "middle", &format!("{rate:.0}"), "");
            rate += step;
        }
        line(svg, [LEFT, bottom, right, bottom], INK, "");
        line(svg, [LEFT, self.top + ABOVE, LEFT, bottom], INK, "");
        let middle = f64::midpoint(LEFT, right);
        text(svg, middle, bottom + 38.0, "middle", "answered in a second", "");
    }

    fn draw_direct(&self, svg: &mut String, rate: f64) {
        let top = self.top + ABOVE;
        let (x, words) = if rate <= self.most_rate {
            let x = self.x(rate);
            line(svg, [x, top, x, self.bottom()], GREY, " stroke-dasharray=\"2 3\"");
            (x, "direct, at most".to_owned())
        } else {
            (WIDTH - RIGHT, format!("direct, at most: {rate:.0} \u{2192}"))
        };
        text(svg, x - 5.0, top + 11.0, "end", &words, &format!(" fill=\"{GREY}\""));
    }

    fn draw_line(&self, svg: &mut String, curve: &Curve, share: f64, colour: &str, style: &str) {
        let points: Vec<(f64, f64)> = curve
            .points
            .iter()
            .filter_map(|point| Some((self.x(point.answered()), self.y(point.latency(share)?))))
            .collect();
        let corners: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        put(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{style}/>\n",
                corners.join(" ")
            ),
        );
        for (x, y) in points {
            put(
                svg,
                format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>\n"),
            );
        }
    }

    fn draw_legend(&self, svg: &mut String, curve: &Curve, number: usize, colour: &str) {
        let x = WIDTH - RIGHT + 16.0;
        let y = self.top + ABOVE + 10.0 + 44.0 * number as f64;
        let name = format!("{}, {}", curve.transport, curve.mode);
        line(svg, [x, y - 4.0, x + 26.0, y - 4.0], colour, " stroke-width=\"2\"");
        text(svg, x + 34.0, y, "start", &format!("{name}, p50"), "");
        let style = " stroke-width=\"2\" stroke-dasharray=\"5 4\"";
        line(svg, [x, y + 12.0, x + 26.0, y + 12.0], colour, style);
        text(svg, x + 34.0, y + 16.0, "start", &format!("{name}, p99"), "");
    }
}

/// A way has the same colour in all panels. Blue, orange, green and purple differ for colour-blind people too (Okabe and Ito).
fn colour(curve: &Curve) -> &'static str {
    match (curve.transport, curve.mode) {
        (Transport::Unix, Mode::Pipelined) => "#0072b2",
        (Transport::Unix, _) => "#e69f00",
        (Transport::Mtls, Mode::Pipelined) => "#009e73",
        (Transport::Mtls, _) => "#cc79a7",
    }
}

/// 1, 2 or 5 times a power of ten, and no less than this.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// A power of ten of milliseconds.
fn duration(power: i32) -> String {
    match power {
        ..-3 => format!("{} ns", 10_f64.powi(power + 6)),
        -3..0 => format!("{} µs", 10_f64.powi(power + 3)),
        0..3 => format!("{} ms", 10_f64.powi(power)),
        3.. => format!("{} s", 10_f64.powi(power - 3)),
    }
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str, style: &str) {
    put(
        svg,
        format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{style}/>\n"
        ),
    );
}

/// The text has no character that XML needs escaped: it is made of names and numbers of this program.
fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str, style: &str) {
    put(
        svg,
        format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{style}>{text}</text>\n"),
    );
}

fn put(svg: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = svg.write_fmt(what);
}

const WIDTH: f64 = 900.0;
const PANEL_HEIGHT: f64 = 360.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 240.0;
const ABOVE: f64 = 40.0;
const BELOW: f64 = 52.0;
const INK: &str = "#222222";
const GRID: &str = "#dddddd";
const GREY: &str = "#777777";

/// So many times the most that went through the gateway.
const FAR: f64 = 1.6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, step) in [
            (0.3, 1.0),
            (1.0, 1.0),
            (1.2, 2.0),
            (37.0, 50.0),
            (180.0, 200.0),
            (800.0, 1000.0),
        ] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least}: {}", nice_step(least));
        }
    }

    #[test]
    fn durations_have_their_units() {
        let shown = [-4, -3, -1, 0, 2, 3].map(duration);
        assert_eq!(shown, ["100 ns", "1 µs", "100 µs", "1 ms", "100 ms", "1 s"]);
    }
}
