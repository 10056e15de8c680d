# shellcheck shell=sh
# Messages of the initramfs: to the kernel log (which the journal reads later), and to the console
# if a user must read them. lf_step is the current step, which a failure message repeats.
#
# shellcheck disable=SC2034  # variables are shared with the files named above

lf_step="starting"

lf_info() { echo "<6>layerfs: $*" > /dev/kmsg 2> /dev/null || :; }
lf_warn() { echo "<4>layerfs: $*" > /dev/kmsg 2> /dev/null || :; }

# lf_say TEXT: prints on the console, even with `quiet`.
lf_say() { printf '\rlayerfs: %s\r\n' "$*" > /dev/console 2> /dev/null || :; }

# lf_doing TEXT: sets the current step.
lf_doing() { lf_step=$*; lf_info "$*"; }

# lf_log: the output of the daemon and of the steps, for a failure message.
lf_log() { dmesg 2> /dev/null | grep 'layerfs' | tail -n "${1:-12}"; }
