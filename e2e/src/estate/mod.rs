//! One release and an estate full of special cases, as a table: what is there, what people do meanwhile, what must come of
//! it.
//!
//! `case.rs` is the shape of a row, `place.rs` the namespaces and plans, `play.rs` carries it out; the other files are the
//! table, a group each. A case may name a limit: what is known not to hold yet, and why. It is told, never left out.

pub mod act;
pub mod broken;
pub mod case;
pub mod expect;
pub mod later;
pub mod left;
pub mod moved;
pub mod people;
pub mod place;
pub mod play;
pub mod releases;
pub mod tenants;

/// The whole table.
pub fn cases() -> Vec<case::Case> {
    [
        moved::cases(),
        left::cases(),
        broken::cases(),
        people::cases(),
        later::cases(),
        tenants::cases(),
        releases::cases(),
    ]
    .concat()
}
