//! S7.3 in this process: the kernel opens a handle by its number and its generation.

use std::fs;
use std::path::Path;

use layerfs::filesystem::LayerFs;

use crate::log;
use crate::session::baker::bake;
use crate::session::direct::Direct;
use crate::session::files::Files as _;
use crate::session::{Attached as _, Attr, Errno, Parts, Result};
use crate::transport::Room;

/// Number and generation, as in a file handle.
type Handle = (u64, u32);

fn begin(room: &Room, fill: impl FnOnce(&Path)) -> Direct {
    let lower = room.dir("lower");
    fill(&lower);
    let layer = room.path("base.layer");
    bake(&lower, &layer);
    let parts = Parts {
        layers: vec![layer],
        upper: Some((room.dir("u"), room.dir("w"))),
        options: String::new(),
    };
    log::start();
    // Nothing stays known.
    Direct::begin(parts, 0, log::lines).unwrap()
}

fn handle(session: &Direct, path: &str) -> Handle {
    let about = session.about(path).unwrap();
    (about.ino, about.generation)
}

/// As the kernel looks up `.` of a number, and compares the generation.
fn open(session: &Direct, (id, generation): Handle) -> Result<Attr> {
    let fs = session.fs()?;
    let found = |fs: &LayerFs| match fs.lookup_self(id)? {
        Some(about) => Ok(about),
        None => fs.search_self(id),
    };
    let about = found(&fs).map_err(Errno::from)?;
    fs.forget(id, 1);
    match about.generation == generation {
        true => Ok(about),
        false => Err(Errno::STALE),
    }
}

/// "A file handle opens the object for which it was made, also after a copy-up or a rename, after a
/// long time without lookups, and after a remount with the same layers and upper."
#[test]
fn s7_3_a_handle_opens_its_object_or_nothing() {
    let room = Room::new();
    let session = begin(&room, |lower| {
        fs::create_dir_all(lower.join("dir/sub")).unwrap();
        for path in ["plain", "written", "moved", "dir/sub/file", "gone"] {
            fs::write(lower.join(path), path).unwrap();
        }
    });
    session.mkdir("new").unwrap();
    session.put("new/made", "made").unwrap();
    session.put("new/gone", "gone").unwrap();
    let paths = [
        "plain",
        "written",
        "moved",
        "dir/sub/file",
        "new/made",
        "new",
    ];
    let handles = paths.map(|path| handle(&session, path));
    let gone = ["gone", "new/gone"].map(|path| handle(&session, path));

    session.append("written", " more").unwrap();
    session.mv("moved", "new/elsewhere").unwrap();
    session.mv("dir", "new/dir").unwrap();
    session.mv("new", "other").unwrap();
    session.unlink("gone").unwrap();
    session.unlink("other/gone").unwrap();
    let now = [
        "plain",
        "written",
        "other/elsewhere",
        "other/dir/sub/file",
        "other/made",
        "other",
    ];
    for remounts in 0..2 {
        session.forget();
        for (of, path) in handles.iter().zip(now) {
            let found = open(&session, *of).unwrap_or_else(|errno| panic!("{path}: {errno}"));
            let about = session.about(path).unwrap();
            assert_eq!((found.ino, found.size), (about.ino, about.size), "{path}");
        }
        for of in gone {
            assert_eq!(
                open(&session, of),
                Err(Errno::STALE),
                "remounts: {remounts}"
            );
        }
        session.detach();
        session.attach();
    }
    // The number may be used again; the generation is another.
    let (id, generation) = handles[0];
    assert_eq!(open(&session, (id, generation ^ 1)), Err(Errno::STALE));
}
