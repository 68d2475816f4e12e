//! The custom resources (see below).
