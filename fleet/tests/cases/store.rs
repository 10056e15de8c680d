//! The database of the fleet, by the statements of docs/FLEET.md.
use wire::hello::{Health, Hello, Step};
use wire::machine::{BootCard, Identity, PciCard};

use fleet::record::{BOOT_DEADLINE_S, BOOTS_KEPT, SILENCE_S, State};
use fleet::store::{Database, Filter, FleetMessage, Proof, StoreError};

const UUID: &str = "4c4c4544-0042-3510-8051-b4c04f564433";
const SWAPPED: &str = "44454c4c-4200-1035-8051-b4c04f564433";
const NOW: i64 = 1_900_000_000;

fn store() -> (tempfile::TempDir, Database) {
    let spool = crate::engine::spool();
    let store = Database::create(spool.path()).unwrap();
    (spool, store)
}

fn who(uuid: &str, mac: u8) -> Identity {
    Identity::of_words(uuid, &format!("52:54:00:00:00:{mac:02x}"), "")
}

/// A hello of a running kernel.
fn of(machine: Identity, boot: &str, step: Step) -> Hello {
    Hello {
        boot: boot.to_owned(),
        revision: "kiosk/main@7".into(),
        ..Hello::new(machine, step)
    }
}

fn hear(store: &mut Database, hello: Hello, now: i64) -> String {
    let from = String::from("10.0.0.17");
    let hello = Box::new(hello);
    let proof = Proof::default();
    let heard = FleetMessage::Hello { hello, from, proof };
    let known = store.hear(&[heard], now).unwrap();
    known[0].machine.clone()
}

fn healthy(mut hello: Hello) -> Hello {
    hello.health = Some(Health {
        state: "running".into(),
        ..Health::default()
    });
    hello
}

/// docs/FLEET.md F2.2: both byte orders of a UUID, and a loader without the UUID, name one machine.
#[test]
fn the_names_of_all_loaders_lead_to_one_machine() {
    let (_spool, mut store) = store();
    let first = hear(&mut store, Hello::new(who("", 1), Step::Menu), NOW);
    assert_eq!(first, "52-54-00-00-00-01");
    for uuid in [UUID, SWAPPED, ""] {
        let id = hear(&mut store, of(who(uuid, 1), "a1", Step::Mounted), NOW + 60);
        assert_eq!(id, first, "{uuid}");
    }
    let machine = store.machine(UUID, NOW).unwrap_err();
    assert!(
        matches!(machine, StoreError::NoMachine(_)),
        "its id is the address of its card"
    );
    let machine = store.machine("52:54:00:00:00:01", NOW).unwrap();
    assert_eq!(machine.uuid.as_deref(), Some(UUID));
    assert_eq!(store.machines(&Filter::default(), NOW).unwrap().len(), 1);
}

/// docs/FLEET.md F2.3: the same UUID with other cards is another machine, reported as a duplicate.
#[test]
fn a_copied_uuid_makes_two_machines_that_are_reported() {
    let (_spool, mut store) = store();
    let one = hear(&mut store, of(who(UUID, 1), "a1", Step::Mounted), NOW);
    let two = hear(&mut store, of(who(UUID, 2), "b1", Step::Mounted), NOW);
    assert_eq!(
        (one.as_str(), two.as_str()),
        (
            UUID,
            "4c4c4544-0042-3510-8051-b4c04f564433_52-54-00-00-00-02"
        )
    );
    assert_eq!(
        hear(&mut store, of(who(UUID, 2), "b1", Step::Mounted), NOW),
        two
    );
    assert_eq!(
        hear(&mut store, of(who(UUID, 1), "a1", Step::Mounted), NOW),
        one
    );
    let second = store.machine(&two, NOW).unwrap();
    assert_eq!(second.duplicate_of.as_deref(), Some(UUID));
    assert_eq!(store.machine(&one, NOW).unwrap().duplicate_of, None);
}

/// docs/FLEET.md F2.4: a card that moves between two machines with UUIDs changes neither of them.
#[test]
fn a_card_that_moves_makes_no_machine_another() {
    let (_spool, mut store) = store();
    let other = "5c4c4544-0042-3510-8051-b4c04f564433";
    let one = hear(&mut store, of(who(UUID, 1), "a1", Step::Mounted), NOW);
    let two = hear(&mut store, of(who(other, 1), "b1", Step::Mounted), NOW);
    assert_eq!((one.as_str(), two.as_str()), (UUID, other));
}

/// docs/FLEET.md F2.5: two machines that run under one name are reported.
#[test]
fn a_machine_that_runs_twice_at_once_is_reported() {
    let (_spool, mut store) = store();
    let id = hear(&mut store, of(who(UUID, 1), "a1", Step::Mounted), NOW);
    hear(&mut store, of(who(UUID, 1), "b2", Step::Mounted), NOW + 10);
    // A hello of the previous boot may arrive late.
    hear(&mut store, of(who(UUID, 1), "a1", Step::Target), NOW + 20);
    assert_eq!(store.machine(&id, NOW).unwrap().clone_seen, None);
    hear(&mut store, of(who(UUID, 1), "a1", Step::Target), NOW + 310);
    assert_eq!(store.machine(&id, NOW).unwrap().clone_seen, Some(NOW + 310));
}

/// docs/FLEET.md F4.1: a boot is one row from its menu to its health.
#[test]
fn a_boot_goes_from_menu_to_healthy() {
    let (_spool, mut store) = store();
    let id = hear(&mut store, Hello::new(who(UUID, 1), Step::Menu), NOW);
    // The machine returns to the menu and fetches again.
    hear(&mut store, Hello::new(who(UUID, 1), Step::Menu), NOW + 5);
    for step in [Step::Kernel, Step::Initramfs] {
        let machine = id.clone();
        store
            .hear(
                &[FleetMessage::Fetched {
                    machine,
                    step,
                    revision: String::new(),
                }],
                NOW + 10,
            )
            .unwrap();
        assert_eq!(
            store.machine(&id, NOW + 10).unwrap().boot.unwrap().step,
            step
        );
    }
    let state = |store: &Database, now| store.machine(&id, now).unwrap().state;
    assert_eq!(state(&store, NOW + 20), State::Booting);
    assert_eq!(state(&store, NOW + BOOT_DEADLINE_S + 1), State::Stopped);
    hear(&mut store, of(who(UUID, 1), "a1", Step::Mounted), NOW + 30);
    let mut reached = healthy(of(who(UUID, 1), "a1", Step::Target));
    reached.target_ms = Some(9_300);
    hear(&mut store, reached.clone(), NOW + 60);
    assert_eq!(state(&store, NOW + 60), State::Good);
    // A later hello without `target_ms` keeps the time.
    reached.target_ms = None;
    hear(&mut store, reached.clone(), NOW + 360);
    let boots = store.boots(&id).unwrap();
    assert_eq!(boots.len(), 1);
    assert_eq!(
        (boots[0].step, boots[0].target_ms),
        (Step::Healthy, Some(9_300))
    );
    assert_eq!(boots[0].revision, "kiosk/main@7");
    // A healthy machine becomes degraded.
    reached.health.as_mut().unwrap().units = vec!["cups.service".into()];
    hear(&mut store, reached, NOW + 660);
    assert_eq!(state(&store, NOW + 660), State::Degraded);
    assert_eq!(state(&store, NOW + 660 + SILENCE_S + 1), State::Off);
    // The next power-on adds a row.
    hear(
        &mut store,
        Hello::new(who(UUID, 1), Step::Menu),
        NOW + 9_000,
    );
    assert_eq!(store.boots(&id).unwrap().len(), 2);
    assert_eq!(state(&store, NOW + 9_000), State::Booting);
}

/// docs/FLEET.md F4.4: the database keeps the last 50 boots, and none older than `--keep-days`.
#[test]
fn what_is_kept_is_bounded() {
    let (_spool, mut store) = store();
    for boot in 0..BOOTS_KEPT + 7 {
        let at = NOW + i64::from(boot) * 3600;
        hear(
            &mut store,
            of(who(UUID, 1), &format!("{boot:x}"), Step::Mounted),
            at,
        );
    }
    let boots = store.boots(UUID).unwrap();
    assert_eq!(boots.len(), BOOTS_KEPT as usize);
    assert_eq!(boots[0].began, NOW + i64::from(BOOTS_KEPT + 6) * 3600);
    let named = hear(&mut store, of(who("", 2), "c1", Step::Mounted), NOW);
    store.set_name(&named, Some("pc2")).unwrap();
    let later = NOW + 40 * 24 * 3600;
    store.prune(30, later).unwrap();
    let left = store.machines(&Filter::default(), later).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].label(), left[0].boot.is_none()), ("pc2", true));
}

/// docs/FLEET.md F6.4: invented machines never replace a machine that the operator named.
#[test]
fn invented_machines_push_out_only_strangers() {
    let (_spool, store) = store();
    let mut store = store.with_machines_max(20);
    let named = hear(&mut store, of(who("", 1), "a1", Step::Mounted), NOW);
    store.set_name(&named, Some("pc1")).unwrap();
    for at in 2..=200_u8 {
        hear(
            &mut store,
            Hello::new(who("", at), Step::Menu),
            NOW + i64::from(at),
        );
    }
    let left = store.machines(&Filter::default(), NOW).unwrap();
    assert_eq!(left.len(), 20);
    assert!(store.machine("pc1", NOW).is_ok());
    assert!(
        store.machine("52:54:00:00:00:c8", NOW).is_ok(),
        "the newest"
    );
}

#[test]
fn the_operator_names_groups_notes_and_forgets() {
    let (_spool, mut store) = store();
    let one = hear(&mut store, of(who(UUID, 1), "a1", Step::Mounted), NOW);
    let two = hear(&mut store, of(who("", 2), "b1", Step::Mounted), NOW);
    store.set_name(&one, Some("pc17")).unwrap();
    store.set_group(&one, Some("room-3")).unwrap();
    store.set_note(&one, "fan is loud").unwrap();
    let taken = store.set_name(&two, Some("pc17")).unwrap_err().to_string();
    assert!(taken.contains("another machine is called pc17"), "{taken}");
    for wrong in ["", "pc 17", "../x", "-x", &"x".repeat(65)] {
        assert!(store.set_name(&two, Some(wrong)).is_err(), "{wrong}");
    }
    for name in ["pc17", UUID, "52-54-00-00-00-01", "4C4C4544"] {
        assert_eq!(store.machine(name, NOW).unwrap().id, one, "{name}");
    }
    let of_group = Filter {
        group: Some("room-3".into()),
        ..Filter::default()
    };
    assert_eq!(store.machines(&of_group, NOW).unwrap().len(), 1);
    let silent = Filter {
        silent_s: Some(3 * 86_400),
        ..Filter::default()
    };
    assert!(store.machines(&silent, NOW).unwrap().is_empty());
    assert_eq!(store.machines(&silent, NOW + 4 * 86_400).unwrap().len(), 2);
    let revision = |name: &str| Filter {
        revision: Some(name.into()),
        ..Filter::default()
    };
    for (name, count) in [
        ("kiosk/main", 2),
        ("kiosk/main@7", 2),
        ("kiosk/main@8", 0),
        ("kiosk", 0),
    ] {
        assert_eq!(
            store.machines(&revision(name), NOW).unwrap().len(),
            count,
            "{name}"
        );
    }
    store.forget(&one).unwrap();
    assert!(store.machine(&one, NOW).is_err());
    assert!(store.boots(&one).unwrap().is_empty());
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    let (spool, store) = store();
    drop(store);
    crate::engine::set_version(spool.path(), 99);
    let said = Database::open(spool.path()).unwrap_err().to_string();
    assert!(said.contains("use the newer program"), "{said}");
    let nothing = tempfile::tempdir().unwrap();
    let said = Database::open(nothing.path()).unwrap_err().to_string();
    assert!(said.contains("bakery fleet"), "{said}");
}

/// docs/FLEET.md F5.7: the menu has the card of the last boot if that boot mounted its root with it.
#[test]
fn a_card_is_known_after_a_boot_that_mounted_with_it() {
    let (_spool, mut store) = store();
    let mut now = NOW;
    let mut tell = |message: FleetMessage| {
        now += 1000;
        store.hear(&[message], now).unwrap().remove(0)
    };
    let said = |hello: Hello| FleetMessage::Hello {
        hello: Box::new(hello),
        from: "10.0.0.17".into(),
        proof: Proof::default(),
    };
    let menu = |mac: u8| said(Hello::new(who(UUID, mac), Step::Menu));
    let e1000e: PciCard = "8086:10d3".parse().unwrap();
    let boot = |boot: &str, step: Step, card: Option<PciCard>| {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        said(Hello {
            card: card.map(|pci| BootCard { mac, pci }),
            ..of(who(UUID, 1), boot, step)
        })
    };
    let fetched = || FleetMessage::Fetched {
        machine: UUID.into(),
        step: Step::Initramfs,
        revision: "kiosk/main@7".into(),
    };
    assert_eq!(tell(menu(1)).card, None, "a new machine");
    tell(boot("a1", Step::Mounted, Some(e1000e)));
    assert_eq!(tell(menu(1)).card, Some(e1000e));
    assert_eq!(tell(menu(1)).card, Some(e1000e), "a power-off in the menu");
    let mut second = Identity::of_words(UUID, "52:54:00:00:00:02", "");
    second.macs.extend(who(UUID, 1).macs);
    let other = said(Hello::new(second, Step::Menu));
    assert_eq!(tell(other).card, None, "another card of the machine");
    tell(menu(1));
    tell(fetched());
    assert_eq!(tell(menu(1)).card, None, "the initramfs found no root");
    tell(fetched());
    tell(boot("a2", Step::Index, Some(e1000e)));
    assert_eq!(tell(menu(1)).card, None, "the mount stopped");
    tell(fetched());
    tell(boot("a3", Step::Target, Some(e1000e)));
    assert_eq!(tell(menu(1)).card, Some(e1000e));
    tell(boot("a4", Step::Mounted, None));
    assert_eq!(tell(menu(1)).card, None, "the card is no PCI card");
}
