//! The state of the fleet: the machines, the steps that their boots reach, and their assignments.
//!
//! A separate process (`bakery fleet`) keeps this state. `bakery serve` forwards hellos to it and
//! asks it for assignments. Without the process every machine still boots (`docs/FLEET.md`).
//!
//! | module | content |
//! |---|---|
//! | [`store`] | the database |
//! | [`record`] | records of machines, boots and assignments |
//! | [`ending`] | how a boot ended |
//! | [`rollout`] | decides on promotions and quarantines |
//! | [`writer`] | the single thread that writes hellos, many in each transaction |
//! | [`limit`] | the rate limit of each address |
//! | [`metrics`] | the metrics page for Prometheus |
//! | [`messages`] | the messages between `bakery serve` and this process |
//! | [`wake`] | Wake-on-LAN |
//! | [`server`] | the HTTP routes and the sockets |

pub mod ending;
pub(crate) mod limit;
pub mod messages;
pub(crate) mod metrics;
pub mod record;
pub mod rollout;
pub mod server;
pub mod store;
pub mod wake;
pub mod writer;
