//! The lists that are used unless one asks for none.

/// Logs, caches and the identity of one machine: no layer needs them. Most directories stay, as
/// programs expect to find them.
pub const DEFAULTS: &str = "\
# logs; their directories stay, but for those that the journal names after a machine
/var/log/**
!/var/log/**/
/var/log/journal/*/
/root/.bash_history
/home/*/.bash_history
/root/.lesshst
/home/*/.lesshst
/var/lib/systemd/coredump/**
/var/crash/**
# caches
/var/cache/apt/**
!/var/cache/apt/**/
/var/lib/apt/lists/**
!/var/lib/apt/lists/**/
/var/cache/dnf/**
/var/cache/yum/**
/var/cache/man/**
!/var/cache/man/**/
/var/cache/ldconfig/**
/root/.cache/**
/home/*/.cache/**
/tmp/**
/var/tmp/**
/run/**
!/run/**/
/var/run/**
!/var/run/**/
/dev/**
!/dev/**/
/proc/**
/sys/**
/swapfile
/swap.img
# the identity of one machine
/etc/machine-id
/var/lib/dbus/machine-id
/etc/ssh/ssh_host_*_key
/etc/ssh/ssh_host_*_key.pub
/etc/openssh/ssh_host_*_key
/etc/openssh/ssh_host_*_key.pub
/var/lib/systemd/random-seed
/var/lib/urandom/random-seed
/var/lib/systemd/credential.secret
/var/lib/NetworkManager/secret_key
/var/lib/NetworkManager/seen-bssids
/var/lib/NetworkManager/timestamps
# leases
/var/lib/dhcp/*.lease*
/var/lib/dhclient/*.lease*
/var/lib/dhcpcd/*.lease*
/var/lib/NetworkManager/*.lease
/var/lib/systemd/network/**
";

/// What a running machine writes by itself and what belongs to this one machine. `layerfs push`
/// leaves it out; a bake of a directory or an image does not, as it may be all there is.
pub const PUSH_DEFAULTS: &str = "\
# the identity of this machine
/etc/hostname
/etc/hosts
/etc/resolv.conf
/etc/resolv.conf.dhclient-new*
/etc/adjtime
/etc/udev/rules.d/70-persistent-*.rules
/etc/iscsi/initiatorname.iscsi
/etc/nvme/hostid
/etc/nvme/hostnqn
/var/lib/bluetooth/**
/var/lib/iwd/**
# people's own files
/home/*
/root/.viminfo
/root/.wget-hsts
/root/.Xauthority
/root/.ssh/known_hosts
/root/.ssh/known_hosts.old
# written by every boot and by time passing
/etc/.pwd.lock
/etc/apparmor.d/cache/**
/var/lib/live/**
/var/lib/systemd/timers/**
/var/lib/systemd/timesync/**
/var/lib/systemd/rfkill/**
/var/lib/systemd/backlight/**
/var/lib/systemd/pstore/**
/var/lib/systemd/deb-systemd-helper-masked/**
/var/lib/NetworkManager/NetworkManager.state
/var/lib/alsa/asound.state
/var/lib/apt/daily_lock
/var/lib/apt/periodic/**
/var/lib/chrony/**
/var/lib/logrotate/**
/var/lib/logrotate.status
/var/lib/ntp/**
/var/lib/plymouth/boot-duration
/var/lib/private/systemd/**
/var/lib/upower/**
/var/cache/apparmor/**
/var/cache/fontconfig/**
/var/backups/**
/var/spool/anacron/*
";

/// The accounts of a live system: live-config makes its user anew at each boot. `layerfs push`
/// leaves these files out where live-config did that.
pub const LIVE_ACCOUNTS: &str = "\
/etc/passwd
/etc/passwd-
/etc/shadow
/etc/shadow-
/etc/group
/etc/group-
/etc/gshadow
/etc/gshadow-
/etc/subuid
/etc/subuid-
/etc/subgid
/etc/subgid-
";
