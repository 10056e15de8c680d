//! layerfmt
