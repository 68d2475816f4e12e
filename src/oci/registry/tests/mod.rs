//! The client against real registries ([`real`]), against hostile ones ([`hostile`], [`elsewhere`]) and against token
//! servers ([`tokens`]).

mod elsewhere;
mod hostile;
mod lures;
mod real;
mod tokens;
