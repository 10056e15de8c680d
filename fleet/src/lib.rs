//! The state of the fleet: which machine boots what, how far it came, and what it is meant to boot.
//!
//! A process of its own (`bakery fleet`) keeps this state; `bakery serve` passes hellos on and asks what a machine
//! boots. Without the process every machine still boots (`docs/FLEET.md`).
//!
//! | module | what it is |
//! |---|---|
//! | [`store`] | the database |
//! | [`record`] | machines, boots and assignments as they are read and shown |
//! | [`writer`] | the one thread that writes hellos, many in each transaction |
//! | [`limit`] | how many hellos one address may send |
//! | [`metrics`] | the page for Prometheus |
//! | [`wake`] | Wake-on-LAN |
//! | [`server`] | the routes, and the sockets |

pub mod limit;
pub mod metrics;
pub mod record;
pub mod server;
pub mod store;
pub mod wake;
pub mod writer;
