//! Tables for a terminal: no lines, two spaces between columns, as kubectl prints them.

use comfy_table::{Table, TableStyle};

/// A table with these headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(headings);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
