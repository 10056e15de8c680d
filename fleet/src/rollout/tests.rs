//! docs/FLEET.md, F10 and F11.

use layerfmt::Digest;
use wire::manifest::{RECORD_FORMAT, RingAction};

use super::*;
use crate::ending::Ending;

const NOW: i64 = 1_000_000;

fn record(rings: &[(&str, u64)]) -> RingRecord {
    let ring = |(name, revision): &(&str, u64)| Ring {
        head: Digest::default(),
        name: (*name).to_owned(),
        paused: false,
        policy: None,
        revision: *revision,
    };
    RingRecord {
        action: RingAction::Add,
        author: String::new(),
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: 1,
        message: String::new(),
        number: 1,
        previous: None,
        profile: "main".into(),
        quarantine_after: 3,
        quarantined: Vec::new(),
        rings: rings.iter().map(ring).collect(),
        system: "kiosk".into(),
    }
}

fn trial(machine: &str, ring: &str, revision: u64, good_ms: &[u64]) -> Trial {
    let boot = |ms: &u64| GoodBoot {
        began: NOW - 100,
        target_ms: Some(*ms),
    };
    Trial {
        machine: machine.into(),
        label: machine.into(),
        ring: ring.into(),
        history: "kiosk".parse().unwrap(),
        revision,
        heard: NOW - 10,
        good: good_ms.iter().map(boot).collect(),
        fails: false,
        last: (!good_ms.is_empty()).then_some(Ending::Good),
        last_began: NOW - 100,
        why: String::new(),
        restarts: 0,
    }
}

fn failing(machine: &str, ring: &str, revision: u64, ending: Ending) -> Trial {
    Trial {
        fails: true,
        last: Some(ending),
        ..trial(machine, ring, revision, &[])
    }
}

fn facts<'f>(record: &'f RingRecord, newest: u64, trials: &'f [Trial]) -> Facts<'f> {
    Facts {
        record,
        newest,
        trials,
        now: NOW,
    }
}

/// The unmet conditions of the promotion into the last ring; `None`: no promotion waits.
fn unmet(record: &RingRecord, newest: u64, trials: &[Trial]) -> Option<Vec<String>> {
    let waiting = facts(record, newest, trials).promotions().pop();
    waiting.map(|promotion| promotion.unmet)
}

fn with_policy(boots: Option<u64>, percent: Option<u64>, slower: Option<u64>) -> RingRecord {
    let mut record = record(&[("canary", 5), ("all", 5)]);
    record.rings[1].policy = Some(RingPolicy {
        boots,
        percent,
        slower,
        within: 3600,
    });
    record
}

/// F10.2, F10.4.
#[test]
fn a_ring_gets_a_revision_after_enough_good_boots() {
    let mut record = with_policy(Some(3), Some(100), None);
    let mut trials = vec![
        trial("pc1", "canary", 6, &[9000, 9000]),
        trial("pc2", "canary", 5, &[9000]),
        trial("pc3", "all", 5, &[9000]),
        trial("pc4", "canary", 6, &[]),
    ];
    let reasons = unmet(&record, 6, &trials).unwrap();
    assert_eq!(
        reasons,
        [
            "2 of 3 good boots",
            "1 of 3 machines good, 100 % are necessary"
        ]
    );
    trials[3] = trial("pc4", "canary", 6, &[9000]);
    trials.push(trial("pc2", "canary", 6, &[9000]));
    assert!(unmet(&record, 6, &trials).unwrap().is_empty());
    assert_eq!(unmet(&record, 5, &trials), None, "nothing newer");
    // Boots before `within` do not count.
    for trial in &mut trials {
        for boot in &mut trial.good {
            boot.began = NOW - 3601;
        }
    }
    assert_eq!(unmet(&record, 6, &trials).unwrap().len(), 2);
    for trial in &mut trials {
        for boot in &mut trial.good {
            boot.began = NOW - 3599;
        }
    }
    trials[0].fails = true;
    assert_eq!(unmet(&record, 6, &trials).unwrap(), ["it fails on pc1"]);
    trials[0].fails = false;
    record.rings[1].paused = true;
    assert_eq!(unmet(&record, 6, &trials).unwrap(), ["the ring is paused"]);
    record.rings[1].paused = false;
    record.rings[1].policy = None;
    assert_eq!(unmet(&record, 6, &trials).unwrap(), ["promoted by hand"]);
}

/// F10.3: the median on the same machines.
#[test]
fn a_slow_revision_is_not_promoted() {
    let record = with_policy(Some(1), None, Some(20));
    let mut trials = vec![
        trial("pc1", "canary", 5, &[10_000, 10_000, 11_000]),
        trial("pc1", "canary", 6, &[13_000, 13_000]),
        // An old machine without boots of the new revision does not hide it.
        trial("pc9", "all", 5, &[90_000; 9]),
    ];
    let reasons = unmet(&record, 6, &trials).unwrap();
    assert!(
        reasons[0].contains("13.0 s with 6 and 10.0 s with 5"),
        "{reasons:?}"
    );
    trials[1] = trial("pc1", "canary", 6, &[12_000, 11_000]);
    assert!(unmet(&record, 6, &trials).unwrap().is_empty());
    // Without boots of the old revision there is nothing to compare with.
    trials = vec![trial("pc1", "canary", 6, &[90_000])];
    assert!(unmet(&record, 6, &trials).unwrap().is_empty());
}

/// F11.2: enough machines, and the newest older revision that was good.
#[test]
fn a_revision_that_fails_on_machines_is_quarantined() {
    let mut record = record(&[("canary", 4), ("all", 4)]);
    let mut trials = vec![
        trial("pc1", "canary", 5, &[9000]),
        failing("pc1", "canary", 7, Ending::Panic),
        failing("pc2", "canary", 7, Ending::InitramfsHang),
        trial("pc3", "canary", 7, &[9000]),
    ];
    let held = facts(&record, 7, &trials).quarantines();
    assert_eq!(held[0].held.as_deref(), Some("3 machines are necessary"));
    trials[3] = failing("pc3", "canary", 7, Ending::Panic);
    let found = facts(&record, 7, &trials).quarantines().pop().unwrap();
    assert_eq!((found.revision, found.good, found.held), (7, Some(5), None));
    assert_eq!(found.machines, ["pc1", "pc2", "pc3"]);
    assert_eq!(found.reason, "panic on pc1, pc3; initramfs hang on pc2");
    // Without a good boot of an older revision: that of another ring.
    let without: Vec<Trial> = trials[1..].to_vec();
    assert_eq!(facts(&record, 7, &without).quarantines()[0].good, Some(4));
    record.quarantine_after = 0;
    assert!(facts(&record, 7, &trials).quarantines()[0].held.is_some());
    record.quarantine_after = 3;
    record.quarantined = vec![7];
    assert!(facts(&record, 7, &trials).quarantines().is_empty());
}

/// F11.3: if other revisions fail as well, the reason is elsewhere.
#[test]
fn a_revision_is_not_blamed_for_what_all_have() {
    let record = record(&[("canary", 5), ("all", 5)]);
    let mut trials: Vec<Trial> = ["pc1", "pc2", "pc3"]
        .map(|pc| failing(pc, "canary", 6, Ending::Degraded))
        .into();
    trials.extend(["pc4", "pc5"].map(|pc| failing(pc, "all", 5, Ending::Degraded)));
    let newest = || |found: &Quarantine| found.revision == 6;
    let found = facts(&record, 6, &trials).quarantines();
    let found = found.into_iter().find(newest()).unwrap();
    assert!(found.held.unwrap().contains("elsewhere"));
    trials.extend(["pc6", "pc7"].map(|pc| trial(pc, "all", 5, &[9000])));
    let found = facts(&record, 6, &trials).quarantines();
    let found = found.into_iter().find(newest()).unwrap();
    assert_eq!(found.held, None);
}
