//! `workload`: one case of the comparison, run once on a mounted tree and timed from inside.
//!
//! `workload CASE ROOT [LIST]` prints `SECONDS OPERATIONS BYTES`. LIST names files below ROOT, one per line.
//!
//! walk        read every directory, stat every entry
//! negative    look up names that do not exist, eight in each directory of the listed files
//! open        open, read up to 64 KiB and close each listed file
//! sequential  read each listed file from its start to its end, 1 MiB at a time
//! random      4096 reads of 4 KiB at random places of the listed files
//! chmod       change the mode of each listed file
//! create      make a new directory with 4096 files of 4 KiB
//! unlink      remove what `create` made
//! write       write 1 GiB to one new file, 1 MiB at a time, and remove it

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use layerfs_benches::fixture::Failure;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chmod, openat, stat, statat};

const NEW_FILES: u32 = 4096;
const RANDOM_READS: u64 = 4096;
const WRITTEN: u64 = 1 << 30;

/// The result of a case, apart from its time.
#[derive(Default)]
struct Done {
    operations: u64,
    bytes: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "workload: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (case, root) = arguments
        .next()
        .zip(arguments.next())
        .ok_or("usage: workload CASE ROOT [LIST]")?;
    let root = PathBuf::from(root);
    let list: Vec<PathBuf> = match arguments.next() {
        Some(list) => fs::read_to_string(list)?
            .lines()
            .map(|line| root.join(line))
            .collect(),
        None => Vec::new(),
    };
    let (took, done) = measure(&case, &root, &list)?;
    writeln!(
        io::stdout(),
        "{} {} {}",
        took.as_secs_f64(),
        done.operations,
        done.bytes
    )?;
    Ok(())
}

fn measure(case: &str, root: &Path, list: &[PathBuf]) -> Result<(Duration, Done), Failure> {
    let scratch = root.join("layerfs-bench-scratch");
    let start = Instant::now();
    let done = match case {
        "walk" => walk(root)?,
        "negative" => negative(list)?,
        "open" => open_all(list)?,
        "sequential" => sequential(list)?,
        "random" => return random(list),
        "chmod" => {
            for path in list {
                chmod(path, Mode::from_raw_mode(0o640))?;
            }
            Done {
                operations: list.len() as u64,
                bytes: 0,
            }
        }
        "create" => create(&scratch)?,
        "unlink" => {
            for number in 0..NEW_FILES {
                fs::remove_file(scratch.join(format!("file-{number}")))?;
            }
            Done {
                operations: NEW_FILES.into(),
                bytes: 0,
            }
        }
        "write" => write(&scratch.with_extension("big"))?,
        _ => return Err(format!("unknown case '{case}'").into()),
    };
    Ok((start.elapsed(), done))
}

fn walk(root: &Path) -> Result<Done, Failure> {
    let mut done = Done::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut pending = vec![openat(rustix::fs::CWD, root, flags, Mode::empty())?];
    while let Some(here) = pending.pop() {
        for entry in Dir::read_from(&here)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = statat(&here, name, AtFlags::SYMLINK_NOFOLLOW)?;
            done.operations += 1;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                pending.push(openat(&here, name, flags, Mode::empty())?);
            }
        }
    }
    Ok(done)
}

fn negative(list: &[PathBuf]) -> Result<Done, Failure> {
    let mut directories: Vec<&Path> = list.iter().filter_map(|path| path.parent()).collect();
    directories.dedup();
    for directory in &directories {
        for number in 0..8 {
            if stat(directory.join(format!("lib-absent-{number}.so.6"))).is_ok() {
                return Err("a name that should be absent is there".into());
            }
        }
    }
    Ok(Done {
        operations: directories.len() as u64 * 8,
        bytes: 0,
    })
}

fn open_all(list: &[PathBuf]) -> Result<Done, Failure> {
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    for path in list {
        bytes += File::open(path)?.read(&mut buffer)? as u64;
    }
    Ok(Done {
        operations: list.len() as u64,
        bytes,
    })
}

fn sequential(list: &[PathBuf]) -> Result<Done, Failure> {
    let mut buffer = vec![0; 1 << 20];
    let mut done = Done::default();
    for path in list {
        let mut file = File::open(path)?;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            done.operations += 1;
            done.bytes += length as u64;
        }
    }
    Ok(done)
}

fn random(list: &[PathBuf]) -> Result<(Duration, Done), Failure> {
    let mut files = Vec::new();
    for path in list {
        let file = File::open(path)?;
        let pages = file.metadata()?.len() / 4096;
        if pages > 0 {
            files.push((file, pages));
        }
    }
    if files.is_empty() {
        return Err("no listed file has a page to read".into());
    }
    let mut random = SmallRng::seed_from_u64(4);
    let mut buffer = [0; 4096];
    let start = Instant::now();
    for _ in 0..RANDOM_READS {
        if let Some((file, pages)) = files.get(random.random_range(0..files.len())) {
            file.read_exact_at(&mut buffer, random.random_range(0..*pages) * 4096)?;
        }
    }
    Ok((
        start.elapsed(),
        Done {
            operations: RANDOM_READS,
            bytes: RANDOM_READS * 4096,
        },
    ))
}

fn create(scratch: &Path) -> Result<Done, Failure> {
    fs::create_dir(scratch)?;
    let block = [b'x'; 4096];
    for number in 0..NEW_FILES {
        File::create_new(scratch.join(format!("file-{number}")))?.write_all(&block)?;
    }
    Ok(Done {
        operations: NEW_FILES.into(),
        bytes: u64::from(NEW_FILES) * 4096,
    })
}

fn write(path: &Path) -> Result<Done, Failure> {
    let block = vec![b'x'; 1 << 20];
    let mut file = File::create_new(path)?;
    for _ in 0..WRITTEN >> 20 {
        file.write_all(&block)?;
    }
    drop(file);
    fs::remove_file(path)?;
    Ok(Done {
        operations: WRITTEN >> 20,
        bytes: WRITTEN,
    })
}
