//! A line plot as SVG: axes with round numbers, lines, a legend. Not here: the data.

use std::fmt::Write;

/// Geometry, in SVG units.
const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// Points nearer than this to the last one are left out.
const NEAR: f64 = 0.7;
/// Approximate number of ticks of the vertical axis.
const TICKS: f64 = 5.0;

/// One line: its name, its class (`a` to `f`), its points.
pub(crate) type Line = (&'static str, char, Vec<(f64, f64)>);

/// A plot. Both axes begin at 0.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    /// Places and names on the horizontal axis, which ends at `width`.
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) width: f64,
    pub(crate) lines: Vec<Line>,
    /// Vertical bars: place, lower end, upper end.
    pub(crate) spreads: Vec<(f64, f64, f64)>,
}

impl Plot {
    pub(crate) fn draw(&self) -> String {
        let values = self.lines.iter().flat_map(|(_, _, points)| points).map(|(_, y)| *y);
        let values = values.chain(self.spreads.iter().map(|(_, _, upper)| *upper));
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        let step = round_step(most / TICKS);
        let top = (most / step).ceil() * step;
        let x = |value: f64| LEFT + value / self.width.max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut svg = String::new();
        let mut put = |text: String| svg.push_str(&text);
        for number in 0..=(top / step).round() as u32 {
            let value = f64::from(number) * step;
            put(format!("<path d=\"M{LEFT} {0:.1}H{1}\" class=\"axis\"/>", y(value), WIDTH - RIGHT));
            put(format!(
                "<text x=\"{}\" y=\"{:.1}\" class=\"tick left\">{}</text>",
                LEFT - 7.0,
                y(value),
                number_text(value)
            ));
        }
        for (place, name) in &self.ticks {
            let foot = HEIGHT - BOTTOM;
            put(format!("<path d=\"M{0:.1} {TOP}V{foot}\" class=\"axis\"/>", x(*place)));
            put(format!("<text x=\"{:.1}\" y=\"{}\" class=\"tick below\">{name}</text>", x(*place), foot + 14.0));
        }
        for (place, lower, upper) in &self.spreads {
            put(format!("<path d=\"M{:.1} {:.1}V{:.1}\" class=\"spread\"/>", x(*place), y(*lower), y(*upper)));
        }
        for (row, (name, class, points)) in self.lines.iter().enumerate() {
            let places = points.iter().map(|(at, value)| (x(*at), y(*value)));
            put(format!("<path d=\"{}\" class=\"line {class}\"/>", path(places)));
            let (at, height) = (LEFT + 12.0, TOP + 12.0 + row as f64 * 17.0);
            put(format!("<text x=\"{at}\" y=\"{height}\" class=\"key {class}\">{name}</text>"));
        }
        format!(
            "<figure><figcaption>{0}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">{svg}</svg></figure>\n",
            self.title
        )
    }
}

/// A line through the points, without those too near to the one before.
fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let (mut text, mut last) = (String::new(), None::<(f64, f64)>);
    let mut points = points.peekable();
    while let Some((x, y)) = points.next() {
        let near = last.is_some_and(|(a, b)| (x - a).abs() < NEAR && (y - b).abs() < NEAR);
        if near && points.peek().is_some() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{x:.1} {y:.1}", if last.is_none() { 'M' } else { 'L' });
        last = Some((x, y));
    }
    text
}

/// The next of 1, 2 or 5 times a power of ten.
pub(crate) fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(steps[3])
}

/// The shortest exact text of a multiple of a round step.
fn number_text(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", (value / 1e3).round() / 1e3),
        value if value >= 1e4 => format!("{}k", (value / 10.0).round() / 100.0),
        value => format!("{}", (value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!([0.11, 1.0, 3.0, 70.0, 2000.0].map(round_step), [0.2, 1.0, 5.0, 100.0, 2000.0]);
        assert_eq!([0.30000000000000004, 250.0, 45_000.0, 2.5e6].map(number_text), ["0.3", "250", "45k", "2.5M"]);
    }

    #[test]
    fn lines_are_drawn_to_scale_without_points_that_nobody_sees() {
        let points = vec![(0.0, 0.0), (0.001, 0.0), (5.0, 10.0), (10.0, 0.0)];
        let plot = Plot {
            title: "t",
            ticks: vec![(10.0, "end".into())],
            width: 10.0,
            lines: vec![("n", 'a', points)],
            spreads: vec![(5.0, 5.0, 10.0)],
        };
        let svg = plot.draw();
        assert!(svg.contains("d=\"M66.0 254.0L487.0 12.0L908.0 254.0\" class=\"line a\""), "{svg}");
        assert!(svg.contains("d=\"M487.0 133.0V12.0\" class=\"spread\""), "{svg}");
    }
}
