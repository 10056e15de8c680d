//! Keys, tokens and values of machines, by the statements of docs/FLEET.md (F7, F12).

use fleet::store::{Database, FleetMessage, MachineFacts, MachineOrGroup, Proof};
use wire::hello::{Hello, Step};
use wire::machine::Identity;
use wire::machine_key::{PublicKey, SecretKey};
use wire::manifest::MachineValue;

const UUID: &str = "4c4c4544-0042-3510-8051-b4c04f564433";
const NOW: i64 = 1_900_000_000;
/// A signature of the key in the hello.
const SIGNED: Proof = Proof {
    menu: false,
    token: false,
    signed: true,
};
const MENU: Proof = Proof {
    menu: true,
    token: false,
    signed: false,
};

fn key(seed: u8) -> PublicKey {
    SecretKey::of(&[seed; 32]).public()
}

fn hello(boot: &str, key: Option<PublicKey>) -> Hello {
    let who = Identity::of_words(UUID, "52:54:00:00:00:01", "");
    let step = if boot.is_empty() {
        Step::Menu
    } else {
        Step::Mounted
    };
    Hello {
        boot: boot.into(),
        key,
        ..Hello::new(who, step)
    }
}

fn hear(store: &mut Database, hello: Hello, proof: Proof, now: i64) -> MachineFacts {
    let (hello, from) = (Box::new(hello), "10.0.0.1".into());
    store
        .hear(&[FleetMessage::Hello { hello, from, proof }], now)
        .unwrap()
        .remove(0)
}

fn text(text: &str) -> MachineValue {
    MachineValue::Text(text.into())
}

/// F7.2: with a room token, a hello without it is refused and changes nothing; the firmware's
/// request for the menu cannot have one.
#[test]
fn a_token_is_necessary_if_the_room_has_one() {
    let spool = crate::engine::spool();
    let mut store = Database::create(spool.path()).unwrap().with_token(true);
    assert!(hear(&mut store, hello("a1", None), Proof::default(), NOW).refused);
    assert!(store.machine(UUID, NOW).is_err());
    assert!(!hear(&mut store, hello("", None), MENU, NOW).refused);
    assert!(hear(&mut store, hello("a1", None), Proof::default(), NOW).refused);
    let machine = store.machine(UUID, NOW).unwrap();
    assert_eq!(machine.boot.as_ref().unwrap().step, Step::Menu);
    assert!(machine.is_doubtful());
    let token = Proof {
        token: true,
        ..Proof::default()
    };
    assert!(!hear(&mut store, hello("a1", None), token, NOW).refused);
    assert_eq!(
        store.machine(UUID, NOW).unwrap().boot.unwrap().step,
        Step::Mounted
    );
}

/// F7.3: the hellos of a machine with an accepted key are signed by that key; others are refused
/// and reported. The operator accepts a key by its fingerprint.
#[test]
fn an_accepted_key_signs_every_hello() {
    let spool = crate::engine::spool();
    let mut store = Database::create(spool.path()).unwrap();
    let (own, other) = (Some(key(1)), Some(key(2)));
    // A key without its signature is not the sender's.
    hear(&mut store, hello("a1", other), Proof::default(), NOW);
    assert_eq!(store.machine(UUID, NOW).unwrap().offered, None);
    hear(&mut store, hello("a1", own), SIGNED, NOW);
    assert_eq!(store.machine(UUID, NOW).unwrap().offered, own);
    let wrong = store.accept_key(UUID, &key(2).fingerprint()).unwrap_err();
    assert!(wrong.to_string().contains(&key(1).fingerprint()), "{wrong}");
    store.accept_key(UUID, &key(1).fingerprint()).unwrap();
    for (key, proof) in [
        (None, Proof::default()),
        (own, Proof::default()),
        (other, SIGNED),
    ] {
        assert!(hear(&mut store, hello("a2", key), proof, NOW + 9).refused);
    }
    let machine = store.machine(UUID, NOW + 9).unwrap();
    assert_eq!((machine.key, machine.offered), (own, None));
    assert_eq!(machine.forged_seen, Some(NOW + 9));
    assert!(!hear(&mut store, hello("a2", own), SIGNED, NOW + 10).refused);
    // A repeated hello of an earlier boot.
    assert!(hear(&mut store, hello("a1", own), SIGNED, NOW + 900).refused);
    assert!(!hear(&mut store, hello("a2", own), SIGNED, NOW + 900).refused);
}

/// F12.4: a secret needs an accepted key, and goes with it.
#[test]
fn a_secret_needs_a_key_and_goes_with_it() {
    let spool = crate::engine::spool();
    let mut store = Database::create(spool.path()).unwrap();
    hear(&mut store, hello("a1", Some(key(1))), SIGNED, NOW);
    let machine = MachineOrGroup::Machine(UUID.into());
    let sealed = key(1).seal("x", b"hunter2", [7; 32]).unwrap();
    let secret = MachineValue::Sealed(wire::machine_key::hex(&sealed));
    for whom in [&machine, &MachineOrGroup::Group("room".into())] {
        assert!(store.set_value(whom, "wifi", Some(&secret)).is_err());
    }
    store.accept_key(UUID, &key(1).fingerprint()).unwrap();
    store.set_value(&machine, "wifi", Some(&secret)).unwrap();
    store
        .set_value(&machine, "room", Some(&text("B12")))
        .unwrap();
    assert_eq!(store.values(&machine).unwrap().len(), 2);
    assert!(
        store
            .set_value(&machine, "hostname", Some(&secret))
            .is_err()
    );
    store.remove_key(UUID).unwrap();
    let left: Vec<String> = store.values(&machine).unwrap().into_keys().collect();
    assert_eq!(left, ["room"]);
}

/// F12.1: the values of a machine have precedence over those of its group.
#[test]
fn values_come_from_group_and_machine() {
    let spool = crate::engine::spool();
    let mut store = Database::create(spool.path()).unwrap();
    hear(&mut store, hello("a1", None), Proof::default(), NOW);
    store.set_group(UUID, Some("room")).unwrap();
    let (machine, group) = (
        MachineOrGroup::Machine(UUID.into()),
        MachineOrGroup::Group("room".into()),
    );
    store
        .set_value(&group, "locale", Some(&text("de_DE.UTF-8")))
        .unwrap();
    store
        .set_value(&group, "printer", Some(&text("hall")))
        .unwrap();
    store
        .set_value(&machine, "printer", Some(&text("desk")))
        .unwrap();
    let of = |store: &Database| {
        store
            .effective_values(UUID)
            .unwrap()
            .into_values()
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&store), [text("de_DE.UTF-8"), text("desk")]);
    store.set_value(&machine, "printer", None).unwrap();
    assert_eq!(of(&store), [text("de_DE.UTF-8"), text("hall")]);
    assert_eq!(store.machines_of("room").unwrap(), [UUID]);
    for (name, value) in [
        ("Hostname", "x"),
        ("../x", "x"),
        ("hostname", "a b"),
        ("hostname", ""),
        ("hostname", "-a"),
        ("locale", "de DE"),
        ("printer", "a/b"),
        ("free", "a\nb"),
        ("free", &"x".repeat(4097)),
    ] {
        let set = store.set_value(&machine, name, Some(&text(value)));
        assert!(set.is_err(), "{name}={value}");
    }
    // The values of a forgotten machine go with it.
    store.set_value(&machine, "free", Some(&text("x"))).unwrap();
    store.forget(UUID).unwrap();
    assert!(store.values(&machine).unwrap().is_empty());
}
