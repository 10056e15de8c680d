//! S7: inode numbers for programs that have 32 bits for them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use super::Fixture;
use crate::harness::programs::run;

/// Lists a directory, looks up each name, and seeks back to an earlier position.
const LISTER: &str = r#"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int count, char **words) {
    long names = 0, rest = 100, at = -1;
    struct dirent *entry;
    struct stat seen;
    DIR *listing;
    if (count < 2 || sizeof(off_t) != 4 || chdir(words[1]) || !(listing = opendir("."))) return 2;
    while (errno = 0, (entry = readdir(listing))) {
        names++;
        if (lstat(entry->d_name, &seen)) { perror(entry->d_name); return 3; }
        if (entry->d_ino != seen.st_ino) return 4;
        if (names == 100) at = telldir(listing);
    }
    if (errno) { perror("readdir"); return 5; }
    seekdir(listing, at);
    while (readdir(listing)) rest++;
    printf("%ld\n", rest == names ? names : -1);
    return 0;
}
"#;

#[test]
fn s7_2_a_32_bit_program_without_large_files() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        for i in 0..100 {
            File::create(lower.join(format!("d/low{i}"))).unwrap();
        }
    });
    for i in 0..100 {
        File::create(f.at(&format!("d/up{i}"))).unwrap();
        fs::create_dir(f.at(&format!("d/dir{i}"))).unwrap();
        fs::rename(f.at(&format!("d/up{i}")), f.at(&format!("d/later{i}"))).unwrap();
    }
    let (source, lister) = (f.bench.path("lister.c"), f.bench.path("lister"));
    fs::write(&source, LISTER).unwrap();
    // The kernel's headers are the same for 32 bits. Only the C library is needed, and nothing of the
    // compiler's own for 32 bits, which is another package.
    let headers = "/usr/include/x86_64-linux-gnu";
    let part = |name: &str| {
        let output = run(Command::new("gcc").args(["-m32", &format!("-print-file-name={name}")]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    run(Command::new("gcc")
        .args(["-m32", "-nostdlib", "-no-pie", "-idirafter", headers, "-o"])
        .arg(&lister)
        .args([part("crt1.o"), part("crti.o")])
        .arg(&source)
        .args(["-lc", &part("crtn.o")]));
    for _ in 0..2 {
        let output = run(Command::new(&lister).arg(f.at("d")));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "302");
        for name in ["d/dir7", "d/later7"] {
            let number = f.at(name).metadata().unwrap().ino();
            let own = f.upper.join(name).metadata().unwrap().ino();
            assert_eq!(number, (1 << 20) + own, "{name}");
        }
        f.mount.again();
    }
}
