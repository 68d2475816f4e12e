//! Tests of a run: `plans` and `judged` for single decisions, `walk` for random estates on the way to their end, all over
//! `world`.

mod gates;
mod judged;
mod objects;
mod plans;
mod promises;
mod sim;
mod walk;
mod world;
