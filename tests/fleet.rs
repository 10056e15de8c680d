//! The fleet over real connections: `bakery fleet`, `bakery serve --fleet`, real mounts and `bakery
//! machine`. The numbers (F1.1) are those of the statements in docs/FLEET.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test says what is wrong by failing"
)]

#[path = "fleet/back.rs"]
mod back;
#[path = "fleet/client.rs"]
mod client;
#[path = "fleet/crowd.rs"]
mod crowd;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "fleet/harness.rs"]
mod harness;
#[path = "fleet/ipxe.rs"]
mod ipxe;
#[path = "fleet/menus.rs"]
mod menus;
#[allow(dead_code, reason = "the tests of the database use the rest")]
#[path = "../fleet/tests/cases/server.rs"]
mod postgresql;
#[path = "fleet/rings.rs"]
mod rings;
#[allow(dead_code, reason = "the suite uses the rest")]
mod scratch;
#[path = "fleet/site.rs"]
mod site;
#[path = "fleet/story.rs"]
mod story;
#[allow(dead_code, reason = "the suite uses the rest")]
mod test_bakery;
#[path = "fleet/trust.rs"]
mod trust;
#[path = "fleet/values.rs"]
mod values;
