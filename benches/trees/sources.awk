# Reads deb822 apt sources and prints the stanzas that serve Debian's own
# archive, each with its Suites narrowed to those named in the variable `want`
# (space separated; "+X" adds the suite X to the stanza that holds the plain
# codename). Used by the tree builders, so that they take the mirror of the
# machine they run on and never name a host.
#
#   awk -v code=bookworm -v want="bookworm +bookworm-backports" -f sources.awk FILE…
BEGIN { RS = ""; FS = "\n"; n = split(want, w, " ") }
{
    out = ""; suites = ""
    for (i = 1; i <= NF; i++)
        if ($i ~ /^Suites:/) { suites = $i; sub(/^Suites:[ \t]*/, "", suites) }
    if (suites !~ "(^| )" code) next
    plain = (" " suites " ") ~ (" " code " ")
    keep = ""
    for (i = 1; i <= n; i++) {
        s = w[i]; add = sub(/^\+/, "", s)
        if ((add && plain) || (" " suites " ") ~ (" " s " ")) keep = keep " " s
    }
    if (keep == "") next
    for (i = 1; i <= NF; i++) {
        if ($i ~ /^#/) continue
        print ($i ~ /^Suites:/) ? "Suites:" keep : $i
    }
    print ""
}
