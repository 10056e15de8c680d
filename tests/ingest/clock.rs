//! A server whose clock is set back.

use super::OPENING;
use crate::test_bakery::{TestBakery, run, upload};

#[test]
fn a_clock_that_goes_back_loses_nothing_and_keeps_the_order() {
    let mut bakery = TestBakery::new();
    let mut jobs = Vec::new();
    // A year ahead, then to its true time, then two days back.
    for (number, clock) in ["+365d", "+0d", "-2d"].into_iter().enumerate() {
        bakery.set_clock(clock);
        for part in ["a", "b"] {
            let name = format!("{number}{part}");
            let job = bakery.receive("kiosk", OPENING, &upload(&name, name.as_bytes()));
            jobs.push((name, job.unwrap()));
        }
        bakery.drain();
        // The result of a reader with this clock.
        bakery.assert_sound();
    }
    let revisions = bakery.revisions("kiosk");
    let published: Vec<&str> = revisions
        .iter()
        .filter_map(|one| one.manifest.message.lines().last()?.strip_prefix("Job: "))
        .collect();
    let acknowledged: Vec<&str> = jobs.iter().map(|(_, job)| job.as_str()).collect();
    assert_eq!(published, acknowledged, "in the order they came");
    assert!(
        acknowledged.is_sorted(),
        "numbers only grow: {acknowledged:?}"
    );
    let times: Vec<u64> = revisions.iter().map(|one| one.head.issued_at).collect();
    assert!(times.is_sorted(), "a history's times only grow: {times:?}");
    let year = 364 * 24 * 3600;
    let now = bakery::clock::now();
    assert!(
        times[0] > now + year,
        "the first was published a year ahead"
    );
    for (name, _) in &jobs {
        let content = bakery.file("kiosk", &format!("etc/{name}"));
        assert_eq!(content.unwrap(), name.as_bytes());
    }
    // A sweep with a clock that was set back deletes no object in use.
    run(bakery.command().args(["gc", "--grace", "0s"]));
    bakery.assert_sound();
}
