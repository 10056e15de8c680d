"""The rivals: each makes its images of a tree and of slices over it, mounts them with a fresh
writable upper, and unmounts again. All need root."""
import os
import shutil
import subprocess
import time


def sources_key(tree, slices):
    """A key for the current directories, so that images of rebuilt trees are not reused."""
    known = [os.stat(path) for path in (tree, slices) if path]
    return "-".join(f"{stat.st_ino:x}.{stat.st_mtime_ns:x}" for stat in known)


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def quiet(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Stack:
    """One way to mount `tree` and the first `layers` of `slices` as one writable file system."""

    name = ""
    # The upper's file system: tmpfs or ext4.
    upper = "tmpfs"

    def __init__(self, work, tree, slices, layers):
        self.tree, self.slices, self.layers = tree, slices, layers
        self.images = os.path.join(work, "images", sources_key(tree, slices))
        self.place = os.path.join(work, f"{self.name}-{layers}".replace(", ", "-"))
        self.root = os.path.join(self.place, "root")
        self.mounted = []
        os.makedirs(self.images, exist_ok=True)
        os.makedirs(self.root, exist_ok=True)

    def sources(self):
        """The directories of the stack, base first, with a name for each one's image."""
        yield "base", self.tree
        for number in range(1, self.layers):
            yield f"l{number}", os.path.join(self.slices, f"l{number}")

    def image(self, name, source):
        """Makes the image of `source` if it does not exist; returns its path."""
        raise NotImplementedError

    def prepare(self):
        for name, source in self.sources():
            path = self.image(name, source)
            if os.path.getmtime(path) < os.stat(source).st_ctime:  # of an earlier tree
                os.remove(path)
                self.image(name, source)

    def mount(self):
        """Mounts everything with cold caches."""
        upper = os.path.join(self.place, "upper")
        os.makedirs(upper, exist_ok=True)
        self.attach(upper, "mount", "-t", "tmpfs", "-o", "size=12g,mode=755", "tmpfs", upper)
        if self.upper == "ext4":
            upper = self.disk(upper)
        for part in ("upper", "work"):
            os.mkdir(os.path.join(upper, part))
        self.assemble(os.path.join(upper, "upper"), os.path.join(upper, "work"))

    def disk(self, memory):
        """A new ext4 in a file of `memory`, mounted there: a disk's file system without a disk's speed."""
        image, place = os.path.join(memory, "image"), os.path.join(memory, "disk")
        with open(image, "wb") as file:
            file.truncate(6 << 30)
        os.mkdir(place)
        quiet("mkfs.ext4", "-q", image)
        # Avoids zeroing of inode tables during the measurement.
        self.attach(place, "mount", "-o", "loop,noinit_itable", image, place)
        return place

    def attach(self, target, *command):
        quiet(*command)
        self.mounted.append(target)

    def assemble(self, upper, work):
        raise NotImplementedError

    def unmount(self):
        while self.mounted:
            self.detach(self.mounted.pop())

    def detach(self, target):
        # A FUSE rival above lets go of its lowers a moment after its own unmount.
        for _ in range(100):
            if subprocess.run(["umount", target], check=False, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        quiet("umount", target)

    def lowers(self, kind):
        """Mounts the image of every layer by the kernel; returns their places, top first."""
        places = []
        for name, source in self.sources():
            target = os.path.join(self.place, name)
            os.makedirs(target, exist_ok=True)
            self.attach(target, "mount", "-t", kind, "-o", "ro,loop", self.image(name, source), target)
            places.insert(0, target)
        return places


class Squashfs(Stack):
    name = "squashfs+overlayfs"

    def image(self, name, source):
        path = os.path.join(self.images, f"{name}.squashfs")
        if not os.path.exists(path):
            quiet("mksquashfs", source, path + ".part", "-noappend", "-no-progress", "-quiet",
                  "-comp", "zstd", "-Xcompression-level", "15", "-b", "128K")
            os.rename(path + ".part", path)
        return path

    def assemble(self, upper, work):
        lower = ":".join(self.lowers("squashfs"))
        self.attach(self.root, "mount", "-t", "overlay", "-o",
                    f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", self.root)


class Erofs(Stack):
    name = "erofs+overlayfs"

    def image(self, name, source):
        path = os.path.join(self.images, f"{name}.erofs")
        if not os.path.exists(path):
            quiet("mkfs.erofs", "-zlz4hc", "-C65536", path + ".part", source)
            os.rename(path + ".part", path)
        return path

    def assemble(self, upper, work):
        lower = ":".join(self.lowers("erofs"))
        self.attach(self.root, "mount", "-t", "overlay", "-o",
                    f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay", self.root)


class FuseOverlayfs(Squashfs):
    name = "squashfuse+fuse-overlayfs"

    def assemble(self, upper, work):
        places = []
        for name, source in self.sources():
            target = os.path.join(self.place, name)
            os.makedirs(target, exist_ok=True)
            self.attach(target, "squashfuse_ll", self.image(name, source), target, "-o", "allow_other")
            places.insert(0, target)
        self.attach(self.root, "fuse-overlayfs", "-o",
                    f"lowerdir={':'.join(places)},upperdir={upper},workdir={work},allow_other", self.root)


class Layerfs(Stack):
    name = "layerfs"
    options = ""

    def __init__(self, work, tree, slices, layers, programs):
        self.bakery = os.path.join(programs, "bakery")
        self.layerfs = os.path.join(programs, "layerfs")
        super().__init__(work, tree, slices, layers)

    def image(self, name, source):
        path = os.path.join(self.images, f"{name}.layer")
        if not os.path.exists(path):
            quiet(self.bakery, "bake", "--changes", source, "-o", path + ".part")
            os.rename(path + ".part", path)
        return path

    def assemble(self, upper, work):
        layers = [self.image(name, source) for name, source in self.sources()]
        options = f"upperdir={upper},workdir={work}{self.options}"
        # Its standard streams must not be pipes: the daemon would keep them open.
        self.attach(self.root, self.layerfs, "mount", ":".join(reversed(layers)), self.root, "-o", options)

    def detach(self, target):
        if target == self.root:
            quiet(self.layerfs, "umount", target)
        else:
            super().detach(target)


class LayerfsPassthrough(Layerfs):
    name = "layerfs, passthrough"
    options = ",passthrough"


class LayerfsKernel(Layerfs):
    """The kernel's overlayfs over a read-only mount: layerfs.upper=…,kernel."""

    name = "layerfs, kernel"

    def assemble(self, upper, work):
        layers = [self.image(name, source) for name, source in self.sources()]
        self.lower = os.path.join(self.place, "lower")
        os.makedirs(self.lower, exist_ok=True)
        self.attach(self.lower, self.layerfs, "mount", ":".join(reversed(layers)), self.lower)
        options = f"lowerdir={self.lower},upperdir={upper},workdir={work},redirect_dir=on,metacopy=on,index=off"
        self.attach(self.root, "mount", "-t", "overlay", "-o", options, "overlay", self.root)

    def detach(self, target):
        if target == self.lower:
            quiet(self.layerfs, "umount", target)
        else:
            Stack.detach(self, target)


def remove(work):
    """Removes the mount points, not the images (these are expensive) and not the lists of files."""
    for name in os.listdir(work):
        path = os.path.join(work, name)
        if name != "images" and os.path.isdir(path):
            shutil.rmtree(path)
