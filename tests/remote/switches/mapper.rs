//! A process that maps files of a mount.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process that maps files, and says which content it sees in them.
pub(super) struct Mapper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

const MAPPER: &str = "
import hashlib, mmap, os, stat, sys
maps = []
for line in sys.stdin:
    word, _, path = line.rstrip('\\n').partition(' ')
    if word == 'map':
        try:
            about = os.lstat(path)
            if stat.S_ISREG(about.st_mode) and about.st_size > 0:
                file = os.open(path, os.O_RDONLY)
                maps.append((file, mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ)))
        except (FileNotFoundError, NotADirectoryError, OSError) as error:
            if error.errno in (5, 116):
                raise
    elif word == 'drop':
        for file, seen in maps:
            seen.close()
            os.close(file)
        maps = []
    seen = []
    for file, pages in maps:
        about = os.fstat(file)
        held = pages[:min(len(pages), about.st_size)]
        seen.append(hashlib.md5(held).hexdigest() + ':' + str(about.st_nlink))
    print(' '.join(seen), flush=True)
";

impl Mapper {
    pub(super) fn start() -> Mapper {
        let mut child = Command::new("python3")
            .args(["-c", MAPPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Mapper {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// What it sees after a command: of each mapping a digest, and the number of names of its file.
    pub(super) fn tell(&mut self, command: &str) -> Vec<(String, u64)> {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the process with the mappings ended");
        let seen = line.split_whitespace();
        seen.map(|one| {
            let (digest, links) = one.split_once(':').unwrap();
            (digest.to_owned(), links.parse().unwrap())
        })
        .collect()
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
