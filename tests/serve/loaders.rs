//! Requests of boot loaders, byte for byte, and the necessary answers. `make test-loaders` runs the
//! loaders themselves.

use super::Server;
use crate::test_bakery::{TestBakery, initramfs, run, text};

/// The exact head of an answer and its body.
fn exchange(server: &Server, request: &str) -> (String, Vec<u8>) {
    use std::io::{Read as _, Write as _};
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).unwrap();
    let mut raw = Vec::new();
    let mut part = [0; 4096];
    // HTTP/1.1 loaders do not wait for the end of the connection, only for the announced length.
    loop {
        let len = stream.read(&mut part).unwrap();
        raw.extend(&part[..len]);
        let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") else {
            assert!(len > 0, "{}", text(&raw));
            continue;
        };
        let head = text(&raw[..end + 2]);
        let announced = head.split("Content-Length: ").nth(1);
        let announced = announced
            .unwrap_or_else(|| panic!("no Content-Length in exactly these letters: {head}"));
        let announced: usize = announced.split("\r\n").next().unwrap().parse().unwrap();
        if raw.len() >= end + 4 + announced || len == 0 {
            return (head, raw[end + 4..].to_vec());
        }
    }
}

/// GRUB 2.06 and 2.12 as Debian has them.
fn grub(path: &str, version: &str, range: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 10.0.2.2\r\nUser-Agent: GRUB {version}\r\n{range}\r\n")
}

#[test]
fn grub_reads_menu_kernel_and_initrd() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    // GRUB leaves the port out of its Host, and must find it in the menu.
    let port = server.address.port();
    for version in ["2.06-13+deb12u2", "2.12-9+deb13u4"] {
        let (head, menu) = exchange(&server, &grub("/grub.cfg", version, ""));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(!head.contains("chunked"), "{head}");
        let menu = text(&menu);
        assert!(menu.contains("BOOTIF=01-$net_default_mac"), "{menu}");
        assert!(
            menu.contains(&format!(
                "root=layerfs:http://10.0.2.2:{port}/kiosk/main@1 "
            )),
            "{menu}"
        );
        let initrd = menu
            .split(&format!("initrd '(http,10.0.2.2:{port})"))
            .nth(1)
            .unwrap();
        let initrd = initrd.split('\'').next().unwrap();
        let (head, body) = exchange(&server, &grub(initrd, version, ""));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, initramfs());
        // GRUB seeks with new requests.
        let (head, body) = exchange(&server, &grub(initrd, version, "Range: bytes=100-\r\n"));
        assert!(
            head.starts_with("HTTP/1.1 206 Partial Content\r\n"),
            "{head}"
        );
        assert_eq!(body, initramfs()[100..]);
        let (head, _) = exchange(&server, &grub("/nothing", version, ""));
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    }
}

#[test]
fn lpxelinux_reads_its_configuration() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let request = |path: &str| {
        format!(
            "GET {path} HTTP/1.0\r\nHost: 10.0.2.2:8080\r\nUser-Agent: Syslinux/6.04\r\nConnection: close\r\n\r\n"
        )
    };
    let (head, config) = exchange(&server, &request("/pxelinux.cfg/default"));
    assert!(
        head.starts_with("HTTP/1.0 200 OK\r\n") || head.starts_with("HTTP/1.1 200 OK\r\n"),
        "{head}"
    );
    let config = text(&config);
    assert!(
        config.contains("INITRD http://10.0.2.2:8080/boot/"),
        "{config}"
    );
    let initrd = config.split("INITRD http://10.0.2.2:8080").nth(1).unwrap();
    let (_, body) = exchange(&server, &request(initrd.lines().next().unwrap()));
    assert_eq!(body, initramfs());
}

/// iPXE of QEMU's ROMs.
fn ipxe(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.20.1+\r\nHost: 10.0.2.2:8080\r\n\r\n"
    )
}

#[test]
fn ipxe_is_led_to_main_and_shown_what_there_is() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let body = |path: &str| text(&exchange(&server, &ipxe(path)).1);
    assert!(body("/ipxe/kiosk").contains("root=layerfs:http://10.0.2.2:8080/kiosk/main@1 "));
    assert!(!body("/ipxe/kiosk").contains("/lab/"));
    let one = body("/ipxe/kiosk@1");
    assert!(
        one.contains("/kiosk/main@1 ") && !one.contains("choose"),
        "{one}"
    );
    for path in ["/ipxe/kiosc", "/ipxe/kiosk@9", "/ipxe/kiosk/nothing"] {
        let script = body(path);
        assert!(
            script.starts_with("#!ipxe\n") && script.contains("menu This server has no kios"),
            "{script}"
        );
        assert!(
            script.contains("item e0 kiosk revision 1, 20") && !script.contains("--timeout 1"),
            "{script}"
        );
    }
    assert_eq!(
        server.get("/ipxe/kiosc", &[]).status,
        404,
        "others hear the truth in the status"
    );
    assert_eq!(server.get("/ipxe/Bad!", &[]).status, 404);
}

#[test]
fn labels_say_system_revision_date_and_message() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let date = run(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let label = format!("kiosk revision 1, {}  the base", text(&date.stdout).trim());
    for path in ["/boot.ipxe", "/grub.cfg", "/pxelinux.cfg/default"] {
        let menu = text(&server.get(path, &[]).body);
        assert!(menu.contains(&label), "{path}: {menu}");
    }
}

#[test]
fn an_initramfs_of_the_distribution_is_no_entry() {
    let bakery = TestBakery::new();
    let tree = bakery.path("system");
    for directory in ["sbin", "usr/bin"] {
        std::fs::create_dir_all(tree.join(directory)).unwrap();
    }
    std::fs::write(tree.join("sbin/init"), "init").unwrap();
    let tree = tree.display().to_string();
    let (kernel, initrd) = (bakery.path("vmlinuz"), bakery.path("distribution.img"));
    std::fs::write(&kernel, "kernel").unwrap();
    let theirs = text(&initramfs()).replace("bin/layerfs", "bin/busybox");
    std::fs::write(&initrd, zstd::encode_all(theirs.as_bytes(), 3).unwrap()).unwrap();
    let import = |system: &str, more: &[&str]| {
        run(bakery.command().args(["import", system, &tree]).args(more));
    };
    let kernel = kernel.display().to_string();
    import(
        "live",
        &[
            "--kernel",
            &kernel,
            "--initrd",
            &initrd.display().to_string(),
        ],
    );
    import("bare", &["--kernel", &kernel]);
    import("lab", &[]);
    let server = Server::start(&bakery, &[]);
    for path in ["/boot.ipxe", "/grub.cfg", "/pxelinux.cfg/default"] {
        let menu = text(&server.get(path, &[]).body);
        assert!(
            menu.contains("live has the initramfs of its distribution: run bakery initrd live"),
            "{menu}"
        );
        assert!(
            menu.contains("bare has no kernel or no initramfs: run bakery initrd bare"),
            "{menu}"
        );
        assert!(
            !menu.contains("/live/main@1") && !menu.contains("/bare/main@1"),
            "{path}: {menu}"
        );
        // An older bootable revision is offered, with the reason why the newest is not.
        assert!(
            menu.contains("/lab/main@1 ") && menu.contains("lab has no kernel"),
            "{path}: {menu}"
        );
    }
    let script = text(&exchange(&server, &ipxe("/ipxe/live@1")).1);
    assert!(
        script.contains("run bakery initrd live") && !script.contains("root=layerfs"),
        "{script}"
    );
}

#[test]
fn the_landing_page_says_what_there_is() {
    let bakery = TestBakery::new();
    let server = Server::start(&bakery, &[]);
    let page = server.get("/", &["accept: text/html,*/*"]);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let html = text(&page.body);
    assert!(
        html.contains("<a href=\"/ipxe/kiosk\">kiosk</a></td><td>1</td>"),
        "{html}"
    );
    assert!(html.contains("layerfs mount http://x/SYSTEM"), "{html}");
    let lines = text(&server.get("/", &[]).body);
    assert!(
        lines.contains("  kiosk                    revision 1  20") && lines.contains("the base"),
        "{lines}"
    );
    let bundle = server.get("/v1/bundle/kiosc/main", &[]);
    assert_eq!(bundle.status, 404);
    assert!(
        text(&bundle.body).contains("no kiosc/main. It has:\n  kiosk "),
        "{bundle:?}"
    );
}
