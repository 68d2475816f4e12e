//! The client against real registries ([`real`]), against hostile ones ([`hostile`]) and against token servers
//! ([`tokens`]).

mod hostile;
mod real;
mod tokens;
