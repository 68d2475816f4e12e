//! Tests of a run: `plans`, `judged`, `refused`, `reopened` and `edits` for single decisions, `walk` for random estates on the way to
//! their end, all over `world`; `estate` over an API server in memory.

mod edits;
mod estate;
mod exhaustive;
mod gates;
mod judged;
mod objects;
mod plans;
mod promises;
mod refused;
mod reopened;
mod sim;
mod walk;
mod world;
