//! An import makes a boot pack of predicted pages, and the first trace replaces it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use bakery::publish::pack::{PageOrigin, Sources, publish};

use super::client::{Client, program};
use super::server::Bakery;
use super::site::{SYSTEM, Site};

/// Programs that the first program of the system starts, one after the other.
const PROGRAMS: [&str; 4] = ["one", "two", "three", "four"];
const PROGRAM_LEN: usize = 400_000;

fn write_program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// A system whose init starts [`PROGRAMS`]; `never` is a program that nothing starts.
pub(crate) fn system(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let filler = |salt: usize, len: usize| -> String {
        let line = |number: usize| {
            format!(
                "# {:016x}\n",
                (number * 2_654_435_761 + salt) ^ (number << 20)
            )
        };
        let text: String = (0..len / 19).map(line).collect();
        format!("#!/bin/sh\n{text}")
    };
    for (salt, name) in PROGRAMS.into_iter().chain(["never"]).enumerate() {
        write_program(&root.join("usr/bin").join(name), &filler(salt, PROGRAM_LEN));
    }
    write_program(
        &root.join("sbin/init"),
        "#!/bin/sh\nif one; then\n  two | three\nfi\nexec four\n",
    );
    let mut files = BTreeMap::new();
    for name in PROGRAMS
        .map(|name| format!("usr/bin/{name}"))
        .into_iter()
        .chain(["sbin/init".into()])
    {
        files.insert(name.clone(), std::fs::read(root.join(&name)).unwrap());
    }
    files
}

/// Reads the files as their boot does; returns the requests for chunks outside the pack.
fn boot(client: &Client, files: &BTreeMap<String, Vec<u8>>) -> u64 {
    for (name, bytes) in files {
        assert!(
            &std::fs::read(client.at.join(name)).unwrap() == bytes,
            "{name}"
        );
    }
    client.number("demanded")
}

#[test]
fn an_import_predicts_a_pack_that_brings_the_first_boot_and_the_first_trace_replaces_it() {
    let site = Site::empty();
    let root = site.path("tree");
    let files = system(&root);
    let imported = Command::new(program("bakery"))
        .arg("--store")
        .arg(site.store())
        .args(["--json", "import", SYSTEM, "--level", "3"])
        .arg(&root)
        .output()
        .unwrap();
    assert!(
        imported.status.success(),
        "{}",
        String::from_utf8_lossy(&imported.stderr)
    );
    let answer: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!(
        answer["published"],
        format!("{SYSTEM}@1"),
        "the pack is a part of the revision"
    );
    assert!(answer["predicted_pack"].as_u64() > Some(0), "{answer}");

    let bakery = Bakery::serve(&site);
    let url = format!("{}/{SYSTEM}", bakery.url());
    let client = Client::mount(&url, &site.allowed_signers(), &["--prefetch", "pack"]);
    client.wait_for("pack", "complete");
    assert_eq!(
        boot(&client, &files),
        0,
        "the pack lacks a page: {}",
        client.status()
    );
    let never = std::fs::read(root.join("usr/bin/never")).unwrap();
    assert!(std::fs::read(client.at.join("usr/bin/never")).unwrap() == never);
    assert!(client.number("demanded") > 0, "nothing starts this program");
    assert!(client.run("push-trace").status.success());

    let sources = Sources {
        spool: Some(site.path("spool")),
        files: Vec::new(),
        share: 25,
        predict: true,
    };
    let make = || publish(&site.publisher(), &Site::name(), &sources, false).unwrap();
    let report = make();
    assert_eq!(
        (report.origin, report.traces, report.revision),
        (PageOrigin::Traces, 1, Some(2))
    );
    let again = make();
    assert_eq!(
        (again.covered, again.revision),
        (100, None),
        "a pack of a boot stays"
    );
    let without = Sources {
        spool: None,
        ..sources.clone()
    };
    let predicted = publish(&site.publisher(), &Site::name(), &without, false).unwrap();
    assert_eq!(
        (predicted.origin, predicted.revision),
        (PageOrigin::Predicted, None),
        "a prediction replaces no pack of a boot"
    );
    // "A revision that has a pack of boots already keeps it; --force replaces it." (OPERATIONS)
    let rehearse = |more: &[&str]| {
        let mut command = Command::new(program("bakery"));
        command.arg("--store").arg(site.store());
        command.args(["rehearse", SYSTEM]).args(more);
        command.output().unwrap()
    };
    let kept = rehearse(&[]);
    let said = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(kept.status.success(), "{said}");
    assert!(said.contains("keeps its boot pack"), "{said}");
    let forced = rehearse(&["--force"]);
    let said = String::from_utf8_lossy(&forced.stderr).into_owned();
    assert!(said.contains("bakery initrd"), "it would boot: {said}");
}

#[test]
fn a_small_system_and_one_without_a_pack_get_none() {
    let site = Site::empty();
    let root = site.path("tree");
    write_program(&root.join("sbin/init"), "#!/bin/sh\n");
    std::fs::create_dir_all(root.join("usr")).unwrap();
    let import = |name: &str, more: &[&str]| {
        let imported = Command::new(program("bakery"))
            .arg("--store")
            .arg(site.store())
            .args(["--json", "import", name, "--level", "3"])
            .args(more)
            .arg(&root)
            .output()
            .unwrap();
        assert!(
            imported.status.success(),
            "{}",
            String::from_utf8_lossy(&imported.stderr)
        );
        serde_json::from_slice::<serde_json::Value>(&imported.stdout).unwrap()
    };
    assert!(import("small", &[])["predicted_pack"].is_null());
    system(&root);
    assert!(import("without", &["--no-pack"])["predicted_pack"].is_null());
    assert!(import("with", &[])["predicted_pack"].is_u64());
}
