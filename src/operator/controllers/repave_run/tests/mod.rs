//! Tests of a run: `plans`, `judged`, `clocks`, `soaked`, `refused`, `reopened`, `set_back`, `stays`, `two_plans`, `tags`, `waves`,
//! `deleted` and `edits` for single decisions, `walk` for random estates on the way to their end, `leases` for two processes of which one
//! holds the lease, all over `world`; `batches`, `estate`, `whole` and `unseen` over an API server in memory.

mod batches;
mod clocks;
mod cluster;
mod deleted;
mod deletions;
mod edits;
mod estate;
mod exhaustive;
mod failures;
mod forged;
mod gates;
mod guards;
mod hidden;
mod judged;
mod late;
mod leaders;
mod leases;
mod objects;
mod opened;
mod ordered;
mod plans;
mod promises;
mod reconcile;
mod refused;
mod reopened;
mod restarts;
mod set_back;
mod sharing;
mod sim;
mod soaked;
mod stays;
mod tags;
mod tenants;
mod two_plans;
mod unseen;
mod walk;
mod waves;
mod whole;
mod world;
