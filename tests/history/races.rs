//! Eight writers, one number: exactly one gets it, and no writer's work is lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use bakery::history::HistoryError;
use bakery::publish::{Draft, Uploads};
use wire::manifest::Action;

use super::world::{files, name, shared, with};

const WRITERS: usize = 8;

#[test]
fn of_eight_writers_each_number_has_exactly_one() {
    let world = shared();
    let base = files([("base", "0")]);
    world.push("alt", &base);
    let start = Arc::new(Barrier::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (world, start, base) = (Arc::clone(&world), Arc::clone(&start), base.clone());
            std::thread::spawn(move || {
                let path = format!("by/{writer}");
                let target = with(&base, [(path.as_str(), Some("x"))]);
                start.wait();
                let made_on = Some(1);
                world
                    .try_push("alt", made_on, &target, bakery::graft::Resolution::Refuse)
                    .unwrap()
                    .number()
            })
        })
        .collect();
    let numbers: BTreeSet<u64> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    assert_eq!(numbers, (2..2 + WRITERS as u64).collect());
    let head = world.history().require_head(&name("alt")).unwrap();
    assert_eq!(
        world.files(&head).len(),
        1 + WRITERS,
        "every writer's file is there"
    );
    world.assert_sound();
}

#[test]
fn who_will_not_build_on_the_winner_loses() {
    let world = shared();
    world.push("alt", &files([("base", "0")]));
    for round in 0..5 {
        let expected = world.history().newest(&name("alt")).unwrap();
        let start = Arc::new(Barrier::new(WRITERS));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (world, start) = (Arc::clone(&world), Arc::clone(&start));
                std::thread::spawn(move || {
                    let publisher = world.publisher();
                    start.wait();
                    let won = publisher.publish(&name("alt"), Uploads::default(), |head, _| {
                        let head = head.unwrap();
                        if Some(head.number()) != expected {
                            return Err(HistoryError::Refused("too late".into()));
                        }
                        let message = format!("round {round} writer {writer}");
                        Ok(Draft::like(
                            &head.manifest,
                            Action::Resign,
                            "racer",
                            &message,
                        ))
                    });
                    won.is_ok()
                })
            })
            .collect();
        let winners = writers.into_iter().map(|w| w.join().unwrap());
        assert_eq!(winners.filter(|won| *won).count(), 1);
    }
    assert_eq!(world.history().newest(&name("alt")).unwrap(), Some(6));
    world.assert_sound();
}

#[test]
fn a_lost_or_lying_hint_changes_nothing() {
    let world = shared();
    world.push("alt", &files([("a", "1")]));
    world.push("alt", &files([("a", "2")]));
    let hint = world.dir.path().join("store/hints/alt/main");
    for lie in ["", "1", "99", "-1", "no number", "18446744073709551615"] {
        std::fs::write(&hint, lie).unwrap();
        assert_eq!(
            world.history().newest(&name("alt")).unwrap(),
            Some(2),
            "{lie}"
        );
    }
    std::fs::remove_file(&hint).unwrap();
    assert_eq!(world.history().newest(&name("alt")).unwrap(), Some(2));
}
