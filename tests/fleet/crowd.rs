//! Many machines that boot at the same time while the process is killed.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use wire::hello::{Hello, Step};
use wire::machine::Identity;

use crate::site::{Site, hello};

/// Largest memory of the process, KiB.
const MEMORY_MAX_KIB: u64 = 64 << 10;

fn number(name: &str, usual: usize) -> usize {
    let value = std::env::var(name).ok();
    value.and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// The names of one scripted machine.
fn identity(machine: usize) -> Identity {
    let uuid = format!("{machine:08x}-1111-4222-8333-444455556666");
    let mac = format!("52:54:01:00:{:02x}:{:02x}", machine / 256, machine % 256);
    Identity::of_words(&uuid, &mac, "")
}

/// Boots a machine; returns the last step that the server acknowledged.
fn boot(site: &Site, machine: usize) -> Option<Step> {
    let from = Ipv4Addr::new(
        127,
        1,
        u8::try_from(machine / 250).unwrap(),
        u8::try_from(machine % 250).unwrap() + 1,
    );
    let names = identity(machine);
    let path = format!(
        "/boot.ipxe?uuid={}&mac={}&asset=",
        names.uuid.unwrap(),
        names.macs[0]
    );
    let _ = site.ask_from(from, "GET", &path, &[]);
    let mut reached = None;
    for step in [Step::Mounted, Step::Target] {
        let said = Hello {
            machine: names.clone(),
            ..hello(step, &format!("{machine:x}"))
        };
        let body = serde_json::to_vec(&said).unwrap();
        // A client retries; the process may be down for a moment.
        for _ in 0..200 {
            match site.ask_from(from, "POST", "/v1/hello", &body) {
                Ok(answer) if answer.status == 204 => {
                    reached = Some(said.reached());
                    break;
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    reached
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// F3.3: every acknowledged hello is in the database after the process is killed three times. `make
/// test-fleet` runs this test with 2,000 machines that boot within a minute.
#[test]
fn no_acknowledged_hello_is_lost_when_the_process_is_killed() {
    crowd(Site::new());
}

/// F1.6: the same with PostgreSQL.
#[test]
fn postgresql_loses_no_acknowledged_hello_when_the_process_is_killed() {
    let url = crate::postgresql::server().new_database();
    crowd(Site::with(&["--database", &url], &["--fleet"]));
}

fn crowd(mut site: Site) {
    let machines = number("LAYERFS_MACHINES", 120);
    let within = Duration::from_secs(number("LAYERFS_WITHIN", 3) as u64);
    let fleet = Arc::new(Mutex::new(site.fleet.take()));
    let (site, next) = (&site, &AtomicUsize::new(0));
    let acknowledged = &Mutex::new(HashMap::new());
    let start = Instant::now();
    let mut memory = 0;
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(move || {
                loop {
                    let machine = next.fetch_add(1, Ordering::Relaxed);
                    if machine >= machines {
                        return;
                    }
                    // The boots start evenly over the time.
                    let due = within.mul_f64(machine as f64 / machines as f64);
                    std::thread::sleep(due.saturating_sub(start.elapsed()));
                    if let Some(step) = boot(site, machine) {
                        acknowledged.lock().unwrap().insert(machine, step);
                    }
                }
            });
        }
        for _ in 0..3 {
            std::thread::sleep(within / 5);
            let running = fleet.lock().unwrap().take().unwrap();
            memory = memory.max(memory_kib(running.child.id()));
            running.kill();
            let mut again = site.bakery.command();
            again.arg("fleet");
            *fleet.lock().unwrap() = Some(crate::test_bakery::Running::start(&mut again));
        }
    });
    let took = start.elapsed();
    let pid = fleet.lock().unwrap().as_ref().unwrap().child.id();
    memory = memory.max(memory_kib(pid));
    let acknowledged = acknowledged.lock().unwrap();
    assert_eq!(
        acknowledged.len(),
        machines,
        "every machine got an acknowledgement"
    );
    let listed = site.machine(&["list"]);
    let found: HashMap<&str, &Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|machine| (machine["id"].as_str().unwrap(), machine))
        .collect();
    for (machine, step) in acknowledged.iter() {
        let id = identity(*machine).uuid.unwrap().to_string();
        let there = &found[id.as_str()]["boot"]["step"];
        assert_eq!(there, step.word(), "{id}");
    }
    println!("{machines} machines in {took:.1?}; the process had {memory} KiB at most");
    assert!(memory <= MEMORY_MAX_KIB, "{memory} KiB");
}
