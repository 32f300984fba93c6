//! Promises across roles: see `tests/`.
