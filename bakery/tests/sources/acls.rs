//! ACLs that GNU tar writes by name.

use std::fs;

use super::hostile::{ended, entry, header, pax, refused};
use super::tree::{baked, dump, scratch, try_bake};
use bakery::bake::BaseStack;

const NAMED: &[u8] = b"user::rw-,user:joe:r--,group::r--,group:staff:rwx,mask::rwx,other::---";
const NUMBERED: &[u8] = b"user::rw-,user:1234:r--,group::r--,group:50:rwx,mask::rwx,other::---";
const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\njoe:x:1234:50::/home/joe:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:joe\n";

fn with_list(list: &[u8]) -> [Vec<u8>; 2] {
    [
        pax(&[("SCHILY.acl.access", list)]),
        entry(b"file", b'0', b"data"),
    ]
}

/// The tree's own names have precedence, wherever its passwd is in the archive; then those of the
/// base.
#[test]
fn names_are_those_of_the_tree_and_its_base() {
    let (_guard, place) = scratch();
    let bake = |name: &str, parts: &[Vec<u8>]| {
        let input = place.join(format!("{name}.tar"));
        fs::write(&input, ended(parts)).unwrap();
        baked(&input, None, &place.join(format!("{name}.layer")))
    };
    let accounts = [
        header(b"etc/", b'5', 0, b""),
        entry(b"etc/passwd", b'0', PASSWD),
        entry(b"etc/group", b'0', GROUP),
    ];
    let expected = bake("numbered", &[&with_list(NUMBERED)[..], &accounts].concat());
    let after = bake("after", &[&with_list(NAMED)[..], &accounts].concat());
    let before = bake("before", &[&accounts[..], &with_list(NAMED)].concat());
    assert!(
        dump(&expected).contains("posix_acl_access"),
        "{}",
        dump(&expected)
    );
    assert_eq!(dump(&after), dump(&expected));
    assert_eq!(dump(&before), dump(&expected));
    // An upper has no passwd: its base has.
    let base = BaseStack::of(&[bake("base", &accounts)]).unwrap();
    let change = |list: &[u8], name: &str| {
        let input = place.join(format!("{name}.tar"));
        fs::write(&input, ended(&with_list(list))).unwrap();
        dump(&baked(
            &input,
            Some(&base),
            &place.join(format!("{name}.layer")),
        ))
    };
    assert_eq!(change(NAMED, "change"), change(NUMBERED, "change-numbered"));
    // An unknown name is an error that names entry, name and remedy.
    let input = place.join("unknown.tar");
    fs::write(
        &input,
        ended(&with_list(
            b"user::rw-,user:eve:r--,group::r--,mask::r--,other::---",
        )),
    )
    .unwrap();
    let error = try_bake(&input, Some(&base), &place.join("unknown.layer")).unwrap_err();
    let error = format!("{error:#}");
    for word in ["\"file\"", "eve", "etc/passwd", "bsdtar"] {
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn what_is_no_list_is_refused_at_once() {
    let (_guard, place) = scratch();
    let bad = with_list(b"user::rw-,king:joe:r--");
    let message = refused("list", &ended(&bad), &place);
    assert!(message.contains("unknown kind"), "{message}");
    // No archive can contain the placeholder of a waiting list.
    let forged = [
        pax(&[("SCHILY.xattr.\0system.posix_acl_access", NAMED)]),
        entry(b"file", b'0', b"data"),
    ];
    refused("forged", &ended(&forged), &place);
}
