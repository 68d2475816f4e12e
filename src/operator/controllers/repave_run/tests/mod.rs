//! Tests of a run: `plans` for single decisions, `walk` for random estates on the way to their end, both over `world`.

mod edits;
mod estate;
mod gates;
mod objects;
mod plans;
mod walk;
mod world;
