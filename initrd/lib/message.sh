# shellcheck shell=sh
# How the initramfs speaks: to the kernel log (which the journal takes over later), and to
# the console when somebody has to read it. lf_step is the sentence that a failure repeats.
#
# shellcheck disable=SC2034  # variables are shared with the files named above

lf_step="starting"

lf_info() { echo "<6>layerfs: $*" > /dev/kmsg 2> /dev/null || :; }
lf_warn() { echo "<4>layerfs: $*" > /dev/kmsg 2> /dev/null || :; }

# lf_say TEXT: on the console, whatever `quiet` says.
lf_say() { printf '\rlayerfs: %s\r\n' "$*" > /dev/console 2> /dev/null || :; }

# lf_doing TEXT: the step that begins.
lf_doing() { lf_step=$*; lf_info "$*"; }

# lf_log: what the daemon and the steps wrote, for a failure message.
lf_log() { dmesg 2> /dev/null | grep 'layerfs' | tail -n "${1:-12}"; }
