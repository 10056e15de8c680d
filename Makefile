# The commands a person needs. `make help` lists them.
CARGO ?= cargo
.DEFAULT_GOAL := help
# Parameters of the comparisons.
LAYERS ?= 1
ROUNDS ?= 5
BOOTS ?= 3
LINKS ?= 0:0,100:20,20:20
MODES ?= ram,nbd,bare,layerfs,nbd+30,layerfs+64

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## Install the Debian packages that tests and demo need (root)
	./.ci/install-packages

packages-long: packages ## Also install the packages for the long suites (root)
	./.ci/install-packages packages-long

check: ## Format, lints, documentation, prose: no warning allowed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items
	./.ci/prose
	./.ci/house-figures

quick: ## Format, lints, unit tests, laws, semantics and model in the process (no packages, no root)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace --lib --bins --test direct --test format -- --skip kernel::
	$(CARGO) test --workspace --test suite -- architecture:: programs::

semantics-figures: build ## Statements tested without root; the model in the process and mounted (root; CASES=500 STEPS=100)
	$(CARGO) build -p layerfs -p bakery
	./.ci/semantics-figures

statements: ## Statements of docs/SEMANTICS.md that are tested without root (no root)
	./.ci/semantics-figures --count

figures: ## Sizes of files and functions, documented items, signs of prose that is hard to read
	./.ci/house-figures
	./.ci/prose

prose: ## Count signs of prose that is hard to read (.ci/prose --list names the places)
	./.ci/prose

build: ## The two programs, optimized
	$(CARGO) build --release -p layerfs -p bakery

build-console: ## The console, optimized; in a build of its own, so that bakery gets none of its features
	$(CARGO) build --release -p bakery-console
	mkdir -p target/docs/completions target/docs/man
	target/release/bakery-console --manual >target/docs/man/bakery-console.1
	target/release/bakery-console --completions bash >target/docs/completions/bakery-console.bash
	target/release/bakery-console --completions zsh >target/docs/completions/_bakery-console
	target/release/bakery-console --completions fish >target/docs/completions/bakery-console.fish

docs: ## Manual pages and shell completions of both programs (target/docs)
	$(CARGO) build --release -p bakery
	mkdir -p target/docs/completions
	target/release/bakery man target/docs/man
	target/release/bakery completions bash >target/docs/completions/bakery.bash
	target/release/bakery completions zsh >target/docs/completions/_bakery
	target/release/bakery completions fish >target/docs/completions/bakery.fish
	$(CARGO) run --release -q -p layerfs --example docs -- target/docs

install: build static docs ## Install both programs, pages, services and hooks (root; DESTDIR, PREFIX=/usr/local)
	DESTDIR="$(DESTDIR)" PREFIX="$(or $(PREFIX),/usr/local)" ./dist/install

deb: build static docs build-console ## Debian packages of bakery and client (target/debian; needs debhelper)
	./dist/debian/build

test-packages: packages-long deb ## The Debian packages: lintian, installed and removed in a clean chroot (root)
	./tests/packages/run

test: packages build check quick test-rust test-console test-conformance test-shell test-benches test-boot-short ## All CI tests

demo: packages build lab/trees/minimal ## A real Debian: import, serve, mount over HTTP, change, bake, log, roll back (root)
	./demo/run.sh

demo-boot: packages build static lab/trees/boot ## Boot the demo system in QEMU from the server, with its console (root)
	ECHO=1 python3 tests/boot/short.py --tree lab/trees/boot

test-rust: build ## Unit, property, semantics, crash and end-to-end tests (root)
	$(CARGO) build -p layerfs -p bakery
	$(CARGO) test --workspace --no-fail-fast
	LAYERFS_TEST_OPTIONS=passthrough $(CARGO) test -p layerfs-tests --test suite --no-fail-fast -- semantics:: kernel:: crash:: model::

test-conformance: build ## pjdfstest and fsx in both modes (root; SETTING=long: 10 seeds x 20,000 operations)
	./tests/conformance/run.sh $(or $(SETTING),short)

test-stress: packages-long build ## stress-ng's file system class in both modes; git, dpkg and tar at once against a plain directory (root; STRESS=2 seconds each)
	./tests/conformance/stress.sh $(or $(STRESS),2)

test-outage: packages-long build lab/trees/minimal ## The server stopped for a minute under pgbench and an apt install, in both modes, and a mount that the kernel ends (root; minutes; SECONDS=60)
	python3 tests/conformance/outage.py lab/trees/minimal --seconds $(or $(SECONDS),60)
	$(CARGO) build -p layerfs -p bakery
	$(CARGO) test -p layerfs-tests --test suite -- --ignored s18_7

test-switches: packages-long build ## 1,000 switches of a running mount under load, with a database in its upper; 200 random sequences with switches against new mounts; in both modes (root; minutes; SWITCHES=1000 CASES=200)
	python3 tests/conformance/switches.py --switches $(or $(SWITCHES),1000)
	python3 tests/conformance/switches.py --switches $(or $(SWITCHES),1000) --mode passthrough
	for mode in rw passthrough; do \
	  LAYERFS_TEST_OPTIONS=$$mode LAYERFS_SWITCH_MOUNT_CASES=$(or $(CASES),200) \
	  $(CARGO) test -p layerfs-tests --test suite -- switches::model || exit 1; done

test-python: packages-long build ## Python's own tests that use files, in both modes (root; minutes)
	./tests/conformance/python.sh $(MODULES)

test-fio: packages-long build ## fio's verify jobs in both modes, before and after a remount (root; MIB=16)
	./tests/conformance/fio.sh $(or $(MIB),16)

test-remount: packages-long build ## Remounts by util-linux of Debian 13, with fuse3, in a chroot (root)
	./tests/conformance/remount.sh $(or $(SUITE),trixie)

test-model-long: build ## 500 random sequences of 100 operations against overlayfs and a plain directory, each mode (root; CASES=500)
	$(CARGO) build -p layerfs -p bakery
	for mode in rw passthrough; do \
	  LAYERFS_TEST_OPTIONS=$$mode LAYERFS_MODEL_CASES=$(or $(CASES),500) LAYERFS_MODEL_STEPS=100 \
	  $(CARGO) test -p layerfs-tests --test suite -- model:: || exit 1; done

test-console: build ## The console: every page, action and attack, and the Alterator module; ten pages and a newcomer in headless Chromium
	$(CARGO) build --workspace --bins
	./tests/console/run
	./tests/console/run browser --short

bench-console: ## Times of the console with 200 machines and 1,000 revisions; in Chromium at 20 Mbit/s and 20 ms (minutes)
	$(CARGO) build --release -p bakery
	$(CARGO) build --release -p bakery-console
	$(CARGO) build --release -p layerfs-benches --bin shaper
	/usr/bin/python3 tests/console/speed.py --browser

test-console-browser: packages build ## The console in headless Chromium: all pages at three widths, axe-core, a newcomer by clicks (minutes; SHOTS=DIR keeps screenshots)
	$(CARGO) build -p bakery -p bakery-console
	./tests/console/run browser $(if $(SHOTS),--shots $(SHOTS))

test-console-boots: build static lab/trees/boot ## A newcomer by clicks, then by messages of Alterator: two QEMU machines boot the ISO that was uploaded to the console; roll back (root; minutes)
	$(CARGO) build -p bakery -p bakery-console
	for how in "" --messages; do /usr/bin/python3 tests/console/boots.py --tree lab/trees/boot $$how || exit 1; done

test-shell: ## Tests and shellcheck of the initramfs scripts
	./initrd/check
	./initrd/tests/run

static: ## The static, small client for an initramfs (target/static/layerfs)
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) rustc --profile initrd --target x86_64-unknown-linux-gnu -p layerfs --bin layerfs -- -C link-arg=-Wl,-z,pack-relative-relocs
	install -D target/x86_64-unknown-linux-gnu/initrd/layerfs target/static/layerfs
	target/static/layerfs --version

lab/trees/boot: lab/trees/minimal
	rm -rf $@
	./tests/boot/tree.sh $@ $<

test-boot-short: build static lab/trees/boot ## One QEMU boot of a Debian system from the server (root)
	python3 tests/boot/short.py --tree lab/trees/boot
	python3 tests/boot/drivers.py --tree lab/trees/boot

.PHONY: test-drivers
test-drivers: build static lab/trees/boot lab/trees/trixie lab/trees/sid ## The initramfs for one machine: every id of every network driver of three kernels, lengths, QEMU boots by iPXE (root)
	for tree in boot trixie sid; do python3 tests/boot/drivers.py --tree lab/trees/$$tree --default || exit 1; done
	python3 tests/boot/cards.py --tree lab/trees/boot --cached

test-rehearse: build static lab/trees/boot ## `bakery rehearse` of a Debian system in QEMU, and the first boot after it (root)
	taskset -c 1 python3 tests/boot/rehearse.py --tree lab/trees/boot

test-boot: build static lab/trees/boot ## The long loop in QEMU: iPXE, apt, push, rollback, cherry-pick, compact, no server; POWEROFFS=20 (root)
	python3 tests/boot/short.py --tree lab/trees/boot --netboot
	python3 tests/boot/loop.py --tree lab/trees/boot --poweroffs $(or $(POWEROFFS),20)

test-duty: build static lab/trees/boot ## Root duty in QEMU: reboot, server lost, full upper, no memory, 20 power-offs (root; ONLY=outage,full POWEROFFS=20)
	python3 tests/boot/duty.py --tree lab/trees/boot --poweroffs $(or $(POWEROFFS),20) $(if $(ONLY),--only $(ONLY))

test-generators: build static lab/trees/boot ## QEMU boots with the initramfs of initramfs-tools and of dracut (root; ONLY=dracut)
	python3 tests/boot/generators.py --tree lab/trees/boot $(if $(ONLY),--only $(ONLY))

test-switch-boot: build static lab/trees/boot ## Two QEMU machines: one installs and pushes, the other takes each revision while it runs, under load (root; ACTS=auto,equal)
	python3 tests/boot/switch.py --tree lab/trees/boot $(if $(ACTS),--acts $(ACTS))

lab/trees/bookworm lab/trees/trixie lab/trees/sid:
	mkdir -p lab/trees
	./tests/boot/suite.sh $(@F) $@

lab/loaders:
	./tests/boot/loaders.sh $@

test-loaders: build lab/trees/boot lab/loaders ## GRUB 2.06 and 2.12 (BIOS, UEFI), lpxelinux and iPXE in QEMU load menu and kernel from bakery serve (root; ONLY=ipxe)
	python3 tests/boot/loaders.py --tree lab/trees/boot --loaders lab/loaders $(if $(ONLY),--only $(ONLY))

test-grub: build static lab/trees/boot lab/loaders ## Two QEMU boots by GRUB of a machine of the fleet: the whole initramfs, then that of its card (root)
	python3 tests/boot/grub.py --tree lab/trees/boot --loaders lab/loaders

test-kernel-upper: build static lab/trees/boot ## A QEMU boot with layerfs.upper=tmpfs,kernel: overlayfs over a read-only mount (root)
	python3 tests/boot/kernel_upper.py --tree lab/trees/boot

test-distros: packages build static lab/trees/bookworm lab/trees/trixie lab/trees/sid ## QEMU boots of Debian 12, 13 and sid, each with our own initramfs, initramfs-tools and dracut (root; ONLY=sid:dracut)
	python3 tests/boot/distros.py $(if $(ONLY),--only $(ONLY))

test-networks: packages build static lab/trees/trixie ## Networks that are not as they should be, with each kind of initramfs: late cable, two cards, static address, VLAN, bond, wrong URL, dead server (root; ONLY=dracut CASES=bond,url)
	./tests/boot/room.sh python3 tests/boot/network.py $(if $(ONLY),--only $(ONLY)) $(if $(CASES),--cases $(CASES))

test-kernels: packages lab/trees/bookworm lab/trees/trixie lab/trees/sid ## The mount's own tests under the kernels of Debian 12, 13 and sid, in QEMU (root; hours; ONLY=sid TESTS=remote::switches DIRECT=switches:: MODE=passthrough)
	$(CARGO) build -p layerfs -p bakery
	python3 tests/boot/kernels.py $(if $(ONLY),--only $(ONLY)) $(if $(TESTS),--filter "$(TESTS)") $(if $(DIRECT),--direct "$(DIRECT)") $(if $(MODE),--options "$(MODE)")

lab/trees/sysvinit lab/trees/openrc lab/trees/runit: lab/trees/minimal
	rm -rf $@
	./tests/boot/inits.sh $(@F) $@ $<

lab/live-%/live.iso:
	./tests/boot/live.sh $(CURDIR)/lab/live-$* $*

test-systems: packages-long build static docs lab/trees/boot lab/trees/sysvinit lab/trees/openrc lab/trees/runit lab/live-bookworm/live.iso lab/live-trixie/live.iso ## QEMU boots with sysvinit, OpenRC and runit, of a live ISO in ALT's layout; the README's steps with live-build's ISOs of Debian 12 and 13, three machines, a push and a rollback (root)
	python3 tests/boot/inits.py --trees lab/trees
	python3 tests/boot/alt.py --tree lab/trees/boot
	for suite in bookworm trixie; do ./tests/boot/room.sh python3 tests/boot/book.py --iso lab/live-$$suite/live.iso || exit 1; done

test-benches: ## Compile the benches and run each once
	$(CARGO) bench -p layerfs-benches -- --test
	python3 benches/report/test_report.py

lab/trees/minimal lab/trees/big:
	mkdir -p lab/trees
	./benches/trees/build.sh $(@F) $@

lab/rivals: lab/trees/minimal
	./benches/boot/rivals.sh lab/trees/minimal $@

lab/slices: lab/trees/big
	mkdir -p $@
	./benches/boot/slices.py lab/trees/big $@ 63

bench: build ## The criterion benches: micro, mount, boot replay (root)
	$(CARGO) bench -p layerfs-benches

bench-programs: build
	$(CARGO) build --release -p layerfs-benches --bins

bench-compare: bench-programs lab/trees/big lab/slices ## Against squashfs, erofs and the FUSE rivals, locally (root; LAYERS=1,40 ROUNDS=5)
	./benches/compare/compare.py --tree lab/trees/big --slices lab/slices --layers $(LAYERS) --rounds $(ROUNDS)

bench-turns: bench-programs lab/trees/big lab/slices ## This build and an older one in turn, every case, both modes (root; BEFORE=DIR of its programs LAYERS=1,40 ROUNDS=5)
	./benches/compare/turns.py --before $(BEFORE) --after target/release --tree lab/trees/big --slices lab/slices --layers $(LAYERS) --rounds $(ROUNDS) --only all --modes layerfs,passthrough

bench-floor: bench-programs ## Microseconds for one FUSE message to an empty file system (root)
	target/release/floor 1

lab/slices-wide:
	rm -rf lab/trees/wide && mkdir -p lab/trees
	./benches/trees/wide.py lab/trees/wide $@

bench-wide: bench-programs lab/slices-wide ## Walks of directories with 100 files each, over 1 and 40 layers (root; ROUNDS=5)
	./benches/compare/compare.py --tree lab/trees/wide --slices lab/slices-wide --layers 1,40 --rounds $(ROUNDS) --only "cold walk with stat,second walk with stat,warm walk with stat" --stacks "squashfs+overlayfs,layerfs"

lab/trees/large: lab/trees/big
	./benches/trees/large.py lab/trees/big $@

bench-large: bench-programs lab/trees/large ## Reads of 448 MiB in large files (root; ROUNDS=5)
	./benches/compare/compare.py --tree lab/trees/large --layers 1 --rounds $(ROUNDS) --only "cold sequential read,warm sequential read,cold random 4 KiB" --stacks "squashfs+overlayfs,layerfs"

lab/trees/semi:
	./benches/trees/semi.py $@

bench-semi: bench-programs lab/trees/semi ## Reads of 512 MiB of half-compressible data (root; ROUNDS=5)
	./benches/compare/compare.py --tree lab/trees/semi --layers 1 --rounds $(ROUNDS) --only "cold sequential read,warm sequential read,cold random 4 KiB" --stacks "squashfs+overlayfs,layerfs"

lab/slices-255: lab/trees/minimal
	rm -rf $@ && mkdir -p $@
	./benches/boot/slices.py lab/trees/minimal $@ 255

bench-layers: build bench-programs lab/trees/minimal lab/slices-255 ## Costs of 8, 64 and 256 layers against one (root; ROUNDS=5)
	./benches/compare/layers.py --tree lab/trees/minimal --slices lab/slices-255 --rounds $(ROUNDS)

lab/updates:
	./benches/update/inputs.sh $@

bench-mirror: bench-programs lab/updates ## Bytes of a mirror that follows 20 revisions over 20 Mbit/s and 20 ms (root)
	./benches/update/mirror.py --old lab/updates/point/old --new lab/updates/point/new

bench-update: bench-programs lab/updates ## Bytes of updates: packs against squashfs, xdelta3, casync and ostree (root; ONLY=point,config)
	./benches/update/update.py --inputs lab/updates $(if $(ONLY),--only $(ONLY))

bench-memory: build bench-programs ## Memory of the daemon: 100,000 and 200,000 inodes, 200 MiB read, a soak (root; SOAK=180)
	./benches/memory/memory.py --soak $(or $(SOAK),180)

bench-scale: build ## Bake, flatten and mounts of 10,000 to 1,000,000 small files: processor time, memory, index (root; SIZES=10000,2000000 ROUNDS=5 BENCH_BEFORE=DIR of older programs)
	./benches/scale/scale.py $(if $(SIZES),--sizes $(SIZES)) --rounds $(ROUNDS)

bench-switch: build ## Seconds, delays of readers, bytes and memory of switches of a running mount (root; SWITCHES=1000)
	./benches/switch/switch.py --switches $(or $(SWITCHES),1000)

bench-visible: bench-programs build ## Seconds and bytes from a push on one machine to the new content on another that follows, at 100 Mbit/s and 20 ms (root; sshd)
	./benches/switch/visible.py

bench-sizes: bench-programs lab/trees/big ## Bytes, time and memory of layers and squashfs images (root)
	for upper in upgrade touch; do test -e lab/trees/$$upper.tar.zst || ./benches/trees/upper.sh $$upper lab/trees/big lab/trees/$$upper.tar.zst; done
	./benches/compare/sizes.py --tree lab/trees/big --upper lab/trees/upgrade.tar.zst --upper lab/trees/touch.tar.zst

lab/slices-minimal: lab/trees/minimal
	mkdir -p $@
	./benches/boot/slices.py lab/trees/minimal $@ 64

lab/site: bench-programs static lab/trees/minimal lab/slices-minimal
	rm -rf $@
	./benches/boot/store.py --tree lab/trees/minimal --slices lab/slices-minimal --out $@

bench-boot: bench-programs lab/rivals lab/site ## QEMU boots of layerfs and the rivals over shaped links (LINKS=100:20 MODES=nbd,layerfs BOOTS=3)
	./benches/boot/boot.py --rivals lab/rivals --site lab/site --links $(LINKS) --rounds $(BOOTS) --modes $(MODES)

lab/rivals-%: lab/trees/%
	rm -rf $@
	NO_1M=1 ./benches/boot/rivals.sh lab/trees/$* $@ 0

lab/site-%: bench-programs static lab/trees/%
	rm -rf $@
	./benches/boot/store.py --tree lab/trees/$* --out $@

bench-distros: bench-programs ## QEMU boots of Debian 13 and sid beside NBD, two at once (root; SUITES="trixie sid" PAIRS=5)
	for suite in $(or $(SUITES),trixie sid); do $(MAKE) lab/rivals-$$suite lab/site-$$suite || exit 1; \
	  ./benches/boot/boot.py --rivals lab/rivals-$$suite --site lab/site-$$suite --modes nbd,layerfs --links 0:0,100:20 --rounds $(or $(PAIRS),5) --paired || exit 1; done

bench-smallest: bench-programs ## The smallest memory with which Debian 12, 13 and sid net-boot: ours, NBD, the whole image in memory (root; SUITES=sid STEP=32)
	for suite in $(or $(SUITES),bookworm trixie sid); do $(MAKE) lab/rivals-$$suite lab/site-$$suite || exit 1; \
	  ./benches/boot/smallest.py --rivals lab/rivals-$$suite --site lab/site-$$suite --modes layerfs,nbd,ram --step $(or $(STEP),32) || exit 1; done

bench-read: bench-programs lab/site ## Large files read over shaped links, against curl (root; ROUNDS=3)
	./benches/boot/read.py lab/site --rounds $(ROUNDS)

bench-clients: build ## 200 clients at once: bakery serve and nginx in turn, times and processor time (root, nginx; CLIENTS=200 ROUNDS=5 LINK=1000 for a shaped link in Mbit/s)
	./benches/serve/clients.py --clients $(or $(CLIENTS),200) --rounds $(ROUNDS) $(if $(LINK),--link $(LINK))

bench-report: ## Plot benches/results as docs/benchmarks.html
	./benches/report/report.py $(wildcard benches/results/*) docs/benchmarks.html

test-s3: ## Store and histories on a real S3: SeaweedFS, installed by pip (minutes: races wait for its lock)
	./tests/history/seaweedfs $(CARGO) test -p layerfs-tests --test suite history::s3 -- --ignored --skip volume_server

test-s3-cluster: build ## The same on a cluster of SeaweedFS, and two bakers while one of its volume servers is killed
	./tests/history/seaweedfs --cluster $(CARGO) test -p layerfs-tests --test suite history::s3 -- --ignored --test-threads 1

test-crash: build ## kill -9 at 200 random points: watcher and baker under 20 pushes, and a publishing process (KILLS=200 UPLOADS=20)
	LAYERFS_KILLS=$(or $(KILLS),200) LAYERFS_UPLOADS=$(or $(UPLOADS),20) LAYERFS_TEST_KILLS=$(or $(KILLS),200) \
	  $(CARGO) test --release -p layerfs-tests --test suite -- --nocapture ingest::crash::kills history::crash::a_killed

test-updates-long: build ## Updates: kill -9 of client, maker and mirror at 200 points, a mirror cut at 200 bytes, 200 random histories, every pair of revisions in the histories of the other tests (root; POINTS=200)
	$(CARGO) build -p layerfs -p bakery
	LAYERFS_UPDATE_POINTS=$(or $(POINTS),200) $(CARGO) test -p layerfs-tests --test suite -- --nocapture remote::kills history::updates
	LAYERFS_UPDATE_PAIRS=yes $(CARGO) test -p layerfs-tests --test suite -- history::

bench-push: build ## Time of a push and until its publication: real sshd, 50 MiB over 1 GB (root; TREE=DIR ROUNDS=5)
	./benches/ingest/run.py --tree $(or $(TREE),lab/trees/big) --rounds $(ROUNDS)

test-fleet: packages build ## 2,000 scripted machines boot within a minute over real HTTP while the fleet process is killed three times; a real iPXE in QEMU (MACHINES=2000 WITHIN=60)
	LAYERFS_MACHINES=$(or $(MACHINES),2000) LAYERFS_WITHIN=$(or $(WITHIN),60) $(CARGO) test --release -p layerfs-tests --test fleet -- --nocapture --include-ignored crowd:: ipxe::

test-fleet-boot: build static lab/trees/boot ## Rings in QEMU: a good revision, one whose init dies, one that hangs, a degraded one, a power cut of the server (root)
	python3 tests/boot/fleet.py --tree lab/trees/boot

test-fleet-crowd: packages build static lab/trees/boot ## One real boot beside 2,000 scripted machines, with SQLite and PostgreSQL (root; needs an idle machine)
	python3 tests/boot/crowd.py --tree lab/trees/boot

test-history-scale: ## 50 layers over 100,000 inodes: rollback and cherry-pick within 1 s
	$(CARGO) test --release -p layerfs-tests --test suite history::scale -- --ignored --nocapture

deny: ## Licenses, sources, forbidden and unused dependencies (installs cargo-deny and cargo-machete)
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	command -v cargo-machete >/dev/null || $(CARGO) install --locked cargo-machete
	$(CARGO) deny check bans licenses sources
	$(CARGO) machete --skip-target-dir layerfmt wire source fs fleet bakery tests benches

advisories: deny ## Known vulnerabilities of the dependencies (fetches the RustSec database)
	$(CARGO) deny check advisories

clean-lab: ## Remove the files of demo and boot tests
	rm -rf lab

.PHONY: help packages packages-long check quick semantics-figures statements figures prose build docs install deb test-packages static demo demo-boot test test-conformance test-boot test-boot-short test-switch-boot test-rehearse test-duty test-generators test-loaders test-grub test-distros test-kernels test-networks test-systems test-rust test-s3 test-s3-cluster test-crash test-updates-long test-fleet test-fleet-boot test-fleet-crowd bench-push test-history-scale test-shell test-stress test-switches test-python test-fio test-model-long test-benches deny advisories clean-lab \
  bench bench-programs bench-compare bench-floor bench-wide bench-large bench-semi bench-layers bench-memory bench-scale bench-switch bench-visible bench-sizes bench-update bench-mirror bench-boot bench-clients bench-distros bench-smallest bench-read bench-report
