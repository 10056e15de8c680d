//! The counters of the network side of a mount, as `layerfs status` shows them and a boot report
//! sends them.
//!
//! One list makes the counters, a reading of them, and their names in JSON, so that a counter has
//! one spelling.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A reading of the counters.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// Counters that every thread adds to.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Counts {
            /// The reading in which each counter has the value that `value` gives for its name.
            pub fn by_name(value: impl Fn(&str) -> u64) -> Counts {
                Counts { $($name: value(stringify!($name)),)* }
            }

            /// The values.
            pub fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$name),*].into_iter()
            }
        }

        impl Counters {
            /// The values now.
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Body bytes received.
    bytes,
    /// Requests sent, including failed ones.
    requests,
    /// Exchanges that failed and were tried again.
    retries,
    /// Chunks refused for a wrong digest.
    corrupt,
    /// Chunks fetched on demand.
    demanded,
    /// Chunks fetched ahead.
    prefetched,
    /// Chunks from the boot pack's stream.
    pack_chunks,
    /// Chunks of the boot pack rebuilt from the layers because the pack was unavailable.
    rebuilt,
    /// Chunks found in a cache.
    cache_hits,
    /// Chunks read from the backup.
    backup_hits,
    /// Seconds in which a reader waited for a server for a second or more.
    waited_s,
}

impl Counters {
    /// Adds `count` to one of the counters.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_key_in_json() {
        let counters = Counters::default();
        Counters::add(&counters.waited_s, 3);
        Counters::add(&counters.bytes, 5);
        let counts = counters.read();
        let json = serde_json::to_value(&counts).unwrap();
        let again = Counts::by_name(|name| json[name].as_u64().unwrap());
        assert_eq!(again, counts);
        assert_eq!(counts.values().sum::<u64>(), 8);
        assert_eq!(json.as_object().unwrap().len(), counts.values().count());
    }
}
