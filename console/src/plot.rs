//! Plots as SVG.

use plotters::prelude::*;

/// Width and height of a plot.
const SIZE: (u32, u32) = (720, 200);
/// A color for both light and dark pages.
const INK: RGBColor = RGBColor(110, 120, 135);
/// The color of the line.
const LINE: RGBColor = RGBColor(37, 120, 214);

/// A line through points, with axes; empty for fewer than two points.
pub(crate) fn line(
    points: &[(f64, f64)],
    x: impl Fn(f64) -> String,
    y: impl Fn(f64) -> String,
) -> String {
    let mut text = String::new();
    if points.len() < 2 {
        return text;
    }
    match draw(points, &x, &y, &mut text) {
        Ok(()) => text,
        Err(error) => {
            tracing::warn!("a plot cannot be drawn: {error}");
            String::new()
        }
    }
}

fn draw(
    points: &[(f64, f64)],
    x: &impl Fn(f64) -> String,
    y: &impl Fn(f64) -> String,
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let bounds = |values: &dyn Fn(&(f64, f64)) -> f64| {
        let least = points.iter().map(values).fold(f64::INFINITY, f64::min);
        let most = points.iter().map(values).fold(f64::NEG_INFINITY, f64::max);
        (least, most.max(least + 1.0))
    };
    let (left, right) = bounds(&|point| point.0);
    let top = bounds(&|point| point.1).1 * 1.1;
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(72)
        .build_cartesian_2d(left..right, 0.0..top)?;
    let style = ("sans-serif", 13, &INK).into_text_style(&area);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(INK.mix(0.25))
        .light_line_style(INK.mix(0.0))
        .axis_style(INK)
        .label_style(style)
        .x_labels(6)
        .y_labels(4)
        .x_label_formatter(&|value| x(*value))
        .y_label_formatter(&|value| y(*value))
        .draw()?;
    chart.draw_series(LineSeries::new(
        points.iter().copied(),
        LINE.stroke_width(2),
    ))?;
    chart.draw_series(
        points
            .iter()
            .map(|point| Circle::new(*point, 3, LINE.filled())),
    )?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_svg_without_style() {
        let drawn = line(
            &[(1.0, 9.0), (2.0, 8.0)],
            |x| format!("{x}"),
            |y| format!("{y} s"),
        );
        assert!(
            drawn.starts_with("<svg") && !drawn.contains("style="),
            "{drawn}"
        );
        assert_eq!(
            line(&[(1.0, 1.0)], |_| String::new(), |_| String::new()),
            ""
        );
    }
}
