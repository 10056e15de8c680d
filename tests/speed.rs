//! The model test in the process and on a mount, in one run: `make semantics-figures`.

use crate::session::direct::Direct;
use crate::session::{Attached, Parts, baker};
use crate::transport::{self, Room};

/// Nodes that stay known in the process.
const REMEMBERED: usize = 64;

fn in_process(_: &Room, parts: Parts) -> Result<Box<dyn Attached>, String> {
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
    let direct = crate::model::measure(cases, steps, in_process, baker::bake).as_secs_f64();
    let mounted =
        crate::model::measure(cases, steps, transport::begin, transport::bake).as_secs_f64();
    println!(
        "model, {cases} x {steps} operations: in the process {direct:.1} s, mounted {mounted:.1} s, {:.1} times faster",
        mounted / direct
    );
}
