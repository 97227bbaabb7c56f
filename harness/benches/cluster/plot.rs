//! Plots, as SVG that needs no program to be looked at: every value a dot on a logarithmic axis.

use std::fmt::Write as _;

/// One plot: rows of dots with a common axis.
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What the axis counts: `ms`.
    pub(crate) unit: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// The values of one proxy.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) values: Vec<f64>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 110.0;
const ROW: f64 = 26.0;
const HEAD: f64 = 34.0;
const FOOT: f64 = 34.0;

/// The plots, one below the other, as a file.
pub(crate) fn file(plots: &[Plot]) -> String {
    let height: f64 = plots.iter().map(Plot::height).sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut top = 0.0;
    for plot in plots {
        plot.draw(&mut svg, top);
        top += plot.height();
    }
    svg.push_str("</svg>\n");
    svg
}

impl Plot {
    fn height(&self) -> f64 {
        HEAD + ROW * self.rows.len() as f64 + FOOT
    }

    /// The powers of ten between which all values lie.
    fn range(&self) -> (i32, i32) {
        let values = || self.rows.iter().flat_map(|row| &row.values).filter(|value| **value > 0.0);
        let least = values().copied().fold(f64::INFINITY, f64::min);
        let most = values().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            return (0, 1);
        }
        let (low, high) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        (low, high.max(low + 1))
    }

    fn draw(&self, svg: &mut String, top: f64) {
        let (low, high) = self.range();
        let x = |value: f64| {
            let share = (value.log10() - f64::from(low)) / f64::from(high - low);
            LEFT + share * (WIDTH - LEFT - RIGHT)
        };
        let bottom = top + HEAD + ROW * self.rows.len() as f64;
        // A String takes whatever is written to it.
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>",
            top + 20.0,
            self.title
        );
        for power in low..=high {
            let at = x(10_f64.powi(power));
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{bottom}\" \
                 stroke=\"#dddddd\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" \
                 fill=\"#555555\">{} {}</text>",
                top + HEAD,
                bottom + 16.0,
                10_f64.powi(power),
                self.unit
            );
        }
        for (row, number) in self.rows.iter().zip(0..) {
            let y = top + HEAD + ROW * (f64::from(number) + 0.5);
            row.draw(svg, y, self.unit, &x);
        }
    }
}

impl Row {
    fn draw(&self, svg: &mut String, y: f64, unit: &str, x: &impl Fn(f64) -> f64) {
        let colour = self.colour;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + 4.0,
            self.name
        );
        for value in self.values.iter().filter(|value| **value > 0.0) {
            let at = x(*value);
            let _ = writeln!(
                svg,
                "<circle cx=\"{at:.1}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\" fill-opacity=\"0.45\"/>"
            );
        }
        let middle = quantile(&self.values, 0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{} {unit}</text>",
            WIDTH - RIGHT + 12.0,
            y + 4.0,
            short(middle)
        );
    }
}

/// The value below which `share` of the values lie.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

/// A number with as many digits as mean something.
pub(crate) fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}
