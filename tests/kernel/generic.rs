//! Cases after the conformance suites of kernel file systems (generic.py), on lower and upper objects.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Fixture, bytes};
use crate::harness::programs::run;

fn prepare(place: &Path) {
    for name in ["one", "two", "many", "removed"] {
        fs::create_dir_all(place.join(name)).unwrap();
    }
    for name in ["data", "attributes", "direct", "unlinked"] {
        fs::write(place.join(name), bytes(64 * 4096)).unwrap();
    }
    fs::write(place.join("one/f"), "f").unwrap();
    fs::write(place.join("two/g"), "g").unwrap();
    for number in 0..300 {
        fs::write(place.join("many").join(number.to_string()), "").unwrap();
    }
}

#[test]
fn cases_of_listings_direct_io_handles_and_times() {
    let f = Fixture::new(|lower| prepare(&lower.join("low")));
    prepare(&f.at("up"));
    f.mount.again();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel/generic.py");
    let mut python = Command::new("timeout");
    run(python.args(["300", "python3"]).arg(script).arg(&f.mount.at));
}
