//! bakery
