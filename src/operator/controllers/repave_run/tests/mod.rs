//! Tests of a run: `plans`, `judged` and `refused` for single decisions, `walk` for random estates on the way to their end, all over
//! `world`.

mod exhaustive;
mod gates;
mod judged;
mod objects;
mod plans;
mod promises;
mod refused;
mod sim;
mod walk;
mod world;
