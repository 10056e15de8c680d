"""The regular files of a tree, for benches that make something of them."""
import os


def regular_files(tree):
    """The path of every regular file below tree, in a fixed order."""
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path
