//! The default lists of patterns.

/// Logs, caches and the identity of one machine: no layer needs them. Most directories stay,
/// because programs expect them.
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

/// Files that a running machine writes by itself, and files that belong to one machine. `layerfs
/// push` excludes them; a bake of a directory or an image does not, because it may be the only
/// copy.
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
/var/lib/systemd/timers
/var/lib/systemd/timesync
/var/lib/systemd/rfkill
/var/lib/systemd/backlight
/var/lib/systemd/pstore
# systemd-tmpfiles sets its attributes at each boot
/var/log/journal
/var/log/live
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

/// Files that live-config writes at each boot of a live system, by the name of its component. Each
/// component that ran leaves a stamp of its name in [`LIVE_STAMPS`]; `layerfs push` excludes the
/// files of each stamp it finds. The names are those of live-config 11.
pub const LIVE_CONFIG: [(&str, &str); 22] = [
    (
        "user-setup",
        "/etc/passwd\n/etc/passwd-\n/etc/shadow\n/etc/shadow-\n/etc/group\n/etc/group-\n/etc/gshadow\n\
         /etc/gshadow-\n/etc/subuid\n/etc/subuid-\n/etc/subgid\n/etc/subgid-\n/etc/nsswitch.conf\n\
         /var/cache/debconf/**\n",
    ),
    ("sudo", "/etc/sudoers.d/live\n"),
    ("debconf", "/var/cache/debconf/**\n"),
    ("hostname", "/etc/hostname\n/etc/hosts\n/etc/hosts.tmp\n"),
    (
        "locales",
        "/etc/default/locale\n/etc/locale.conf\n/etc/locale.gen\n/usr/lib/locale/**\n",
    ),
    (
        "tzdata",
        "/etc/localtime\n/etc/timezone\n/var/cache/debconf/**\n",
    ),
    ("util-linux", "/etc/rc?.d/*hwclock*\n/etc/adjtime\n"),
    ("openssh-server", "/etc/ssh/sshd_config\n"),
    (
        "keyboard-configuration",
        "/etc/default/keyboard\n/etc/console-setup/**\n/var/cache/debconf/**\n",
    ),
    ("login", "/etc/pam.d/login\n"),
    ("gdm3", "/etc/gdm3/daemon.conf\n"),
    ("sddm", "/etc/sddm.conf\n"),
    ("kdm", "/etc/kde4/kdm/kdmrc\n"),
    ("lightdm", "/etc/lightdm/lightdm.conf\n"),
    ("lxdm", "/etc/lxdm/lxdm.conf\n"),
    ("nodm", "/etc/default/nodm\n/var/cache/debconf/**\n"),
    ("slim", "/etc/slim.conf\n"),
    ("xinit", "/etc/profile.d/zz-live-config_xinit.sh\n"),
    (
        "policykit",
        "/etc/PolicyKit/PolicyKit.conf\n/var/lib/polkit-1/localauthority/10-vendor.d/10-live-cd.pkla\n",
    ),
    (
        "ssl-cert",
        "/etc/ssl/certs/ssl-cert-snakeoil.pem\n/etc/ssl/private/ssl-cert-snakeoil.key\n",
    ),
    ("anacron", "/etc/crontab\n"),
    (
        "xserver-xorg",
        "/etc/X11/xorg.conf\n/etc/X11/xorg.conf.d/zz-live-config_xserver-xorg.conf\n/var/cache/debconf/**\n",
    ),
];

/// Directory of live-config's stamps, relative to the root.
pub const LIVE_STAMPS: &str = "var/lib/live/config";
