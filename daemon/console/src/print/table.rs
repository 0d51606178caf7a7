//! Aligned columns.

use std::io::{self, Write};

use super::{Color, Span, Style, line};

/// Rows of cells; the first is the head.
pub(crate) struct Table {
    rows: Vec<Vec<Span>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|name| Span::new(name).color(Color::Faint)).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<Span>) {
        self.rows.push(cells);
    }

    pub(crate) fn write(&self, out: &mut impl Write, style: &Style) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |n: usize| {
            self.rows.iter().filter_map(|row| row.get(n)).map(Span::chars).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            // No blanks at the end of a line: after the last cell that has text nothing is padded.
            let used = row.iter().rposition(|cell| cell.chars() > 0).map_or(0, |last| last + 1);
            let mut spans = Vec::with_capacity(used * 2);
            for (n, (cell, width)) in row.iter().zip(&widths).take(used).enumerate() {
                spans.push(cell.clone());
                if n + 1 < used {
                    let blanks = width - cell.chars();
                    spans.push(Span::new(format!("{:blanks$}{GAP}", "")));
                }
            }
            line(out, style, &spans)?;
        }
        Ok(())
    }
}
