//! The client against real registries (`real`) and against hostile ones (`hostile`).
