//! docs/FLEET.md, F9: the changes of rings.

use layerfmt::Digest;
use wire::manifest::{RECORD_FORMAT, RingAction};

use super::*;

fn record() -> RingRecord {
    RingRecord {
        action: RingAction::Add,
        author: "test".into(),
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: 1,
        message: String::new(),
        number: 1,
        previous: None,
        profile: "main".into(),
        quarantine_after: 3,
        quarantined: Vec::new(),
        rings: vec![Ring {
            head: Digest::default(),
            name: "all".into(),
            paused: false,
            policy: None,
            revision: 5,
        }],
        system: "kiosk".into(),
    }
}

/// Name and revision of each ring if `newest` is the newest revision.
fn rings(record: &RingRecord, newest: u64) -> Vec<(&str, u64)> {
    record.render().unwrap();
    let each = record.rings.iter();
    each.map(|ring| (ring.name.as_str(), record.current(ring, newest)))
        .collect()
}

#[test]
fn a_new_first_ring_takes_the_newest_from_the_old_one() {
    let mut record = record();
    assert_eq!(rings(&record, 7), [("all", 7)]);
    add(&mut record, "canary", "all", 7).unwrap();
    assert_eq!(rings(&record, 7), [("canary", 7), ("all", 7)]);
    assert_eq!(rings(&record, 8), [("canary", 8), ("all", 7)]);
    add(&mut record, "early", "all", 8).unwrap();
    assert_eq!(rings(&record, 9), [("canary", 9), ("early", 7), ("all", 7)]);
    assert!(add(&mut record, "early", "all", 8).is_err());
    assert!(add(&mut record, "../x", "all", 8).is_err());
    assert!(add(&mut record, "x", "none", 8).is_err());
}

/// A removal gives no machine a new revision but those of the removed ring.
#[test]
fn removing_the_first_ring_moves_no_other() {
    let mut record = record();
    add(&mut record, "canary", "all", 5).unwrap();
    remove(&mut record, "canary", 8).unwrap();
    assert_eq!(rings(&record, 8), [("all", 5)]);
    resume(&mut record, "all").unwrap();
    assert_eq!(rings(&record, 8), [("all", 8)]);
    assert!(remove(&mut record, "all", 8).is_err());
}

#[test]
fn a_promotion_takes_the_revision_of_the_ring_before() {
    let mut record = record();
    add(&mut record, "canary", "all", 5).unwrap();
    assert!(promote(&mut record, "canary", None, 8).is_err());
    assert_eq!(promote(&mut record, "all", None, 8).unwrap(), 8);
    assert!(promote(&mut record, "all", None, 8).is_err(), "already");
    assert!(promote(&mut record, "all", Some(9), 8).is_err());
    assert_eq!(promote(&mut record, "all", Some(6), 8).unwrap(), 6);
    promote(&mut record, "canary", Some(7), 8).unwrap();
    assert_eq!(rings(&record, 9), [("canary", 7), ("all", 6)]);
    resume(&mut record, "canary").unwrap();
    pause(&mut record, "canary", 9).unwrap();
    assert_eq!(rings(&record, 10), [("canary", 9), ("all", 6)]);
}

/// F11: rings return to the good revision; later revisions are not blocked.
#[test]
fn a_quarantine_takes_back_every_ring_that_had_the_revision() {
    let mut record = record();
    add(&mut record, "canary", "all", 5).unwrap();
    add(&mut record, "early", "all", 5).unwrap();
    promote(&mut record, "early", None, 8).unwrap();
    quarantine(&mut record, 8, 7, 8).unwrap();
    assert_eq!(rings(&record, 8), [("canary", 7), ("early", 7), ("all", 5)]);
    assert_eq!(rings(&record, 9), [("canary", 9), ("early", 7), ("all", 5)]);
    for wrong in [
        quarantine(&mut record, 8, 7, 9),
        quarantine(&mut record, 10, 7, 9),
        quarantine(&mut record, 9, 8, 9),
        quarantine(&mut record, 9, 9, 9),
    ] {
        assert!(wrong.is_err());
    }
    assert!(promote(&mut record, "all", Some(8), 9).is_err());
    release(&mut record, 8).unwrap();
    assert_eq!(rings(&record, 8), [("canary", 8), ("early", 7), ("all", 5)]);
}
