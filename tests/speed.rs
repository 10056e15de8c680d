//! The model test in the process and on a mount, in one run: `make semantics-figures`.

use std::time::Duration;

use crate::session::direct::Direct;
use crate::session::{Attached, Parts, baker};
use crate::transport::{self, Room};

/// Nodes that are cached in the process, as many as a kernel caches here: all.
const REMEMBERED: usize = 1024;

fn in_process(_: &Room, mut parts: Parts) -> Result<Box<dyn Attached>, String> {
    // A kernel caches the pages of the lower; the session caches its decoded chunks.
    parts.options = "memory".to_owned();
    Ok(Box::new(Direct::begin(parts, REMEMBERED, String::new)?))
}

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[test]
#[ignore = "a measurement: make semantics-figures"]
fn model_in_the_process_and_mounted() {
    let cases = setting("LAYERFS_MODEL_CASES", 500);
    let steps = setting("LAYERFS_MODEL_STEPS", 100);
    let direct = crate::model::measure(cases, steps, in_process, baker::bake);
    let mounted = crate::model::measure(cases, steps, transport::begin, transport::bake);
    let row = |part: &str, direct: Duration, mounted: Duration| {
        let (direct, mounted) = (direct.as_secs_f64(), mounted.as_secs_f64());
        println!(
            "model, {cases} x {steps} operations, {part}: in the process {direct:.1} s, mounted {mounted:.1} s, {:.1} times faster",
            mounted / direct
        );
    };
    row("calls of the file system", direct.calls, mounted.calls);
    row("the whole test", direct.whole, mounted.whole);
}
