//! Returns to the last good revision, by the statements of docs/FLEET.md (F8).
use fleet::record::BOOT_DEADLINE_S;
use fleet::store::{Database, FleetMessage, MachineFacts, Proof};
use wire::hello::{Health, Hello, Step};
use wire::machine::Identity;

const START: i64 = 1_900_000_000;
/// Seconds from one power-on to the next: somebody notices a hanging machine after a while.
pub(crate) const APART: i64 = 1800;

/// A fleet with its clock.
pub(crate) struct Fleet {
    spool: tempfile::TempDir,
    pub(crate) store: Database,
    pub(crate) now: i64,
    watch: i64,
}

impl Fleet {
    pub(crate) fn new() -> Fleet {
        let spool = crate::engine::spool();
        let store = Database::create(spool.path()).unwrap();
        let watch = store.begin_watch(START).unwrap();
        Fleet {
            spool,
            store,
            now: START,
            watch,
        }
    }

    pub(crate) fn hear(&mut self, heard: FleetMessage) -> MachineFacts {
        self.store.hear(&[heard], self.now).unwrap().remove(0)
    }

    /// Advances the clock and sends a heartbeat.
    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        let watch = self.watch;
        self.hear(FleetMessage::Beat { watch });
    }

    pub(crate) fn say(&mut self, hello: Hello) -> MachineFacts {
        self.hear(FleetMessage::Hello {
            hello: Box::new(hello),
            from: "10.0.0.1".into(),
            proof: Proof::default(),
        })
    }

    /// Powers a machine on: it gets its menu and fetches the files of a revision.
    pub(crate) fn power_on(&mut self, machine: u8, revision: u64) -> MachineFacts {
        let known = self.say(Hello::new(who(machine), Step::Menu));
        for step in [Step::Kernel, Step::Initramfs] {
            self.hear(FleetMessage::Fetched {
                machine: known.machine.clone(),
                step,
                revision: format!("kiosk/main@{revision}"),
            });
        }
        known
    }

    pub(crate) fn reach(&mut self, machine: u8, revision: u64, step: Step, state: &str) {
        let hello = Hello {
            boot: format!("{machine:x}{:x}", self.now),
            revision: format!("kiosk/main@{revision}"),
            health: (step == Step::Target).then(|| Health {
                state: state.into(),
                ..Health::default()
            }),
            ..Hello::new(who(machine), step)
        };
        self.say(hello);
    }

    pub(crate) fn good_boot(&mut self, machine: u8, revision: u64) -> MachineFacts {
        let known = self.power_on(machine, revision);
        self.reach(machine, revision, Step::Target, "running");
        self.pass(APART);
        known
    }

    /// The return in the answer to the next power-on of a machine.
    pub(crate) fn back(&mut self, machine: u8) -> Option<String> {
        let known = self.say(Hello::new(who(machine), Step::Menu));
        known
            .returned
            .map(|back| format!("{} to {}", back.from, back.to))
    }
}

pub(crate) fn who(machine: u8) -> Identity {
    Identity::of_words("", &format!("52:54:00:00:00:{machine:02x}"), "")
}

/// F8.1, F8.2: the machine returns at the fourth power-on, not before; the reason of the failures
/// does not matter.
#[test]
fn the_fourth_power_on_boots_the_last_good_revision() {
    for step in [Step::Initramfs, Step::Mounted, Step::Target] {
        let mut fleet = Fleet::new();
        fleet.good_boot(1, 6);
        for _ in 0..3 {
            let known = fleet.power_on(1, 7);
            assert_eq!((known.returned, known.returns_now), (None, false), "{step}");
            if step > Step::Initramfs {
                fleet.reach(1, 7, step, "degraded");
            }
            fleet.pass(APART);
        }
        let known = fleet.power_on(1, 6);
        assert!(known.returns_now);
        let back = known.returned.unwrap();
        assert_eq!(
            (back.from.as_str(), back.to.as_str()),
            ("kiosk/main@7", "kiosk/main@6")
        );
        // The return stays in force and is reported once.
        fleet.reach(1, 6, Step::Target, "running");
        fleet.pass(APART);
        for _ in 0..5 {
            let known = fleet.good_boot(1, 6);
            assert!(known.returned.is_some() && !known.returns_now, "{step}");
        }
    }
}

/// F8.2: a boot loop counts: three boots within minutes.
#[test]
fn a_boot_loop_is_judged_as_well() {
    let mut fleet = Fleet::new();
    fleet.good_boot(1, 6);
    for _ in 0..3 {
        assert_eq!(fleet.power_on(1, 7).returned, None);
        fleet.pass(150);
    }
    assert_eq!(fleet.back(1).unwrap(), "kiosk/main@7 to kiosk/main@6");
}

/// F8.3: a healthy boot or a boot of another revision interrupts the row; without a last good
/// revision there is no return.
#[test]
fn no_return_without_failures_in_a_row_and_a_last_good() {
    let mut fleet = Fleet::new();
    for machine in [1, 2] {
        fleet.good_boot(machine, 6);
    }
    for revision in [7, 7, 8, 7, 7] {
        fleet.power_on(1, revision);
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(1), None, "another revision in between");
    for good in [false, false, true, false, false] {
        fleet.power_on(2, 7);
        if good {
            fleet.reach(2, 7, Step::Target, "running");
        }
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(2), None, "a good boot in between");
    // Machine 3 has no healthy boot; the boots of machine 2 stop at the kernel.
    for _ in 0..6 {
        fleet.power_on(3, 7);
        let known = fleet.say(Hello::new(who(2), Step::Menu));
        fleet.hear(FleetMessage::Fetched {
            machine: known.machine,
            step: Step::Kernel,
            revision: "kiosk/main@7".into(),
        });
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(3), None, "no last good");
    assert_eq!(fleet.back(2), None, "its boots stopped at the kernel");
}

/// F8.4: boots during an outage of the process do not count.
#[test]
fn an_outage_of_the_server_is_no_bad_revision() {
    let mut fleet = Fleet::new();
    fleet.good_boot(1, 6);
    for _ in 0..6 {
        fleet.power_on(1, 7);
        // No heartbeat: the process stops during the boot and starts again after it.
        fleet.now += APART;
        fleet.watch = fleet.store.begin_watch(fleet.now).unwrap();
    }
    assert_eq!(fleet.back(1), None);
    // The process runs during the next three boots.
    for _ in 0..3 {
        fleet.power_on(1, 7);
        fleet.pass(APART);
    }
    assert!(fleet.back(1).is_some());
}

/// F8.4: a power cut also stops healthy machines; a bad revision does not.
#[test]
fn a_power_cut_is_no_bad_revision() {
    for (others_run, expected) in [(true, None), (false, Some("kiosk/main@7 to kiosk/main@6"))] {
        let mut fleet = Fleet::new();
        for machine in 1..=6 {
            fleet.good_boot(machine, 6);
        }
        for _ in 0..3 {
            fleet.power_on(1, 7);
            for machine in 2..=6 {
                fleet.power_on(machine, 7);
                if others_run {
                    fleet.reach(machine, 7, Step::Target, "running");
                }
            }
            // Ten minutes later a power cut stops the room.
            fleet.pass(600);
        }
        const { assert!(600 < BOOT_DEADLINE_S) };
        for machine in 2..=6 {
            fleet.power_on(machine, 7);
        }
        assert_eq!(
            fleet.back(1).as_deref(),
            expected,
            "others run: {others_run}"
        );
    }
}

/// F8.1: the newest older revision that was healthy, not the one that was healthy last.
#[test]
fn the_newest_good_revision_is_the_last_good_one() {
    let mut fleet = Fleet::new();
    for revision in [5, 6, 5] {
        fleet.good_boot(1, revision);
    }
    for _ in 0..3 {
        fleet.power_on(1, 7);
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(1).unwrap(), "kiosk/main@7 to kiosk/main@6");
}

/// F8.5: a healthy boot of a newer revision ends the return, also for lists and metrics.
#[test]
fn a_newer_good_revision_ends_a_return() {
    let mut fleet = Fleet::new();
    fleet.good_boot(1, 6);
    for _ in 0..3 {
        fleet.power_on(1, 7);
        fleet.pass(APART);
    }
    assert!(fleet.back(1).is_some());
    fleet.good_boot(1, 6);
    assert_eq!(fleet.store.census(fleet.now).unwrap().returned, 1);
    fleet.good_boot(1, 8);
    assert_eq!(fleet.store.census(fleet.now).unwrap().returned, 0);
    assert_eq!(fleet.back(1), None);
}

/// F8.5: `retry` and a healthy boot of the failed revision end a return.
#[test]
fn a_good_boot_or_the_operator_lifts_a_return() {
    let mut fleet = Fleet::new();
    fleet.good_boot(1, 6);
    let fail = |fleet: &mut Fleet| {
        for _ in 0..3 {
            fleet.power_on(1, 7);
            fleet.pass(APART);
        }
        fleet.back(1)
    };
    assert!(fail(&mut fleet).is_some());
    fleet.pass(1);
    let now = fleet.now;
    fleet.store.retry("52-54-00-00-00-01", now).unwrap();
    assert_eq!(fleet.back(1), None);
    fleet.pass(APART);
    assert!(fail(&mut fleet).is_some(), "later failures count again");
    // A healthy boot of the failed revision ends the return.
    fleet.reach(1, 7, Step::Target, "running");
    fleet.pass(APART);
    assert_eq!(fleet.back(1), None);
}

/// F8.7: `--return-after 0` turns returns off.
#[test]
fn nobody_returns_when_that_is_off() {
    let mut fleet = Fleet::new();
    fleet.store = Database::open(fleet.spool.path())
        .unwrap()
        .with_return_after(0);
    fleet.good_boot(1, 6);
    for _ in 0..8 {
        fleet.power_on(1, 7);
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(1), None);
}
