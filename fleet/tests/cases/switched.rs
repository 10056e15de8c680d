//! Switches of running machines to other revisions (docs/FLEET.md, F4.6).

use fleet::ending::Ending;
use fleet::record::State;
use fleet::store::Filter;
use wire::hello::{Health, Hello, Step};

use crate::judge::{APART, Fleet, who};

/// The hellos of one boot.
fn running(boot: &str, revision: u64, step: Step, state: &str) -> Hello {
    Hello {
        boot: boot.into(),
        revision: format!("kiosk/main@{revision}"),
        target_ms: (step == Step::Target).then_some(20_000),
        health: (step == Step::Target).then(|| Health {
            state: state.into(),
            ..Health::default()
        }),
        ..Hello::new(who(1), step)
    }
}

/// F4.6: a revision to which a running machine switched is not good before its own boot, and the boot
/// keeps what it was.
#[test]
fn a_switch_is_no_good_boot() {
    let mut fleet = Fleet::new();
    fleet.power_on(1, 6);
    fleet.say(running("a", 6, Step::Target, "running"));
    fleet.pass(60);
    for revision in [7, 8] {
        fleet.say(running("a", revision, Step::Mounted, ""));
        fleet.say(running("a", revision, Step::Target, "running"));
        fleet.pass(APART);
    }
    let shown = fleet.store.machines(&Filter::default(), fleet.now).unwrap();
    assert_eq!(shown[0].revision(), "kiosk/main@8");
    let outcomes = fleet
        .store
        .outcomes("52-54-00-00-00-01", fleet.now)
        .unwrap();
    let found: Vec<_> = (outcomes.iter())
        .map(|one| (one.boot.revision.as_str(), one.ending, one.boot.target_ms))
        .collect();
    assert_eq!(
        found,
        [
            ("kiosk/main@8", Ending::Switched, None),
            ("kiosk/main@6", Ending::Good, Some(20_000)),
        ]
    );
    let trials = fleet.store.trials(0, fleet.now).unwrap();
    let good: Vec<_> = (trials.iter())
        .map(|one| (one.revision, one.good.len(), one.fails))
        .collect();
    assert_eq!(good, [(6, 1, false), (8, 0, false)]);
    // Neither 7 nor 8 booted: the machine returns to 6.
    for _ in 0..3 {
        fleet.power_on(1, 9);
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(1).unwrap(), "kiosk/main@9 to kiosk/main@6");
    // A switch to the failed revision does not end the return either.
    fleet.power_on(1, 6);
    fleet.say(running("b", 6, Step::Target, "running"));
    fleet.say(running("b", 9, Step::Target, "running"));
    fleet.pass(APART);
    assert_eq!(fleet.back(1).unwrap(), "kiosk/main@9 to kiosk/main@6");
}

/// F4.6: the boot of a revision that was switched to decides, and a switch before the target is no
/// failure of the boot.
#[test]
fn the_boot_after_a_switch_counts() {
    let mut fleet = Fleet::new();
    fleet.good_boot(1, 6);
    for _ in 0..4 {
        fleet.power_on(1, 7);
        let boot = format!("{:x}", fleet.now);
        fleet.say(running(&boot, 7, Step::Mounted, ""));
        fleet.say(running(&boot, 8, Step::Mounted, ""));
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(1), None, "nothing says that 7 does not boot");
    fleet.good_boot(1, 8);
    for _ in 0..3 {
        fleet.power_on(1, 9);
        fleet.pass(APART);
    }
    assert_eq!(fleet.back(1).unwrap(), "kiosk/main@9 to kiosk/main@8");
}

/// F4.6: machines that were healthy and are degraded since a switch blame its revision, not that of
/// their boot; a machine that was degraded before does not.
#[test]
fn a_switch_that_makes_machines_degraded_fails() {
    for (before, minutes, fails) in [
        ("running", 20, true),
        ("running", 10, false),
        ("degraded", 20, false),
    ] {
        let mut fleet = Fleet::new();
        fleet.power_on(1, 6);
        fleet.say(running("a", 6, Step::Target, before));
        fleet.pass(60);
        fleet.say(running("a", 7, Step::Mounted, ""));
        fleet.pass(60 * minutes);
        fleet.say(running("a", 7, Step::Target, "degraded"));
        let shown = fleet.store.machines(&Filter::default(), fleet.now).unwrap();
        assert_eq!(shown[0].state, State::Degraded);
        let trials = fleet.store.trials(0, fleet.now).unwrap();
        let of_seven = trials.iter().find(|one| one.revision == 7).unwrap();
        assert_eq!(of_seven.fails, fails, "{before}, {minutes}");
        let of_six = trials.iter().find(|one| one.revision == 6).unwrap();
        assert_eq!(of_six.good.len(), usize::from(before == "running"));
    }
}

/// F4.6, F8.4: many machines that switch at once are no power cut.
#[test]
fn a_room_that_switches_is_no_power_cut() {
    let mut fleet = Fleet::new();
    for machine in 1..=6 {
        fleet.good_boot(machine, 6);
    }
    let say = |fleet: &mut Fleet, revision: u64, step: Step| {
        for machine in 2..=6 {
            fleet.say(Hello {
                machine: who(machine),
                ..running(&format!("of{machine}"), revision, step, "running")
            });
        }
    };
    for machine in 2..=6 {
        fleet.power_on(machine, 6);
    }
    say(&mut fleet, 6, Step::Target);
    for revision in [7, 8, 9] {
        fleet.power_on(1, 7);
        fleet.pass(600);
        say(&mut fleet, revision, Step::Mounted);
    }
    assert!(fleet.back(1).is_some());
}
